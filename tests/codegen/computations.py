"""Random small computations, by family of kernels: what tests of whole plans are made of.

`COMPUTATIONS[family](draw)` gives arrays whose values nobody has read yet: graphs of known inputs.
Sizes are such that vectors have remainders. What decides which kernels there are is drawn apart
from sizes and values, so that many sizes share them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from zlib import crc32

import numpy as np

import striate as st
from striate import nn, optim


class Draw:
    """Random choices: `kind` of what is computed, `size` of sizes and values."""

    def __init__(self, kind: int, size: int, family: str) -> None:
        number = crc32(family.encode())
        self.kind = np.random.default_rng([number, kind])
        self.size = np.random.default_rng([number, kind, size])

    def one_of(self, choices: Sequence[Any]) -> Any:
        """What is computed."""
        return choices[int(self.kind.integers(len(choices)))]

    def number(self, low: int, high: int) -> int:
        """Of what is computed: a rank, a stride."""
        return int(self.kind.integers(low, high))

    def extents(self, low: int, high: int, rank: int) -> tuple[int, ...]:
        """Sizes of axes."""
        return tuple(int(n) for n in self.size.integers(low, high, rank))


FLOATS = ("float32", "float32", "float64", "bfloat16")
INTEGERS = ("int8", "uint8", "int16", "int32", "int64")


def floats(d: Draw, shape: Sequence[int], dtype: str = "float32") -> st.Array:
    return st.asarray(d.size.standard_normal(shape).astype(np.float32)).astype(dtype)


def integers(
    d: Draw, shape: Sequence[int], dtype: str = "int64", low: int = -9, high: int = 9
) -> st.Array:
    low = 0 if dtype == "uint8" else low
    return st.asarray(d.size.integers(low, high, shape)).astype(dtype)


def sizes(d: Draw, rank: int, largest: int = 40) -> tuple[int, ...]:
    """Mostly odd sizes; a few are those at which whole vectors end."""
    choices = (1, 2, 8, 16, 32, *d.extents(1, largest, 5))
    return tuple(int(n) for n in d.size.choice(choices, rank))


def with_gradients(d: Draw, f: Callable[..., st.Array], *xs: st.Array) -> list[st.Array]:
    """f(*xs), and its gradients for a random cotangent."""
    y = f(*xs)
    weights = floats(d, y.shape).astype(y.dtype)
    _, found = st.gradients(lambda: (f(*xs) * weights).sum(), list(xs))
    return [y, *found]


def elementwise(d: Draw) -> list[st.Array]:
    shape = sizes(d, d.number(1, 4))
    dtype = d.one_of(FLOATS)
    x, y = floats(d, shape, dtype), floats(d, shape[-1:], dtype)
    z = st.permute_dims(floats(d, shape[::-1], dtype), range(len(shape))[::-1])
    return with_gradients(d, lambda x, y, z: st.where(x > y, x * z, st.tanh(y) - z), x, y, z)


def of_integers(d: Draw) -> list[st.Array]:
    shape = sizes(d, d.number(1, 4))
    x, y = (integers(d, shape, d.one_of(INTEGERS)) for _ in range(2))
    return [x + y, (x < y) | (y == 3), x.astype("float32") * 0.5, st.maximum(x, y).astype("bool")]


def views(d: Draw) -> list[st.Array]:
    shape = sizes(d, 3, 20)
    x = d.one_of((floats, integers))(d, shape, d.one_of(("float32", "int64")))
    start, step = d.extents(0, shape[2], 1)[0], d.one_of((-3, -1, 2, 3))
    a, b = x[:, ::-1, start::step], st.permute_dims(x, (2, 0, 1))
    c = st.concat([b, b[:, :, ::-1], b[:1]], axis=0)
    return [a + 1, b, c, st.roll(x, 3, 1), st.tile(x, (2, 1, 3)), b.reshape((-1,))]


def padding(d: Draw) -> list[st.Array]:
    shape = sizes(d, 3, 20)
    x = floats(d, shape, d.one_of(FLOATS))
    widths = [(d.number(0, 4), *d.extents(-n // 3, 4, 1)) for n in shape]
    y = st.pad(x, widths, "constant", float(d.number(0, 3)))
    return [y, y[..., ::2] * 2, st.full(y.shape, 2.5), st.eye(*shape[:2]) + 0]


def sums(d: Draw) -> list[st.Array]:
    shape = sizes(d, 3)
    axes = d.one_of((None, 0, 1, 2, (0, 1), (0, 2), (1, 2)))
    x, y = (floats(d, shape, d.one_of(FLOATS)) for _ in range(2))
    return [
        (x * y).sum(axis=axes), x.mean(axis=axes), st.var(x, axis=axes, keepdims=True),
        integers(d, shape, "int32").sum(axis=axes), (x > 0).sum(axis=axes),
    ]  # fmt: skip


def extremes(d: Draw) -> list[st.Array]:
    shape = sizes(d, 3, 20)
    axis = d.number(0, 3)
    x = d.one_of((floats, integers))(d, shape, d.one_of(("float32", "int32")))
    return [x.max(axis=axis), st.argmin(x, axis), st.argmax(x), x.min(), st.any(x > 1, axis)]


def softmaxes(d: Draw) -> list[st.Array]:
    x = floats(d, sizes(d, 3), d.one_of(("float32", "float64")))
    axis = d.number(0, 3)
    return [*with_gradients(d, lambda x: st.softmax(x, axis), x), st.logsumexp(x, axis=axis)]


def indexing(d: Draw) -> list[st.Array]:
    shape = sizes(d, 3, 20)
    axis = d.number(0, 3)
    x = floats(d, shape, d.one_of(("float32", "float64")))
    kind = d.one_of(("int32", "int64"))
    count = d.number(1, 20)
    index = integers(d, (count,), kind, -shape[axis], shape[axis])
    along = list(shape)
    along[axis] = count
    wide = integers(d, along, kind, 0, shape[axis])
    return [
        *with_gradients(d, lambda x: st.take(x, index, axis), x),
        *with_gradients(d, lambda x: st.take_along_axis(x, wide, axis), x),
        st.one_hot(integers(d, shape[:2], kind, 0, 7), 7),
    ]


def randoms(d: Draw) -> list[st.Array]:
    shape = sizes(d, 3, 20)
    st.random.seed(d.number(0, 1 << 30))
    kind = d.one_of(("float32", "float64"))
    return [st.random.uniform(shape, dtype=kind), st.dropout(floats(d, shape), 0.3)]


def _image(d: Draw, channels: int, axes: int, dtype: str = "float32") -> st.Array:
    largest = (0, 70, 24, 10)[axes]
    spatial = d.extents(5, largest, axes)
    return floats(d, (d.number(1, 4), channels, *spatial), dtype)


def _convolution(
    d: Draw, channels: Sequence[int], axes: int, dtype: str, groups: int = 1, **more: Any
) -> list[st.Array]:
    c, k = channels
    x = _image(d, c, axes, dtype)
    kernel = tuple(d.number(1, 4) for _ in range(axes))
    w = floats(d, (k, c // groups, *kernel), dtype)
    more = {"padding": d.number(0, 3), **more}
    return with_gradients(d, lambda x, w: st.conv(x, w, groups=groups, **more), x, w)


def dense(d: Draw) -> list[st.Array]:
    channels = d.one_of(((3, 16), (16, 16), (16, 32), (5, 7), (32, 24), (8, 1)))
    stride = d.number(1, 3)
    dtype = d.one_of(FLOATS)
    return _convolution(d, channels, d.number(1, 4), dtype, stride=stride)


def tiled(d: Draw) -> list[st.Array]:
    """Layers that Winograd's algorithms do: dense, with many channels and small windows."""
    c, k = d.one_of(((32, 32), (64, 32), (16, 64)))
    axes, window = d.one_of(((1, 3), (2, 3), (2, 3), (2, 5), (3, 3)))
    x = floats(d, (*d.extents(1, 4, 1), c, *d.extents(5, (0, 90, 40, 9)[axes], axes)))
    w, b = floats(d, (k, c, *[window] * axes)), floats(d, (k,))
    return with_gradients(d, lambda x, w, b: st.silu(st.conv(x, w, b, padding=1)), x, w, b)


def stepped(d: Draw) -> list[st.Array]:
    """Layers that Winograd's algorithms do by phases: strided, dilated, transposed, of groups."""
    more = d.one_of(
        ({"stride": 2}, {"dilation": 2}, {"stride": 2, "dilation": 3}, {"groups": 2})
    )  # fmt: skip
    conv, k = d.one_of((st.conv, st.conv_transpose)), d.one_of((3, 4))
    groups, dtype = more.get("groups", 1), d.one_of(("float32", "float32", "float64", "bfloat16"))
    x = floats(d, (d.number(1, 3), 64 * groups, *d.extents(9, 30, 2)), dtype)
    w, b = floats(d, (64 * groups, 64, k, k), dtype), floats(d, (64 * groups,), dtype)
    return with_gradients(d, lambda x, w, b: st.silu(conv(x, w, b, padding=2, **more)), x, w, b)


def pointwise(d: Draw) -> list[st.Array]:
    c, k = d.one_of(((16, 32), (24, 16), (7, 5), (64, 16)))
    x, w = _image(d, c, d.number(1, 3)), floats(d, (k, c, 1, 1))
    w = w.reshape(w.shape[: x.ndim])
    b = floats(d, (k,))
    return with_gradients(d, lambda x, w, b: st.relu(st.conv(x, w, b)), x, w, b)


def grouped(d: Draw) -> list[st.Array]:
    groups, c, k = d.one_of(((2, 16, 32), (4, 32, 32), (3, 9, 6), (8, 16, 16)))
    stride = d.number(1, 3)
    return _convolution(d, (c, k), d.number(1, 3), "float32", groups, stride=stride)


def depthwise(d: Draw) -> list[st.Array]:
    c, k = d.one_of(((16, 16), (24, 24), (40, 40), (7, 7), (16, 32)))
    stride, dilation = d.one_of(((1, 1), (2, 1), (1, 2)))
    dtype = d.one_of(FLOATS)
    axes = d.number(1, 3)
    return _convolution(d, (c, k), axes, dtype, c, stride=stride, dilation=dilation)


def dilated(d: Draw) -> list[st.Array]:
    channels = d.one_of(((16, 16), (5, 8)))
    stride, dilation = d.number(1, 4), d.number(2, 4)
    return _convolution(
        d, channels, d.number(1, 3), "float32",
        stride=stride, dilation=dilation, padding=dilation,
    )  # fmt: skip


def transposed(d: Draw) -> list[st.Array]:
    c, k = d.one_of(((16, 16), (8, 3), (5, 16)))
    axes = d.number(1, 3)
    x, w = _image(d, c, axes), floats(d, (c, k, *(d.number(2, 5) for _ in range(axes))))
    stride = d.number(1, 4)
    return with_gradients(d, lambda x, w: st.conv_transpose(x, w, stride=stride), x, w)


def of_other_numbers(d: Draw) -> list[st.Array]:
    """Convolutions and products of integers."""
    dtype = d.one_of(("int32", "int64"))
    c, k = d.one_of(((3, 5), (16, 16)))
    x = integers(d, (2, c, *d.extents(4, 20, 2)), dtype)
    w = integers(d, (k, c, *d.extents(1, 4, 2)), dtype)
    m, n, p = sizes(d, 3)
    a, b = integers(d, (m, n), dtype), integers(d, (n, p), dtype)
    return [st.conv(x, w, stride=d.number(1, 3), padding=1), a @ b]


def products(d: Draw) -> list[st.Array]:
    m, n, p = sizes(d, 3, 80)
    batch = d.one_of(((), (3,), (2, 2)))
    dtype = d.one_of(FLOATS)
    x, y = floats(d, (*batch, m, n), dtype), floats(d, (*batch, n, p), dtype)
    return with_gradients(d, lambda x, y: x @ y, x, y)


def pools(d: Draw) -> list[st.Array]:
    c, axes = d.one_of((16, 8, 5)), d.number(1, 4)
    window, stride = d.number(2, 4), d.number(1, 4)
    x = _image(d, c, axes, d.one_of(FLOATS))
    more: dict[str, Any] = {"stride": stride, "padding": d.number(0, 2)}
    _, index = st.max_pool(x, window, return_indices=True, **more)
    return [*with_gradients(d, lambda x: st.max_pool(x, window, **more), x), index]


def averages(d: Draw) -> list[st.Array]:
    c, axes = d.one_of((16, 24, 5)), d.number(1, 3)
    x = _image(d, c, axes)
    inside = bool(d.number(0, 2))
    found = with_gradients(
        d, lambda x: st.avg_pool(x, 3, stride=2, padding=1, count_include_pad=inside), x
    )
    small = d.extents(1, 5, axes)
    return [*found, *with_gradients(d, lambda x: st.adaptive_avg_pool(x, small), x)]


def resizes(d: Draw) -> list[st.Array]:
    axes = d.number(1, 3)
    modes = ("nearest", "linear") if axes == 1 else ("nearest", "bilinear", "bicubic")
    x, mode = _image(d, d.one_of((3, 16)), axes), d.one_of(modes)
    size = d.extents(2, 30, axes)
    return with_gradients(d, lambda x: st.resize(x, size, mode=mode), x)


def norms(d: Draw) -> list[st.Array]:
    c = d.one_of((16, 24, 6))
    norm = d.one_of((nn.BatchNorm2d(c), nn.GroupNorm(2, c), nn.InstanceNorm2d(c)))
    x = _image(d, c, 2)
    return with_gradients(d, lambda x: st.silu(norm(x)), x)


def networks(d: Draw) -> list[st.Array]:
    """A training step: every parameter, statistic and moment after it, and the loss."""
    st.random.seed(d.number(0, 1 << 30))
    c, k = d.one_of(((16, 32), (8, 24), (12, 20)))
    net = nn.Sequential(
        nn.Conv2d(3, c, 3, padding=1), d.one_of((nn.BatchNorm2d(c), nn.GroupNorm(2, c))),
        d.one_of((nn.ReLU(), nn.GELU())), d.one_of((nn.MaxPool2d(2), nn.AvgPool2d(2))),
        nn.Conv2d(c, k, 3, stride=2, padding=1, groups=d.one_of((1, 2))),
        nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(k, 5),
    )  # fmt: skip
    weights = list(net.parameters())
    make = d.one_of((optim.AdamW, optim.SGD, optim.RMSprop))
    optimizer = make(weights, lr=0.01)
    x, y = _image(d, 3, 2), integers(d, (3,), "int64", 0, 5)
    loss = nn.CrossEntropyLoss()
    value, found = st.gradients(lambda: loss(net(x), y[: x.shape[0]]), weights)
    optimizer.update(found)
    return [value, *found, *net.state_dict().values()]


COMPUTATIONS: dict[str, Callable[[Draw], list[st.Array]]] = {
    f.__name__: f
    for f in (
        elementwise, of_integers, views, padding, sums, extremes, softmaxes, indexing, randoms,
        dense, tiled, stepped, pointwise, grouped, depthwise, dilated, transposed, of_other_numbers,
        products, pools, averages, resizes, norms, networks,
    )
}  # fmt: skip
