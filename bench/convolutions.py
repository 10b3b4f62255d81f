"""Who computes a convolution, and how: striate and its peers, in all three directions.

Operands are x [N, C, *I], w and g [N, K, *O] in memory as NumPy has them; a peer that prefers
another order of axes gets its operands in that order beforehand. Engines that take models know the
filter beforehand too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from numpy.typing import NDArray

import striate as st
from bench.engines import ncnn_layer, need, onnx_of_layer, onnxruntime, openvino
from bench.layers import Layer
from bench.timing import OURS, Case, Contender

Call = Callable[[], Any]
TOLERANCE = {"float32": 1e-4, "float64": 1e-12}


def cases(layers: list[Layer], directions: tuple[str, ...], threads: int) -> Iterator[Case]:
    """One case per layer and direction."""
    for direction in directions:
        for layer in layers:
            group = f"{layer.table} {direction.replace('_', ' ')}, batch {layer.batch}"
            yield Case(
                group,
                layer.text,
                list(_contenders(layer, direction, threads)),
                TOLERANCE[layer.dtype],
                2.0 * layer.macs,
                layer.nbytes,
                layer.count,
            )


def _contenders(layer: Layer, direction: str, threads: int) -> Iterator[Contender]:
    yield Contender(OURS, lambda: _striate(layer, direction))
    yield Contender("torch", lambda: _torch(layer, direction, False), _from_torch)
    if layer.ndim > 1:
        yield Contender("torch channels_last", lambda: _torch(layer, direction, True), _from_torch)
    if direction == "forward":
        plain = layer.ndim == 2 and layer.dtype == "float32" and not layer.transposed
        if plain:
            yield Contender("torch prepacked", lambda: _torch_prepacked(layer), _from_torch)
        for name, engine in (("onnxruntime", onnxruntime), ("openvino", openvino)):
            yield Contender(name, lambda engine=engine: _engine(layer, engine, threads))  # type: ignore[misc]
        if plain and layer.batch == 1:
            yield Contender("ncnn", lambda: _ncnn(layer, threads))
    yield Contender("jax", lambda: _jax(layer, direction))


# ---- striate -------------------------------------------------------------------------------


def _striate(layer: Layer, direction: str) -> Call:
    x, w, g = (st.asarray(a) for a in layer.operands())
    arguments = layer.arguments()
    conv = st.conv_transpose if layer.transposed else st.conv

    def forward(x: st.Array, w: st.Array) -> st.Array:
        return conv(x, w, **arguments)

    def input_gradient(g: st.Array, w: st.Array) -> Any:
        at = st.zeros(layer.x_shape, layer.dtype)  # linear: where it is taken does not matter
        return st.vjp(lambda x: forward(x, w), at)[1](g)[0]

    def weight_gradient(g: st.Array, x: st.Array) -> Any:
        at = st.zeros(layer.w_shape, layer.dtype)
        return st.vjp(lambda w: forward(x, w), at)[1](g)[0]

    if direction == "forward":
        return _on(st.jit(forward), x, w)
    if direction == "input_gradient":
        return _on(st.jit(input_gradient), g, w)
    return _on(st.jit(weight_gradient), g, x)


def _on(f: Callable[..., Any], *args: Any) -> Call:
    return lambda: f(*args)


# ---- PyTorch -------------------------------------------------------------------------------


def _from_torch(y: Any) -> NDArray[Any]:
    out: NDArray[Any] = y.detach().contiguous().numpy()
    return out


def _torch(layer: Layer, direction: str, channels_last: bool) -> Call:
    torch = need("torch")
    formats = {2: torch.channels_last, 3: torch.channels_last_3d}
    x, w, g = (torch.from_numpy(a) for a in layer.operands())
    if channels_last:
        x, w, g = (a.contiguous(memory_format=formats[layer.ndim]) for a in (x, w, g))
    geometry = (
        layer.stride, layer.padding, layer.dilation, layer.transposed, layer.output_padding,
        layer.groups,
    )  # fmt: skip
    if direction == "forward":

        def forward() -> Any:
            with torch.no_grad():
                return torch.convolution(x, w, None, *geometry)

        return forward
    mask = [direction == "input_gradient", direction == "weight_gradient", False]

    def backward() -> Any:
        return torch.ops.aten.convolution_backward(g, x, w, None, *geometry, mask)[mask.index(True)]

    return backward


def _torch_prepacked(layer: Layer) -> Call:
    """What torch.compile does with frozen weights: oneDNN's own order of the filter."""
    torch = need("torch")
    x, w, _ = (torch.from_numpy(a) for a in layer.operands())
    x = x.contiguous(memory_format=torch.channels_last)
    geometry = (layer.padding, layer.stride, layer.dilation, layer.groups)
    packed = torch._C._nn.mkldnn_reorder_conv2d_weight(w.to_mkldnn(), *geometry, layer.x_shape)

    def call() -> Any:
        with torch.no_grad():
            return torch.ops.mkldnn._convolution_pointwise(
                x, packed, None, *geometry, "none", [], ""
            )

    return call


# ---- engines -------------------------------------------------------------------------------


def _engine(layer: Layer, engine: Callable[..., Call], threads: int) -> Call:
    x, w, _ = layer.operands()
    return engine(onnx_of_layer(layer, w), x, threads)


def _ncnn(layer: Layer, threads: int) -> Call:
    x, w, _ = layer.operands()
    return ncnn_layer(layer, w, x, threads)


# ---- JAX -----------------------------------------------------------------------------------


def _jax(layer: Layer, direction: str) -> Call:
    jax = need("jax")
    jax.config.update("jax_enable_x64", layer.dtype == "float64")
    axes = "DHW"[-layer.ndim :]
    names = (f"NC{axes}", f"OI{axes}", f"NC{axes}")
    x, w, g = (jax.numpy.asarray(a) for a in layer.operands())

    def direct(x: Any, w: Any) -> Any:
        return jax.lax.conv_general_dilated(
            x, w, layer.stride, [(p, p) for p in layer.padding],
            rhs_dilation=layer.dilation, dimension_numbers=names,
            feature_group_count=layer.groups,
        )  # fmt: skip

    def adjoint(x: Any, w: Any) -> Any:
        """By w as the filter of a convolution from K to C channels."""
        y = jax.ShapeDtypeStruct(layer.y_shape, x.dtype)
        return jax.linear_transpose(lambda y: direct(y, w), y)(x)[0]

    f = adjoint if layer.transposed else direct
    if direction == "forward":
        call = _on(jax.jit(f), x, w)
    elif direction == "input_gradient":
        call = _on(jax.jit(lambda g, w: jax.vjp(lambda x: f(x, w), x)[1](g)[0]), g, w)
    else:
        call = _on(jax.jit(lambda g, x: jax.vjp(lambda w: f(x, w), w)[1](g)[0]), g, x)
    return lambda: jax.block_until_ready(call())
