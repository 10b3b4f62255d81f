"""The same networks of PyTorch: eager, by `torch.compile` as it is, and by our backend for it.

For inference both compilers may take the weights for constants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import inference, training
from bench.engines import need
from bench.networks import Network, Weights, striate_kit, torch_network, weights
from bench.timing import OURS, Case, Contender


def cases(networks: dict[str, Network], compiled: bool) -> Iterator[Case]:
    """Inference at batch 1 and a training step per network; `compiled` has Inductor as a peer."""
    for name, network in networks.items():
        values = weights(network.build(striate_kit()))
        x = network.x(1)
        calls = [
            Contender(OURS, partial(_forward, network, values, x, _backend), _numpy),
            Contender("torch", partial(_forward, network, values, x, lambda: None), _numpy),
        ]
        if compiled:
            inductor = partial(_forward, network, values, x, lambda: "inductor")
            calls.append(Contender("torch.compile", inductor, _numpy))
        multiplications = inference.flops(network, values, 1)
        yield Case("torch inference", name, calls, inference.TOLERANCE, multiplications)
        batch = network.train_batches[0]
        make = partial(training.torch_step, network, values, batch, False)
        steps = [
            training.contender(OURS, lambda make=make: make(backend=_backend())),
            training.contender("torch", make),
        ]
        if compiled:
            steps.append(training.contender("torch.compile", partial(make, backend="inductor")))
        yield Case(
            "torch training step",
            f"{name}, batch {batch}",
            steps,
            training.TOLERANCE,
            3 * inference.flops(network, values, batch),
            reference=partial(training.in_float64, network, values, batch),
        )


def _backend() -> Any:
    need("torch")
    return need("striate.torch_backend").backend


def _numpy(y: Any) -> NDArray[Any]:
    return np.asarray(y.detach().contiguous().numpy())


def _forward(
    network: Network, values: Weights, x: NDArray[Any], backend: Callable[[], Any]
) -> Callable[[], Any]:
    torch = need("torch")
    net, given = torch_network(network, values).eval(), torch.from_numpy(x)
    torch._dynamo.reset()
    chosen = backend()
    options = {"freeze": True} if callable(chosen) else {"freezing": True}
    run = net if chosen is None else torch.compile(net, backend=chosen, options=options)

    def call() -> Any:
        with torch.no_grad():
            return run(given)

    return call
