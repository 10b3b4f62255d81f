"""Who runs a network forward, in evaluation mode: striate and its peers in their best form."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from numpy.typing import NDArray

import striate as st
from bench.engines import ncnn_network, need, onnx_of_network, onnxruntime, openvino
from bench.networks import Network, Weights, striate_kit, striate_network, torch_network, weights
from bench.timing import OURS, Case, Contender

Call = Callable[[], Any]
TOLERANCE = 1e-3  # of float32 through fifty layers, Winograd included


def cases(
    networks: dict[str, Network], batches: tuple[int, ...], threads: int, compiled: bool
) -> Iterator[Case]:
    """One case per network and batch; `compiled` has torch.compile among the peers."""
    for name, network in networks.items():
        values = weights(network.build(striate_kit()))
        exported = cache(lambda network=network, values=values: _export(network, values))  # type: ignore[misc]
        for batch in batches:
            yield Case(
                f"inference, batch {batch}",
                name,
                list(_contenders(network, values, batch, threads, compiled, exported)),
                TOLERANCE,
                flops(network, values, batch),
            )


def _export(network: Network, values: Weights) -> bytes:
    """ONNX of one sample."""
    torch = need("torch")
    net = torch_network(network, values).eval()
    return onnx_of_network(net, torch.from_numpy(network.x(1)))


def _contenders(
    network: Network,
    values: Weights,
    batch: int,
    threads: int,
    compiled: bool,
    exported: Callable[[], bytes],
) -> Iterator[Contender]:
    x = network.x(batch)
    yield Contender(OURS, lambda: _striate(network, x))
    yield Contender("torch", lambda: _torch(network, values, x, False), _from_torch)
    yield Contender("torch channels_last", lambda: _torch(network, values, x, True), _from_torch)
    if compiled:
        yield Contender("torch.compile", lambda: _compiled(network, values, x), _from_torch)
    if batch == 1:
        yield Contender("onnxruntime", lambda: onnxruntime(exported(), x, threads))
        yield Contender("openvino", lambda: openvino(exported(), x, threads))
        yield Contender("ncnn", lambda: _ncnn(network, values, x, threads))


def _from_torch(y: Any) -> NDArray[Any]:
    out: NDArray[Any] = y.detach().contiguous().numpy()
    return out


def _striate(network: Network, x: NDArray[Any]) -> Call:
    run = st.jit(striate_network(network).eval())
    given = st.asarray(x)
    return lambda: run(given)


def memory_format(network: Network) -> Any:
    """PyTorch's channels-last, for the number of spatial axes."""
    torch = need("torch")
    return torch.channels_last if len(network.input) == 3 else torch.channels_last_3d


def _torch(network: Network, values: Weights, x: NDArray[Any], channels_last: bool) -> Call:
    torch = need("torch")
    net, given = torch_network(network, values).eval(), torch.from_numpy(x)
    if channels_last:
        form = memory_format(network)
        net, given = net.to(memory_format=form), given.contiguous(memory_format=form)

    def call() -> Any:
        with torch.inference_mode():
            return net(given)

    return call


def _compiled(network: Network, values: Weights, x: NDArray[Any]) -> Call:
    """torch.compile with frozen weights."""
    torch = need("torch")
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    inductor = need("torch._inductor.config")
    net = torch_network(network, values).eval()
    given = torch.from_numpy(x)
    torch._dynamo.reset()
    with inductor.patch(freezing=True), torch.no_grad():
        run = torch.compile(net)
        run(given)

    def call() -> Any:
        with torch.no_grad():
            return run(given)

    return call


def _ncnn(network: Network, values: Weights, x: NDArray[Any], threads: int) -> Call:
    torch = need("torch")
    return ncnn_network(torch_network(network, values).eval(), torch.from_numpy(x), threads)


def flops(network: Network, values: Weights, batch: int) -> float:
    """Operations of a forward pass, as PyTorch counts them (padding included); 0 without it."""
    try:
        torch, counter = need("torch"), need("torch.utils.flop_counter")
        net = torch_network(network, values).eval().to("meta")
        x = torch.empty((max(batch, 1), *network.input), device="meta")
        with counter.FlopCounterMode(display=False) as count:
            net(x)
        return float(count.get_total_flops())
    except Exception:
        return 0.0
