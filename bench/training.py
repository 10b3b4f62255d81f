"""Who makes a training step: cross entropy, forward, backward, SGD with momentum.

What is compared is the loss and the gradients of the first step, which the momentum buffers hold,
with those in float64: through fifty normalised layers rounding grows, and flips some ReLUs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

import striate as st
from bench.engines import need
from bench.inference import flops, memory_format
from bench.networks import (
    Network,
    Weights,
    striate_kit,
    striate_network,
    torch_network,
    weights,
)
from bench.timing import OURS, Case, Contender
from striate import nn, optim

Step = Callable[[], Any]
RATE, MOMENTUM = 1e-4, 0.9  # small: the same batch again and again must not blow up
TOLERANCE = 1e-3


def cases(networks: dict[str, Network], compiled: bool) -> Iterator[Case]:
    """One case per network and batch; `compiled` has torch.compile among the peers."""
    for name, network in networks.items():
        values = weights(network.build(striate_kit()))
        for batch in network.train_batches:
            yield Case(
                "training step",
                f"{name}, batch {batch}",
                list(_contenders(network, values, batch, compiled)),
                TOLERANCE,
                3 * flops(network, values, batch),  # forward, and two gradients
                reference=partial(in_float64, network, values, batch),
            )


def _contenders(
    network: Network, values: Weights, batch: int, compiled: bool
) -> Iterator[Contender]:
    yield contender(OURS, lambda: striate_step(network, batch))
    yield contender("torch", lambda: torch_step(network, values, batch, False))
    yield contender("torch channels_last", lambda: torch_step(network, values, batch, True))
    if compiled:
        yield contender(
            "torch.compile", lambda: torch_step(network, values, batch, True, "inductor")
        )


def contender(name: str, make: Callable[[], tuple[Step, Callable[[], NDArray[Any]]]]) -> Contender:
    """A step as a contender. The first call is a step; its gradients are the result."""
    gradients: list[Callable[[], NDArray[Any]]] = []

    def prepare() -> Step:
        step, first = make()
        gradients.append(first)
        return step

    return Contender(name, prepare, lambda loss: np.append(gradients.pop()(), np.float32(loss)))


def striate_step(network: Network, batch: int) -> tuple[Step, Callable[[], NDArray[Any]]]:
    """(a step that returns its loss, the gradients of the first)."""
    net = striate_network(network).train()
    optimizer = optim.SGD(net.parameters(), lr=RATE, momentum=MOMENTUM)
    run = st.train_step(net, nn.CrossEntropyLoss(), optimizer)
    x, y = st.asarray(network.x(batch)), st.asarray(network.labels(batch))

    def gradients() -> NDArray[Any]:
        return np.concatenate([s["momentum_buffer"].numpy().ravel() for s in optimizer.state])

    return lambda: run(x, y).item(), gradients


def in_float64(network: Network, values: Weights, batch: int) -> NDArray[Any]:
    """Loss and gradients of the first step by PyTorch in float64."""
    step, gradients = torch_step(network, values, batch, False, double=True)
    loss = step()
    return np.append(gradients(), loss)


def torch_step(
    network: Network,
    values: Weights,
    batch: int,
    channels_last: bool,
    backend: Any = None,
    double: bool = False,
) -> tuple[Step, Callable[[], NDArray[Any]]]:
    """The same in PyTorch, compiled if `backend` says by what."""
    torch = need("torch")
    net = torch_network(network, values).train()
    x, y = torch.from_numpy(network.x(batch)), torch.from_numpy(network.labels(batch))
    if double:
        net, x = net.double(), x.double()
    if channels_last:
        form = memory_format(network)
        net, x = net.to(memory_format=form), x.contiguous(memory_format=form)
    optimizer = torch.optim.SGD(net.parameters(), lr=RATE, momentum=MOMENTUM, fused=True)
    criterion = torch.nn.CrossEntropyLoss()
    if backend is not None:
        torch._dynamo.reset()
    run = net if backend is None else torch.compile(net, backend=backend)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = criterion(run(x), y)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    def gradients() -> NDArray[Any]:
        buffers = [optimizer.state[p]["momentum_buffer"] for p in net.parameters()]
        return np.concatenate([b.contiguous().numpy().ravel() for b in buffers])

    return step, gradients
