"""Convolutional layers to measure, as text.

    64@56 -> 256 k1 s1 p0 g1 d1 x4      64 channels of 56x56, 1x1 filter, occurs 4 times

One number stands for all axes, `8x56x56` for three; the table says how many there are. `n` is the
batch, `t` a transposed convolution with output padding `o`, `f64` the dtype. Operations are those
of the arithmetic definition, multiplications with padding left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

DIRECTIONS = ("forward", "input_gradient", "weight_gradient")
_LAYER = re.compile(r"(\d+)@([\dx]+) -> (\d+)((?: [a-z]+[\dx]*)*)")
_WORD = re.compile(r"([a-z]+?)(\d[\dx]*)?")


@dataclass(frozen=True)
class Layer:
    """One convolution.

    Attributes:
        table, text: where it is from, and how it is written there.
        batch, channels, features: N, C and K.
        size, kernel, stride, padding, dilation, output_padding: per axis.
        groups, transposed, dtype: of the convolution.
        count: how often the network has it.
    """

    table: str
    text: str
    channels: int
    features: int
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    output_padding: tuple[int, ...]
    groups: int = 1
    transposed: bool = False
    dtype: str = "float32"
    count: int = 1
    batch: int = 1

    @property
    def ndim(self) -> int:
        return len(self.size)

    @property
    def x_shape(self) -> tuple[int, ...]:
        """[N, C, *I]"""
        return (self.batch, self.channels, *self.size)

    @property
    def w_shape(self) -> tuple[int, ...]:
        """[K, C/groups, *W]; transposed: [C, K/groups, *W]"""
        c, k = self.channels, self.features
        pair = (c, k // self.groups) if self.transposed else (k, c // self.groups)
        return (*pair, *self.kernel)

    @property
    def y_shape(self) -> tuple[int, ...]:
        """[N, K, *O]"""
        axes = zip(
            self.size, self.kernel, self.stride, self.padding, self.dilation, self.output_padding,
            strict=True,
        )  # fmt: skip
        out = [
            (i - 1) * s - 2 * p + d * (w - 1) + o + 1
            if self.transposed
            else (i + 2 * p - d * (w - 1) - 1) // s + 1
            for i, w, s, p, d, o in axes
        ]
        return (self.batch, self.features, *out)

    @property
    def macs(self) -> int:
        """Multiply-adds of one direction: pairs (output, tap) that meet the input."""
        narrow, wide = (self.y_shape, self.x_shape)[:: -1 if self.transposed else 1]
        pairs = 1
        for a in range(self.ndim):
            outputs = np.arange(narrow[2 + a])[:, None] * self.stride[a] - self.padding[a]
            at = outputs + np.arange(self.kernel[a]) * self.dilation[a]
            pairs *= int(((at >= 0) & (at < wide[2 + a])).sum())
        return self.batch * self.channels * self.features // self.groups * pairs

    @property
    def nbytes(self) -> int:
        """Bytes of x, w and y, each once."""
        shapes = (self.x_shape, self.w_shape, self.y_shape)
        return sum(prod(s) for s in shapes) * np.dtype(self.dtype).itemsize

    def arguments(self) -> dict[str, Any]:
        """Of `st.conv` or `st.conv_transpose`, by keyword."""
        out: dict[str, Any] = {
            "stride": self.stride, "padding": self.padding, "dilation": self.dilation,
            "groups": self.groups,
        }  # fmt: skip
        return out | ({"output_padding": self.output_padding} if self.transposed else {})

    def operands(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """x, w and the cotangent g of y: normal numbers."""
        rng = np.random.default_rng(0)
        x, w, g = (
            rng.standard_normal(s, np.float32).astype(self.dtype)
            for s in (self.x_shape, self.w_shape, self.y_shape)
        )
        return x, w, g


def parse(table: str, text: str, ndim: int) -> Layer:
    """The layer of a line.

    Raises:
        ValueError: the line is not of the form above.
    """
    found = _LAYER.fullmatch(text)
    words = [_WORD.fullmatch(word) for word in found[4].split()] if found else []
    if not found or None in words:
        raise ValueError(f"{table}: no layer: {text!r}")

    def per_axis(value: str) -> tuple[int, ...]:
        numbers = tuple(int(v) for v in value.split("x"))
        if len(numbers) not in (1, ndim):
            raise ValueError(f"{table}: {value!r} in {text!r} is not for {ndim} axes")
        return numbers * (ndim // len(numbers))

    given = {m[1]: m[2] for m in words if m}
    unknown = {k for k, v in given.items() if k not in "kspdogxntf" or (v is None) != (k == "t")}
    if unknown:
        raise ValueError(f"{table}: wrong words {sorted(unknown)} in {text!r}")
    return Layer(
        table,
        text,
        channels=int(found[1]),
        features=int(found[3]),
        size=per_axis(found[2]),
        kernel=per_axis(given.get("k", "1")),
        stride=per_axis(given.get("s", "1")),
        padding=per_axis(given.get("p", "0")),
        dilation=per_axis(given.get("d", "1")),
        output_padding=per_axis(given.get("o", "0")),
        groups=int(given.get("g", 1)),
        transposed="t" in given,
        dtype=f"float{given.get('f', 32)}",
        count=int(given.get("x", 1)),
        batch=int(given.get("n", 1)),
    )


def table(name: str) -> list[Layer]:
    """The layers of a table, in order."""
    ndim, text = TABLES[name]
    return [parse(name, line.strip(), ndim) for line in text.strip().splitlines()]


def batched(layers: list[Layer], batch: int) -> list[Layer]:
    """The same layers with another batch."""
    return [replace(layer, batch=batch) for layer in layers]


# name -> (number of axes, layers); shapes are those of oneDNN's benchdnn inputs
TABLES = {
    "resnet50": (2, """
        3@224 -> 64 k7 s2 p3
        64@56 -> 256 k1 x4
        64@56 -> 64 k1
        64@56 -> 64 k3 p1 x3
        256@56 -> 64 k1 x2
        256@56 -> 512 k1 s2
        256@56 -> 128 k1
        128@56 -> 128 k3 s2 p1
        128@28 -> 512 k1 x4
        512@28 -> 128 k1 x3
        128@28 -> 128 k3 p1 x3
        512@28 -> 1024 k1 s2
        512@28 -> 256 k1
        256@28 -> 256 k3 s2 p1
        256@14 -> 1024 k1 x6
        1024@14 -> 256 k1 x5
        256@14 -> 256 k3 p1 x5
        1024@14 -> 2048 k1 s2
        1024@14 -> 512 k1
        512@14 -> 512 k3 s2 p1
        512@7 -> 2048 k1 x3
        2048@7 -> 512 k1 x2
        512@7 -> 512 k3 p1 x2
        """),
    "vgg19": (2, """
        3@224 -> 64 k3 p1
        64@224 -> 64 k3 p1
        64@112 -> 128 k3 p1
        128@112 -> 128 k3 p1
        128@56 -> 256 k3 p1
        256@56 -> 256 k3 p1 x3
        256@28 -> 512 k3 p1
        512@28 -> 512 k3 p1 x3
        512@14 -> 512 k3 p1 x4
        """),
    "mobilenet_depthwise": (2, """
        32@112 -> 32 k3 p1 g32
        64@112 -> 64 k3 s2 p1 g64
        128@56 -> 128 k3 p1 g128
        128@56 -> 128 k3 s2 p1 g128
        256@28 -> 256 k3 p1 g256
        256@28 -> 256 k3 s2 p1 g256
        512@14 -> 512 k3 p1 g512 x5
        512@14 -> 512 k3 s2 p1 g512
        1024@7 -> 1024 k3 p1 g1024
        """),
    "mobilenet_pointwise": (2, """
        32@112 -> 64 k1
        64@56 -> 128 k1
        128@56 -> 128 k1
        128@28 -> 256 k1
        256@28 -> 256 k1
        256@14 -> 512 k1
        512@14 -> 512 k1 x5
        512@7 -> 1024 k1
        1024@7 -> 1024 k1
        """),
    "resnext_grouped": (2, """
        128@56 -> 128 k3 p1 g32 x3
        256@56 -> 256 k3 s2 p1 g32
        256@28 -> 256 k3 p1 g32 x3
        512@28 -> 512 k3 s2 p1 g32
        512@14 -> 512 k3 p1 g32 x5
        1024@14 -> 1024 k3 s2 p1 g32
        1024@7 -> 1024 k3 p1 g32 x2
        """),
    "x3d_depthwise": (3, """
        54@8x56x56 -> 54 k3 p1 g54
        108@8x28x28 -> 108 k3 p1 g108
        216@8x28x28 -> 216 k3 s1x2x2 p1 g216
        216@8x14x14 -> 216 k3 p1 g216
        432@8x7x7 -> 432 k3 p1 g432
        24@8x112x112 -> 24 k5x1x1 p2x0x0 g24
        """),
    "wavenet": (1, """
        32@16000 -> 32 k2 n4
        32@16000 -> 32 k2 d16 n4
        32@16000 -> 32 k2 d512 n4
        512@812 -> 512 k1 n4
        64@16000 -> 128 k3 d8 p8 n4
        """),
    "audio_transposed": (1, """
        513@200 -> 1 k1024 s256 t
        64@800 -> 32 k16 s8 p4 t
        """),
    "unet3d": (3, """
        3@36x68x68 -> 32 k3
        32@34x66x66 -> 64 k3
        64@28x32x32 -> 64 k3
        64@26x30x30 -> 128 k3
        128@13x14x14 -> 256 k3
        256@12x13x13 -> 256 k3
        """),
    "dilated": (2, """
        512@38x57 -> 512 k3 d3 p3
        256@33 -> 256 k3 d6 p6
        64@65 -> 64 k3 d2 p2 s2
        """),
    "transposed": (2, """
        512@32 -> 256 k2 s2 t
        128@128 -> 64 k2 s2 t
        512@8 -> 256 k4 s2 p1 t
        128@32 -> 64 k4 s2 p1 t
        64@64 -> 64 k3 s2 p1 o1 t
        """),
    "small_maps": (2, """
        512@4 -> 512 k3 p1
        1024@2 -> 1024 k3 p1
        2048@1 -> 512 k1
        960@7 -> 160 k1
        16@16 -> 16 k3 p1
        """),
    "float64": (2, """
        64@56 -> 64 k3 p1 f64
        256@14 -> 1024 k1 f64
        128@28 -> 128 k3 p1 g128 f64
        """),
}  # fmt: skip
LAYERS = ("resnet50", "vgg19", "mobilenet_depthwise", "mobilenet_pointwise")
WEAK = tuple(name for name in TABLES if name not in LAYERS)
