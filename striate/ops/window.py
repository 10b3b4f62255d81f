"""One spatial axis of a convolution, as one signed relation:

    lhs_dilation * i  ==  stride * o  +  rhs_dilation * k  -  pad_lo

Output o sums lhs[i] * rhs[k] over all (i, k) in range that satisfy it. The three sizes are given
explicitly, so nothing is rounded and no high padding is needed. The relation is symmetric in the
roles of i, o and k; exchanging two of them gives the adjoints of the convolution:

    lhs adjoint (g, w -> dx):  i <-> o        rhs adjoint (x, g -> dw):  o <-> k

Both are involutions and generate S3: every derivative of any order is such a relation again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import gcd

from striate.errors import RangeError, ShapeError
from striate.ir.arguments import LIMIT, integer, pair

__all__ = ["LIMIT", "Phase", "Window"]


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def _solve(c: int, d: int, a: int) -> int | None:
    """The least x >= 0 with c * x = d (mod a), if there is one."""
    g = gcd(a, c)
    quotient, odd = divmod(d, g)
    return None if odd else quotient * pow(c // g, -1, a // g) % (a // g)


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a dilated axis that is dense: `out` outputs see only `kernel` taps.

    Attributes:
        out: the outputs of this class, a slice of the axis of outputs.
        kernel: the taps that meet them, or None where no tap does (these outputs are zero).
        window: the dense relation (`lhs_dilation == 1`) between the two, or None.
    """

    out: slice
    kernel: slice | None
    window: Window | None


@dataclass(frozen=True, slots=True)
class Window:
    """The relation of one axis.

    Attributes:
        in_size, out_size, kernel_size: numbers of i, o and k.
        stride, lhs_dilation, rhs_dilation: signed and not zero; `rhs_dilation < 0` is a flipped
            kernel.
        pad_lo: signed; negative crops.

    Raises:
        DTypeError: something is not an integer.
        ShapeError: a size is negative or a coefficient is zero.
        RangeError: the relation leaves the range of 64-bit signed integers.
    """

    in_size: int
    out_size: int
    kernel_size: int
    stride: int = 1
    lhs_dilation: int = 1
    rhs_dilation: int = 1
    pad_lo: int = 0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if type(value) is not int or abs(value) > LIMIT:  # NumPy's integers wrap
                object.__setattr__(self, name, integer("window", name, value))
        for name in ("in_size", "out_size", "kernel_size"):
            if getattr(self, name) < 0:
                raise ShapeError(f"window: {name} must be >= 0, got {getattr(self, name)}")
        for name in ("stride", "lhs_dilation", "rhs_dilation"):
            if getattr(self, name) == 0:
                raise ShapeError(f"window: {name} must not be 0")
        reach = (
            abs(self.stride) * max(self.out_size - 1, 0)
            + abs(self.rhs_dilation) * max(self.kernel_size - 1, 0)
            + abs(self.lhs_dilation) * max(self.in_size - 1, 0)
            + abs(self.pad_lo)
        )
        if reach > LIMIT:
            raise RangeError(f"window: {self} reaches {reach}; the limit is {LIMIT} (2**63 - 1)")

    @classmethod
    def of(
        cls,
        in_size: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: tuple[int, int] = (0, 0),
        lhs_dilation: int = 1,
        rhs_dilation: int = 1,
    ) -> Window:
        """The window of the usual arguments; `out_size` follows.

        Args:
            in_size: size of the input axis.
            kernel_size: size of the kernel axis, > 0.
            stride: > 0.
            padding: (lo, hi), in steps of the dilated input; negative crops.
            lhs_dilation: > 0, distance between inputs.
            rhs_dilation: distance between taps; negative flips the kernel.

        Raises:
            DTypeError: something is not an integer.
            ShapeError: a size or step is out of range, or the dilated kernel does not fit in the
                padded input.
            RangeError: numbers beyond 2**63 - 1.

        >>> Window.of(224, 7, stride=2, padding=(3, 3)).out_size
        112
        """
        in_size = integer("window", "in_size", in_size, 0)
        kernel_size = integer("window", "kernel_size", kernel_size, 1)
        stride = integer("window", "stride", stride, 1)
        lhs_dilation = integer("window", "lhs_dilation", lhs_dilation, 1)
        rhs_dilation = integer("window", "rhs_dilation", rhs_dilation)
        lo, hi = pair("window", "padding", padding)
        padded = max(0, (in_size - 1) * lhs_dilation + 1) + lo + hi
        extent = (kernel_size - 1) * abs(rhs_dilation) + 1
        if max(padded, extent, abs(lo), abs(hi)) > LIMIT:
            raise RangeError(
                f"window: padded input {padded} and dilated kernel {extent} must be at most "
                f"{LIMIT} (2**63 - 1)"
            )
        if extent > padded:
            raise ShapeError(
                f"window: a kernel of {kernel_size} with dilation {abs(rhs_dilation)} spans "
                f"{extent}, more than the padded input of {padded} ({in_size} + padding {lo}, {hi})"
            )
        flip = extent - 1 if rhs_dilation < 0 else 0
        return cls(
            in_size,
            (padded - extent) // stride + 1,
            kernel_size,
            stride,
            lhs_dilation,
            rhs_dilation,
            lo - flip,
        )

    @property
    def is_whole(self) -> bool:
        """Whether the only output sees every input, each through a tap of its own."""
        ends = (0, self.in_size - 1)
        return self.out_size == 1 and self.kernel_size == self.in_size and self.reads() == ends

    @property
    def padding(self) -> tuple[int, int]:
        """(lo, hi) as `of` takes it: the smallest hi that gives this `out_size`.

        >>> w = Window.of(224, 7, stride=2, padding=(3, 3))
        >>> w.padding, Window.of(224, 7, stride=2, padding=w.padding) == w
        ((3, 2), True)
        """
        t = self.canonical_sign()
        extent = (t.kernel_size - 1) * abs(t.rhs_dilation) + 1
        lo = t.pad_lo + (extent - 1 if t.rhs_dilation < 0 else 0)
        dilated = max(0, (t.in_size - 1) * t.lhs_dilation + 1)
        return lo, (t.out_size - 1) * t.stride + extent - lo - dilated

    def lhs_adjoint(self) -> Window:
        """The relation of (g, w -> dx): i and o exchange their roles. An involution."""
        return Window(
            in_size=self.out_size,
            out_size=self.in_size,
            kernel_size=self.kernel_size,
            stride=self.lhs_dilation,
            lhs_dilation=self.stride,
            rhs_dilation=-self.rhs_dilation,
            pad_lo=-self.pad_lo,
        )

    def rhs_adjoint(self) -> Window:
        """The relation of (x, g -> dw): o and k exchange their roles. An involution."""
        return Window(
            in_size=self.in_size,
            out_size=self.kernel_size,
            kernel_size=self.out_size,
            stride=self.rhs_dilation,
            lhs_dilation=self.lhs_dilation,
            rhs_dilation=self.stride,
            pad_lo=self.pad_lo,
        )

    def canonical_sign(self) -> Window:
        """The same relation, multiplied by -1 where needed so that `lhs_dilation > 0`."""
        if self.lhs_dilation > 0:
            return self
        return replace(
            self,
            stride=-self.stride,
            lhs_dilation=-self.lhs_dilation,
            rhs_dilation=-self.rhs_dilation,
            pad_lo=-self.pad_lo,
        )

    def canonical(self) -> Window:
        """The one representative of all relations with the same solutions that differ by sign
        or by a coefficient that meets only index 0: idle coefficients are 1, and of lhs_dilation,
        stride, rhs_dilation and pad_lo the first that counts is positive. So `lhs_dilation > 0`.
        """
        a = self.lhs_dilation if self.in_size > 1 else 0
        s = self.stride if self.out_size > 1 else 0
        b = self.rhs_dilation if self.kernel_size > 1 else 0
        first = next((c for c in (a, s, b, self.pad_lo) if c), 1)
        sign = 1 if first > 0 else -1
        return replace(
            self,
            stride=sign * s or 1,
            lhs_dilation=sign * a or 1,
            rhs_dilation=sign * b or 1,
            pad_lo=sign * self.pad_lo,
        )

    def phases(self) -> Iterator[Phase]:
        """Split a dilated axis into dense parts that tile the outputs exactly.

        With a = lhs_dilation, p = a / gcd(a, stride) and q = a / gcd(a, rhs_dilation): outputs
        o = r (mod p) meet exactly the taps k = u (mod q) with stride*r + rhs_dilation*u = pad_lo
        (mod a), at most one u. So no multiplication by an inserted zero is left.

        >>> w = Window.of(4, 3, stride=2, padding=(1, 1)).lhs_adjoint()
        >>> [(f.out, f.kernel) for f in w.phases()]
        [(slice(0, None, 2), slice(1, None, 2)), (slice(1, None, 2), slice(0, None, 2))]
        """
        t = self.canonical()
        a, s, b, lo = t.lhs_dilation, t.stride, t.rhs_dilation, t.pad_lo
        p = a // gcd(a, s)
        for r in range(min(p, t.out_size)):
            u = _solve(b, lo - s * r, a)
            if u is None or u >= t.kernel_size:
                yield Phase(slice(r, None, p), None, None)
            else:
                yield t._phase(r, u)

    def live_phases(self) -> Iterator[Phase]:
        """The phases in which a tap meets an output, in no more steps than there are taps: the
        outputs of a dilated axis may be many, and nearly all of them zero.
        """
        t = self.canonical()
        a, s, b, lo = t.lhs_dilation, t.stride, t.rhs_dilation, t.pad_lo
        if min(a // gcd(a, s), t.out_size) <= t.kernel_size:
            yield from (f for f in t.phases() if f.window is not None)
            return
        for u in range(min(a // gcd(a, b), t.kernel_size)):
            r = _solve(s, lo - b * u, a)
            if r is not None and r < t.out_size:
                yield t._phase(r, u)

    def _phase(self, r: int, u: int) -> Phase:
        """The live phase of a canonical window whose first output is r and first tap u."""
        a, s, b = self.lhs_dilation, self.stride, self.rhs_dilation
        p, q = a // gcd(a, s), a // gcd(a, b)
        window = Window(
            in_size=self.in_size,
            out_size=len(range(r, self.out_size, p)),
            kernel_size=len(range(u, self.kernel_size, q)),
            stride=s * p // a,
            rhs_dilation=b * q // a,
            pad_lo=-((s * r + b * u - self.pad_lo) // a),
        )
        return Phase(slice(r, None, p), slice(u, None, q), window)

    def outputs_of(self, tap: int) -> range:
        """The outputs that see an input (not padding) through one tap of a dense window."""
        assert abs(self.lhs_dilation) == 1, "phases() first"
        t = self.canonical_sign()
        shift = t.rhs_dilation * tap - t.pad_lo  # i = stride * o + shift
        if t.stride > 0:
            first, last = _ceil_div(-shift, t.stride), (t.in_size - 1 - shift) // t.stride
        else:
            first, last = _ceil_div(shift - t.in_size + 1, -t.stride), shift // -t.stride
        first = max(first, 0)
        return range(first, max(first, min(last + 1, t.out_size)))

    def reads(self) -> tuple[int, int]:
        """(first, last) position of the dilated input that the outputs touch, in range or not."""
        t = self.canonical_sign()
        ends = [
            t.stride * o + t.rhs_dilation * k - t.pad_lo
            for o in (0, t.out_size - 1)
            for k in (0, t.kernel_size - 1)
        ]
        return min(ends), max(ends)

    def interior(self) -> range:
        """The outputs whose window touches no padding.

        >>> Window.of(8, 3, padding=(1, 1)).interior()
        range(1, 7)
        """
        t = self.canonical_sign()
        taps = [t.rhs_dilation * k - t.pad_lo for k in (0, max(t.kernel_size - 1, 0))]
        limit = t.lhs_dilation * (t.in_size - 1)
        if t.stride > 0:
            first, last = _ceil_div(-min(taps), t.stride), (limit - max(taps)) // t.stride
        else:
            first, last = _ceil_div(max(taps) - limit, -t.stride), min(taps) // -t.stride
        first = max(first, 0)
        return range(first, max(first, min(last + 1, t.out_size)))

    def __str__(self) -> str:
        lo, hi = self.padding
        return (
            f"{self.in_size}*{self.kernel_size}->{self.out_size} stride={self.stride} "
            f"pad=({lo}, {hi}) lhs_dilation={self.lhs_dilation} rhs_dilation={self.rhs_dilation}"
        )
