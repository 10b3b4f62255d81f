"""The command line, as a user types it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from striate import data
from striate.cli import main


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    assert main(["train", "digits", "--epochs", "3", "--out", str(out)]) == 0
    return out


def test_train_writes_what_it_says(trained: Path) -> None:
    names = {p.name for p in trained.iterdir()}
    assert {"model.safetensors", "last.safetensors", "best.safetensors", "metrics.csv"} <= names


def test_eval(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(trained / "model.safetensors"), "digits"]) == 0
    assert float(capsys.readouterr().out.split()[1].rstrip("%")) > 90


def test_predict(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, labels = data.digits("test").take(np.arange(20))
    paths = []
    for i, image in enumerate(images):
        paths.append(str(tmp_path / f"{i}.png"))
        Image.fromarray((image[0] * 255.0 / 16).astype(np.uint8)).save(paths[-1])
    assert main(["predict", str(trained / "model.safetensors"), *paths, "--top", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    guess = [int(line.split(": ")[1].split()[0]) for line in lines]
    assert (np.array(guess) == labels).mean() > 0.8


def test_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for name, level in (("dark", 40), ("light", 200)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(15):
            pixels = rng.normal(level, 20, (20, 24, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i}.png")
    out = str(tmp_path / "out")
    call = ["train", "folder", "--data", str(tmp_path / "photos"), "--size", "16", "--out", out]
    assert main([*call, "--epochs", "4", "--batch-size", "8"]) == 0
    picture = str(tmp_path / "photos" / "light" / "3.png")
    assert main(["predict", f"{out}/model.safetensors", picture]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split(": ")[1].startswith("light")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (["train", "mnist"], "--data DIR"),
        (["train", "mnist", "--data", "nowhere"], "nowhere"),
        (["eval", "nowhere.safetensors", "digits"], "nowhere.safetensors"),
        (["predict", __file__, "x.png"], "safetensors"),
    ],
)
def test_errors_are_one_line(
    call: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(call) == 1
    err = capsys.readouterr().err
    assert message in err and "Traceback" not in err and len(err.splitlines()) <= 2


@pytest.mark.parametrize("call", [[], ["train"], ["train", "digits", "--epochs", "0"], ["fly"]])
def test_wrong_calls(call: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(call)
    assert stop.value.code == 2


def test_not_an_image(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.png").write_bytes(b"no picture")
    assert main(["predict", str(trained / "model.safetensors"), str(tmp_path / "x.png")]) == 1
    assert "x.png" in capsys.readouterr().err


def test_help_of_the_process() -> None:
    for arguments in (["--help"], ["train", "--help"], ["--version"]):
        done = subprocess.run(
            [sys.executable, "-m", "striate.cli", *arguments],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert "striate" in done.stdout
