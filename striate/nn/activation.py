"""Activations as layers: thin names for the functions of `st`, with PyTorch's arguments.

`inplace` is accepted and changes nothing: arrays are values, and the planner of memory decides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

from striate.core import api
from striate.core.array import Array
from striate.core.creation import full
from striate.dtype import float32
from striate.errors import ShapeError
from striate.nn.module import Module, Parameter


class _Activation(Module):
    """y = fn(x, *arguments): `fn` and the names of the attributes that are its arguments."""

    fn: ClassVar[Callable[..., Any]]
    arguments: ClassVar[tuple[str, ...]] = ()

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()

    def forward(self, x: Array) -> Array:
        """x: any shape -> the same."""
        return type(self).fn(x, *(getattr(self, name) for name in self.arguments))  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        """The arguments by name."""
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self.arguments)


# ---- without arguments ---------------------------------------------------------------------


class ReLU(_Activation):
    """max(x, 0).

    >>> st.nn.ReLU()(st.asarray([-1.0, 2.0])).numpy()
    array([0., 2.], dtype=float32)
    """

    fn = staticmethod(api.relu)


class ReLU6(_Activation):
    """min(max(x, 0), 6)."""

    fn = staticmethod(api.relu6)


class SELU(_Activation):
    """Scaled ELU; see `st.selu`."""

    fn = staticmethod(api.selu)


class SiLU(_Activation):
    """x * sigmoid(x)."""

    fn = staticmethod(api.silu)


class Mish(_Activation):
    """x * tanh(softplus(x))."""

    fn = staticmethod(api.mish)


class Hardswish(_Activation):
    """x * relu6(x + 3) / 6."""

    fn = staticmethod(api.hardswish)


class Hardsigmoid(_Activation):
    """relu6(x + 3) / 6."""

    fn = staticmethod(api.hardsigmoid)


class Sigmoid(_Activation):
    """1 / (1 + exp(-x))."""

    fn = staticmethod(api.sigmoid)


class LogSigmoid(_Activation):
    """log(sigmoid(x)), without underflow."""

    fn = staticmethod(api.log_sigmoid)


class Softsign(_Activation):
    """x / (1 + |x|)."""

    fn = staticmethod(api.softsign)


class Tanh(_Activation):
    """tanh(x)."""

    fn = staticmethod(api.tanh)


class Tanhshrink(_Activation):
    """x - tanh(x)."""

    fn = staticmethod(api.tanhshrink)


# ---- with arguments ------------------------------------------------------------------------


class LeakyReLU(_Activation):
    """x where it is positive, else negative_slope * x."""

    fn = staticmethod(api.leaky_relu)
    arguments = ("negative_slope",)

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        self.negative_slope = negative_slope


class ELU(_Activation):
    """x where it is positive, else alpha * (exp(x) - 1)."""

    fn = staticmethod(api.elu)
    arguments = ("alpha",)

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        self.alpha = alpha


class CELU(ELU):
    """x where it is positive, else alpha * (exp(x / alpha) - 1)."""

    fn = staticmethod(api.celu)


class GELU(_Activation):
    """x times the normal distribution function of x, exact or by tanh."""

    fn = staticmethod(api.gelu)
    arguments = ("approximate",)

    def __init__(self, approximate: Literal["none", "tanh"] = "none") -> None:
        self.approximate = approximate


class Hardtanh(_Activation):
    """x between min_val and max_val."""

    fn = staticmethod(api.hardtanh)
    arguments = ("min_val", "max_val")

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        self.min_val = min_val
        self.max_val = max_val


class Softplus(_Activation):
    """log(1 + exp(beta * x)) / beta, and x itself where beta * x > threshold."""

    fn = staticmethod(api.softplus)
    arguments = ("beta", "threshold")

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        self.beta = beta
        self.threshold = threshold


class Threshold(_Activation):
    """x where it is above threshold, else value."""

    fn = staticmethod(api.threshold)
    arguments = ("threshold", "value")

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        self.threshold = threshold
        self.value = value


class Hardshrink(_Activation):
    """x where |x| > lambd, else 0."""

    fn: ClassVar[Callable[..., Any]] = staticmethod(api.hardshrink)
    arguments = ("lambd",)

    def __init__(self, lambd: float = 0.5) -> None:
        self.lambd = lambd


class Softshrink(Hardshrink):
    """x moved towards 0 by lambd, and 0 where |x| <= lambd."""

    fn = staticmethod(api.softshrink)


class GLU(_Activation):
    """The first half along axis `dim`, times the sigmoid of the second."""

    fn = staticmethod(api.glu)
    arguments = ("dim",)

    def __init__(self, dim: int = -1) -> None:
        self.dim = dim


class Softmax(_Activation):
    """exp(x) / sum(exp(x)) along axis `dim`.

    Raises:
        ShapeError: `dim` is None, PyTorch's default, which guesses.
    """

    fn = staticmethod(api.softmax)
    arguments = ("dim",)

    def __init__(self, dim: int | None = None) -> None:
        if dim is None:
            raise ShapeError(f"{type(self).__name__}: say along which axis: dim=1 are the channels")
        self.dim = dim


class LogSoftmax(Softmax):
    """log(softmax(x)) along axis `dim`."""

    fn = staticmethod(api.log_softmax)


class PReLU(Module):
    """x where it is positive, else weight * x, with a learned slope per channel (or one for all).

    Args:
        num_parameters: 1, or the number of channels (axis 1 of x).
        init: the first slope.
        dtype: of the slope.
    """

    def __init__(
        self, num_parameters: int = 1, init: float = 0.25, *, dtype: object = float32
    ) -> None:
        self.num_parameters = num_parameters
        self.weight = Parameter(full(num_parameters, init, dtype))

    def forward(self, x: Array) -> Array:
        """x: [N, C, *I] -> the same."""
        return api.prelu(x, self.weight)

    def extra_repr(self) -> str:
        """PyTorch's."""
        return f"num_parameters={self.num_parameters}"
