"""The loop: it learns, it resumes to the byte, its files are whole."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import striate as st
from striate import data, nn, optim, train

PROGRAM = """
import sys
import numpy as np
import striate as st
from striate import data, nn, optim, train

st.random.seed(3)
net = nn.Sequential(
    nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3),
    nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 10),
)
augment = data.Compose([data.ToFloat(16), data.RandomAffine(degrees=10, translate=(0.1, 0.1))])
loader = data.DataLoader(data.digits("train"), 64, shuffle=True, seed=5, transform=augment)
optimizer = optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
schedule = optim.OneCycleLR(optimizer, max_lr=0.2, total_steps=3 * len(loader))
ema = optim.EMA(net, 0.9)
train.fit(
    net, loader, loss=nn.CrossEntropyLoss(), optimizer=optimizer, schedule=schedule, ema=ema,
    epochs=3, validation=data.DataLoader(data.digits("test"), 256, transform=data.ToFloat(16)),
    out=sys.argv[1], resume=True, save_every=4,
)
"""


def arrays(folder: Path) -> dict[str, Any]:
    found, meta = train.load(folder / "last.safetensors")
    assert meta["epoch"] == 3 and meta["batch"] == 0
    return {k: v.tobytes() for k, v in found.items()} | {"rows": strip(meta["rows"])}


def strip(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in r.items() if k != "seconds"} for r in rows]


def run(folder: Path, kill_after: float | None = None) -> int:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder)], stderr=subprocess.DEVNULL
    )
    if kill_after is not None:
        deadline = time.monotonic() + 60
        while not (folder / "last.safetensors").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(kill_after)
        process.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    return process.wait(120)


def test_a_killed_run_resumes_to_the_byte(tmp_path: Path) -> None:
    assert run(tmp_path / "whole") == 0
    want = arrays(tmp_path / "whole")
    for delay in (0.05, 0.3, 0.6):
        run(tmp_path / "killed", kill_after=delay)
    assert run(tmp_path / "killed") == 0
    assert arrays(tmp_path / "killed") == want


def tiny() -> tuple[nn.Module, optim.Optimizer, tuple[Any, Any]]:
    st.random.seed(0)
    net = nn.Linear(4, 3)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(48, 4)).astype(np.float32)
    y = (x @ rng.normal(size=(4, 3))).argmax(1).astype(np.int64)
    return net, optim.Adam(net.parameters(), lr=0.05), (x, y)


def test_metrics_history_and_early_stop(tmp_path: Path) -> None:
    net, optimizer, xy = tiny()
    seen: list[dict[str, Any]] = []
    history = train.fit(
        net, xy, loss=nn.CrossEntropyLoss(), optimizer=optimizer, epochs=4, batch_size=16,
        validation=xy, out=tmp_path, callbacks=[seen.append], progress=False,
    )  # fmt: skip
    assert [r["epoch"] for r in history.rows] == [1, 2, 3, 4] and seen == history.rows
    assert history.rows[-1]["val_loss"] < history.rows[0]["val_loss"]
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == history.rows
    assert (tmp_path / "metrics.csv").read_text().splitlines()[0].startswith("epoch,loss,val_loss")
    optimizer.lr = 0.0
    stopped = train.fit(
        net, xy, loss=nn.CrossEntropyLoss(), optimizer=optimizer, epochs=9, validation=xy,
        early_stop=2, progress=False,
    )  # fmt: skip
    assert stopped.stopped == "early stop" and len(stopped.rows) == 3


def trained(compiled: bool) -> list[bytes]:
    """The weights after five steps, as bytes."""
    net, optimizer, (x, y) = tiny()
    loss = nn.CrossEntropyLoss()
    step = train.train_step(net, loss, optimizer)
    params = list(net.parameters())
    for _ in range(5):
        if compiled:
            step(x, y)
        else:
            optimizer.update(st.gradients(lambda: loss(net(st.asarray(x)), y), params)[1])
    return [p.numpy().tobytes() for p in params]


def test_the_step_is_the_eager_step() -> None:
    assert trained(compiled=False) == trained(compiled=True)


def test_frozen_parameters_stay() -> None:
    net, _, (x, y) = tiny()
    net.bias.requires_grad = False
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    before = net.bias.numpy().copy()
    weight = net.weight.numpy().copy()
    train.train_step(net, nn.CrossEntropyLoss(), optimizer)(x, y)
    np.testing.assert_array_equal(net.bias.numpy(), before)
    assert (net.weight.numpy() != weight).any()


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "text"])
def test_damaged_checkpoints(tmp_path: Path, damage: str) -> None:
    path = train.save(tmp_path / "x.safetensors", {"a": np.arange(9.0)}, {"k": [1, "two"]})
    found, meta = train.load(path)
    np.testing.assert_array_equal(found["a"], np.arange(9.0))
    assert meta == {"k": [1, "two"]}
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[-3] ^= 1
    path.write_bytes(
        {
            "truncate": bytes(content[:-5]),
            "flip": bytes(content),
            "empty": b"",
            "text": b"hello world",
        }[damage]
    )
    with pytest.raises(train.CheckpointError, match=r"checkpoint: .*x\.safetensors"):
        train.load(path)


def test_resume_of_another_network_changes_nothing(tmp_path: Path) -> None:
    net, optimizer, xy = tiny()
    loss = nn.CrossEntropyLoss()
    train.fit(net, xy, loss=loss, optimizer=optimizer, epochs=1, out=tmp_path, progress=False)
    other = nn.Linear(4, 2)
    with pytest.raises(st.StriateError, match="mismatched"):
        train.fit(
            other, xy, loss=loss, optimizer=optim.Adam(other.parameters()), epochs=2,
            out=tmp_path, resume=True, progress=False,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("batch_size was 16, is 24, batches was 3, is 2", {"batch_size": 24}),
        ("seed was 0, is 1", {"seed": 1}),
        ("schedule was 'StepLR per batch', is 'StepLR per epoch'", {"schedule_per": "epoch"}),
        ("schedule was 'StepLR per batch', is None", {"schedule": None}),
    ],
)
def test_resume_of_another_run_changes_nothing(
    tmp_path: Path, key: str, change: dict[str, Any]
) -> None:
    net, optimizer, xy = tiny()
    options: dict[str, Any] = {
        "loss": nn.CrossEntropyLoss(), "optimizer": optimizer, "out": tmp_path, "progress": False,
        "schedule": optim.StepLR(optimizer, 2), "batch_size": 16,
    }  # fmt: skip
    train.fit(net, xy, epochs=1, **options)
    net.weight.assign(st.zeros((3, 4)))
    with pytest.raises(st.StriateError, match=f"another run: {key}"):
        train.fit(net, xy, epochs=2, resume=True, **{**options, **change})
    assert not net.weight.numpy().any()


def test_a_schedule_steps_per_batch_or_per_epoch() -> None:
    rates = {}
    for per in ("batch", "epoch"):
        net, optimizer, xy = tiny()
        history = train.fit(
            net, xy, loss=nn.CrossEntropyLoss(), optimizer=optimizer, epochs=2, batch_size=16,
            schedule=optim.StepLR(optimizer, 1, 0.5), schedule_per=per, progress=False,
        )  # fmt: skip
        rates[per] = [r["lr"] for r in history.rows], optimizer.lr
    assert rates["batch"] == ([0.05 / 8, 0.05 / 64], 0.05 / 64)
    assert rates["epoch"] == ([0.05, 0.025], 0.0125)
    with pytest.raises(st.ShapeError, match="schedule_per must be"):
        train.fit(
            net, xy, loss=nn.CrossEntropyLoss(), optimizer=optimizer, epochs=1,
            schedule_per="step",  # type: ignore[arg-type]
        )  # fmt: skip


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    one = {"b": np.arange(3.0), "a": np.ones(2, np.float32)}
    two = dict(reversed(one.items()))
    written = {
        train.save(tmp_path / f"{i}.safetensors", content, {"x": 1, "y": 2}).read_bytes()
        for i, content in enumerate([one, two] * 5)
    }
    assert len(written) == 1


def test_what_killed_writers_left_is_removed(tmp_path: Path) -> None:
    net, optimizer, xy = tiny()
    stale = [tmp_path / ".last.safetensors.k3jd8s_a.part", tmp_path / ".metrics.csv.abcdefgh.part"]
    others = [tmp_path / ".metrics.csv.swp", tmp_path / "notes.part"]
    for path in (*stale, *others):
        path.touch()
    train.fit(
        net, xy, loss=nn.CrossEntropyLoss(), optimizer=optimizer, epochs=1, out=tmp_path,
        progress=False,
    )  # fmt: skip
    assert not any(p.exists() for p in stale) and all(p.exists() for p in others)
    assert not list(tmp_path.glob("*safetensors*.part"))


def test_frozen_normalisation_stays_frozen() -> None:
    _, _, xy = tiny()
    net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    norm = net[1]
    options: dict[str, Any] = {"loss": nn.CrossEntropyLoss(), "epochs": 2, "progress": False}
    norm.eval()
    train.fit(net, xy, optimizer=optim.SGD(net.parameters()), validation=xy, **options)
    assert net.training and not norm.training and norm.num_batches_tracked.item() == 0
    net.eval()
    train.fit(net, xy, optimizer=optim.SGD(net.parameters()), validation=xy, **options)
    assert norm.training and norm.num_batches_tracked.item() == 2


def test_evaluate_keeps_the_mode() -> None:
    net, _, xy = tiny()
    net = nn.Sequential(net, nn.Dropout())
    net[1].eval()
    row = train.evaluate(net, xy, nn.CrossEntropyLoss())
    assert net.training and net[0].training and not net[1].training
    assert 0 <= row["accuracy"] <= 1
    with pytest.raises(st.ShapeError, match="no data"):
        train.evaluate(net, (xy[0][:0], xy[1][:0]), nn.CrossEntropyLoss())


def test_data_order_does_not_depend_on_the_loader_object() -> None:
    one, two = (data.DataLoader(data.digits(), 64, shuffle=True, seed=1) for _ in range(2))
    np.testing.assert_array_equal(one.order(3), two.order(3))
