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
ema = optim.EMA(net.parameters(), 0.9)
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
        {"truncate": content[:-5], "flip": content, "empty": b"", "text": b"hello world"}[damage]
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


def test_evaluate_keeps_the_mode() -> None:
    net, _, xy = tiny()
    row = train.evaluate(net, xy, nn.CrossEntropyLoss())
    assert net.training and 0 <= row["accuracy"] <= 1
    with pytest.raises(st.ShapeError, match="no data"):
        train.evaluate(net, (xy[0][:0], xy[1][:0]), nn.CrossEntropyLoss())


def test_data_order_does_not_depend_on_the_loader_object() -> None:
    one, two = (data.DataLoader(data.digits(), 64, shuffle=True, seed=1) for _ in range(2))
    np.testing.assert_array_equal(one.order(3), two.order(3))
