"""Measurements that need a process of their own; `python -m bench.child ARGUMENTS` prints JSON.

    first LIBRARY NETWORK MODE BATCH    seconds from the built network to the first result
    sizes LIBRARY NETWORK COUNT         seconds of the first calls for so many image sizes
    memory LIBRARY NETWORK BATCH        bytes by which the process grows in three training steps
    overhead LIBRARY CALLS              seconds of one call of a tiny compiled function
    import                              seconds of `import striate`

LIBRARY is `striate`, `torch` or `torch.compile`; MODE is `inference` or `training`.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.threads import pin

clock = time.perf_counter


def _seconds(call: Callable[[], Any]) -> float:
    start = clock()
    call()
    return clock() - start


def first(library: str, name: str, mode: str, batch: int) -> dict[str, float]:
    """First call, second call, and first calls for another batch and image size."""
    prepare = _runner(library, name, mode)
    call = prepare(batch, 0)
    found = {"first": _seconds(call), "second": _seconds(call)}
    found["new batch"] = _seconds(prepare(batch + 1, 0))
    if name != "small":  # it has a fixed number of features
        found["new size"] = _seconds(prepare(batch, 32))
    return found


def sizes(library: str, name: str, count: int) -> dict[str, float]:
    """Inference of a network that has run, then on images of `count` other sizes."""
    prepare = _runner(library, name, "inference")
    prepare(1, 0)()
    calls = [prepare(1, more) for more in range(1, count + 1)]
    return {"seconds": _seconds(lambda: [call() for call in calls])}


def _runner(library: str, name: str, mode: str) -> Callable[[int, int], Callable[[], Any]]:
    """A function (batch, pixels more per axis) -> a call that computes a result."""
    import numpy as np

    from bench import networks

    network = networks.NETWORKS[name]

    def data(batch: int, more: int) -> tuple[Any, Any]:
        c, *size = network.input
        larger = replace(network, input=(c, *(n + more for n in size)))
        return larger.x(batch), larger.labels(batch)

    if library == "striate":
        import striate as st

        net = networks.striate_network(network).train(mode == "training")
        infer = st.jit(net)
        optimizer = st.optim.SGD(net.parameters(), lr=1e-4, momentum=0.9)
        train = st.train_step(net, st.nn.CrossEntropyLoss(), optimizer)

        def prepare(batch: int, more: int) -> Callable[[], Any]:
            x, y = (st.asarray(a) for a in data(batch, more))
            if mode == "inference":
                return lambda: infer(x).numpy()
            return lambda: train(x, y).item()

        return prepare

    import torch

    values = networks.weights(networks.striate_network(network))
    module = networks.torch_network(network, values).train(mode == "training")
    call = torch.compile(module) if library == "torch.compile" else module
    criterion = torch.nn.CrossEntropyLoss()
    sgd = torch.optim.SGD(module.parameters(), lr=1e-4, momentum=0.9, fused=True)

    def step(x: Any, y: Any) -> float:
        sgd.zero_grad(set_to_none=True)
        loss = criterion(call(x), y)
        loss.backward()
        sgd.step()
        return float(loss.item())

    def prepare_torch(batch: int, more: int) -> Callable[[], Any]:
        x, y = (torch.from_numpy(a) for a in data(batch, more))
        if mode == "training":
            return lambda: step(x, y)

        def infer() -> Any:
            with torch.no_grad():
                return np.asarray(call(x))

        return infer

    return prepare_torch


def _status(name: str) -> int:
    """Bytes of a line of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(x.split()[1]) for x in lines if x.startswith(name))


def memory(library: str, name: str, batch: int) -> dict[str, float]:
    """Bytes by which the process is larger, at its largest, than with all libraries loaded."""
    import striate as st  # noqa: F401  both pay for both

    if library != "striate":
        import torch  # noqa: F401
    linux = Path("/proc/self/clear_refs").exists()
    if linux:
        before = _status("VmRSS")
    else:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step = _runner(library, name, "training")(batch, 0)
    if linux:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    for _ in range(3):
        step()
    if linux:
        return {"bytes": float(_status("VmHWM") - before)}
    unit = 1 if sys.platform == "darwin" else 1024
    return {"bytes": float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit}


def overhead(library: str, calls: int) -> dict[str, float]:
    """Seconds of one call of x + 1 on 16 numbers: the least of many hundreds of calls."""
    import numpy as np

    x = np.ones(16, np.float32)
    if library == "striate":
        import striate as st

        run, given = st.jit(lambda x: x + 1), st.asarray(x)
    else:
        import torch

        def add(x: Any) -> Any:
            return x + 1

        run = torch.compile(add) if library == "torch.compile" else add  # type: ignore[assignment]
        given = torch.from_numpy(x)
    for _ in range(10):
        run(given)

    def some_calls() -> None:
        for _ in range(100):
            run(given)

    return {"seconds": min(_seconds(some_calls) for _ in range(calls // 100)) / 100}


def importing() -> dict[str, float]:
    """Seconds until the name `striate` is there; NumPy is not loaded before."""
    start = clock()
    import striate  # noqa: F401

    return {"seconds": clock() - start}


def main(arguments: list[str]) -> None:
    task, *rest = arguments
    words = [int(a) if a.isdigit() else a for a in rest]
    tasks: dict[str, Callable[..., dict[str, float]]] = {
        "first": first, "sizes": sizes, "memory": memory, "overhead": overhead, "import": importing,
    }  # fmt: skip
    print(json.dumps(tasks[task](*words)))


if __name__ == "__main__":
    pin(int(os.environ.get("BENCH_THREADS", "2")))
    main(sys.argv[1:])
