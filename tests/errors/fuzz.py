"""Random calls with arguments from the boundary of what is legal; run as a process of its own:

    python -m tests.errors.fuzz SEED CALLS

Each call must return, or raise StriateError, MemoryError, or an IndexError, TypeError or ValueError
that a `raise` in striate made. It must end soon, and the process must live. The call in progress is
the last line of the standard output, so that a crash or a hang names it.
"""

from __future__ import annotations

import faulthandler
import linecache
import random
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import striate as st

SECONDS = 20  # a call that takes longer hangs
BYTES = 4 << 30
PACKAGE = str(Path(st.__file__).parent)

HUGE = [2**31 - 1, 2**31, 2**32 + 1, 2**40, 2**62, 2**63 - 1, 2**63, 2**70]
INTS: list[Any] = [-(2**63), -(2**31), -2, -1, 0, 1, 1, 2, 2, 3, *HUGE]
ODD: list[Any] = [
    None, 1.5, float("nan"), float("inf"), True, "2", "same", b"1", 2j, (), [], {}, object,
]  # fmt: skip
SHAPES: list[tuple[int, ...]] = [
    (), (0,), (1,), (3,), (2, 3), (0, 3), (3, 0), (1, 2, 4), (2, 2, 5), (1, 4, 1), (2, 4, 0),
    (1, 2, 4, 4), (2, 2, 3, 5), (0, 2, 4, 4), (2, 0, 3, 3), (4, 2, 3, 3), (2, 1, 2, 2),
    (2, 2, 1, 1), (1, 2, 3, 3, 3), (2, 2, 2, 2, 2), (1, 1, 2, 2, 2, 2), (1,) * 70,
]  # fmt: skip
DTYPES = [*["float32"] * 6, "float64", "int64", "int32", "int8", "uint8", "bool", "bfloat16"]

Draw = Callable[[random.Random], Any]


def array(r: random.Random) -> Any:
    """An operand: an array of a small shape, or now and then something else."""
    if r.random() < 0.03:
        return r.choice(
            [*ODD, [[1.0], [2.0, 3.0]], np.zeros(2, "f2"), np.array(["a"]), np.zeros(2, "c8")]
        )
    shape, dtype = r.choice(SHAPES), r.choice(DTYPES)
    if len(shape) > 64:
        return np.zeros(1).reshape((1,) * 64)
    if r.random() < 0.02:  # a large array that needs no memory
        shape = tuple(r.choice([1, 2, 2**31, 2**40]) if n else 0 for n in shape[:4])
        return st.zeros(shape, dtype) if np.prod([float(n) for n in shape]) < 2**60 else st.zeros(1)
    value = np.arange(int(np.prod(shape))).reshape(shape)
    return st.asarray(value % 3 - 1 if dtype != "uint8" else value % 3).astype(dtype)


def integer(r: random.Random) -> Any:
    """One number, mostly an integer."""
    return r.choice(ODD) if r.random() < 0.06 else r.choice(INTS)


def small(r: random.Random) -> Any:
    """One number, mostly a legal one, so that other arguments are reached."""
    return integer(r) if r.random() < 0.25 else r.choice([1, 1, 1, 2, 3])


def several(one: Draw) -> Draw:
    """A number, or a tuple or list of some."""

    def draw(r: random.Random) -> Any:
        if r.random() < 0.5:
            return one(r)
        values = [one(r) for _ in range(r.choice([0, 1, 1, 2, 2, 2, 3, 3, 4]))]
        return r.choice([tuple, list])(values)

    return draw


def padding(r: random.Random) -> Any:
    """A padding, in one of its forms."""
    form = r.random()
    if form < 0.3:
        return r.choice(["same", "valid", "causal", "same_lower", "SAME", "", None])
    if form < 0.6:
        return [(small(r), small(r)) for _ in range(r.choice([0, 1, 2, 3]))]
    return several(small)(r)


def one_of(*choices: Any) -> Draw:
    return lambda r: r.choice(choices)


def maybe(p: float, draw: Draw, default: Any = None) -> Draw:
    return lambda r: draw(r) if r.random() < p else default


def window(r: random.Random) -> st.Window:
    return st.Window(*(small(r) for _ in range(3)), *(integer(r) for _ in range(r.randint(0, 4))))


def spec(r: random.Random) -> st.ConvSpec:
    windows: Any = tuple(window(r) for _ in range(r.choice([0, 1, 1, 2, 3])))
    return st.ConvSpec(*(small(r) for _ in range(4)), r.choice([windows] * 9 + [list(windows)]))


def general(r: random.Random) -> tuple[Any, Any, Any]:
    """Operands that mostly have the shapes of the spec."""
    s = spec(r)
    if r.random() < 0.2 or max(*s.lhs_shape, *s.rhs_shape) > 2**20:
        return array(r), array(r), s
    return np.ones(s.lhs_shape, "f4"), np.ones(s.rhs_shape, "f4"), s


def call_general(operands: tuple[Any, Any, Any]) -> Any:
    x, w, s = operands
    return st.conv_general(x, w, s), st.vjp(lambda x, w: st.conv_general(x, w, s), x, w)[0]


def methods(t: st.Window) -> Any:
    """What a window computes on its own."""
    return (
        t.padding, t.reads() if min(t.out_size, t.kernel_size) > 0 else None, t.interior(), str(t),
        t.lhs_adjoint().rhs_adjoint().canonical(), next(iter(t.phases()), None),
    )  # fmt: skip


def matrix(operands: tuple[Any, Any, Any]) -> Any:
    return st.conv_matrix(operands[1], operands[2])


def convolution(r: random.Random) -> dict[str, Any]:
    """Arguments of a convolution: operands that mostly fit, and one or two odd options."""
    rank, groups = r.choice([0, 1, 1, 2, 2, 3]), r.choice([1, 1, 2])
    c, k = groups * r.choice([1, 2]), groups * r.choice([0, 1, 2])
    sizes = [r.choice([0, 1, 4, 5]) for _ in range(rank)]
    taps = [r.choice([1, 2, 3]) for _ in range(rank)]
    x: Any = np.ones((r.choice([0, 1, 2]), c, *sizes), "f4")
    w: Any = np.ones((k, c // groups, *taps), "f4")
    if r.random() < 0.15:
        x = array(r)
    if r.random() < 0.15:
        w = array(r)

    def axes(r: random.Random) -> Any:
        return small(r) if r.random() < 0.5 else [small(r) for _ in range(rank)]

    def pads(r: random.Random) -> Any:
        return [(small(r), small(r)) for _ in range(rank)] if r.random() < 0.5 else padding(r)

    options: dict[str, Draw] = {
        "stride": axes, "dilation": axes, "padding": pads, "groups": small, "bias": array,
        "padding_mode": one_of("reflect", "replicate", "circular", "x", None, 1),
        "data_format": one_of("NHWC", "NCL", "NDHWC", "N...C", "nchw", "", None, [], 0),
    }  # fmt: skip
    chosen = r.sample(list(options), r.choice([0, 1, 1, 2, 3]))
    return {"x": x, "w": w, "groups": groups, **{name: options[name](r) for name in chosen}}


def transposed(r: random.Random) -> dict[str, Any]:
    """Arguments of a transposed convolution."""
    drawn = convolution(r)
    if isinstance(drawn["w"], np.ndarray) and r.random() < 0.8:
        channels = drawn["w"].shape[0] if drawn["w"].ndim else 1
        drawn["x"] = np.ones((2, channels, *drawn["w"].shape[2:]), "f4")
    if r.random() < 0.3:
        drawn["output_padding"] = several(small)(r)
    return drawn


def derivative(x: Any, w: Any, **options: Any) -> Any:
    return st.grad(lambda x, w: st.conv(x, w, **options).sum(), argnums=(0, 1))(x, w)


def compiled(x: Any, w: Any, **options: Any) -> Any:
    return st.jit(lambda x, w: st.conv(x, w, **options))(x, w)


def indexed(x: Any, index: Any) -> Any:
    return st.asarray(x)[index]


def item(r: random.Random) -> Any:
    if r.random() < 0.5:
        return integer(r)
    return r.choice(
        [slice(maybe(0.5, integer)(r), maybe(0.5, integer)(r), maybe(0.5, integer)(r)), ...]
    )


PAIRS: Draw = lambda r: [(small(r), small(r)) for _ in range(r.choice([0, 1, 2, 3, 4]))]  # noqa: E731
Arguments = dict[str, Draw] | Callable[[random.Random], dict[str, Any]]
CALLS: dict[str, tuple[Callable[..., Any], Arguments]] = {
    "conv": (st.conv, convolution),
    "conv_transpose": (st.conv_transpose, transposed),
    "conv grad": (derivative, convolution),
    "conv jit": (compiled, convolution),
    "conv_general": (call_general, {"operands": general}),
    "conv_matrix": (matrix, {"operands": general}),
    "Window": (methods, {"t": window}),
    "Window.of": (
        lambda i, k, **options: methods(st.Window.of(i, k, **options)),
        {
            "i": integer, "k": small, "stride": small, "lhs_dilation": small,
            "rhs_dilation": integer, "padding": one_of((0, 0), (1, 2), (2**62, 2**62), (-1, 0)),
        },
    ),
    "matmul": (st.matmul, {"x": array, "y": array}),
    "linear": (st.linear, {"x": array, "w": array, "bias": maybe(0.3, array)}),
    "pad": (
        st.pad,
        {
            "x": array, "widths": lambda r: integer(r) if r.random() < 0.1 else PAIRS(r),
            "mode": one_of("constant", "reflect", "symmetric", "replicate", "circular", "x", None),
            "value": one_of(0, 0, 1.5, float("nan"), 2**70, "a", None),
        },
    ),
    "reshape": (st.reshape, {"x": array, "shape": several(integer)}),
    "permute_dims": (st.permute_dims, {"x": array, "axes": several(small)}),
    "concat": (
        st.concat,
        {"xs": lambda r: [array(r) for _ in range(r.randint(0, 3))], "axis": small},
    ),
    "index": (indexed, {"x": array, "index": several(item)}),
    "take": (st.take, {"x": array, "indices": array, "axis": small}),
    "asarray": (
        st.asarray,
        {
            "data": lambda r: r.choice([array, integer, several(integer)])(r),
            "dtype": one_of(None, *DTYPES, "f2", "c8", 1),
        },
    ),
    "broadcast_to": (st.broadcast_to, {"x": array, "shape": several(integer)}),
    "zeros": (st.zeros, {"shape": several(integer)}),
}  # fmt: skip


def read(result: Any) -> None:
    """Compute every array in a result that this test has room for."""
    if isinstance(result, st.Array):
        if result.nbytes < 2**28 or result.node.op.name != "broadcast_to":
            result.numpy()
    elif isinstance(result, tuple | list):
        for part in result:
            read(part)


NOT_YET = (  # what NumPy and Python say where striate should: asarray, zeros, axes, empty arrays
    "inhomogeneous shape", "out of bounds for", "too large", "array is too big",
    "int() argument must be", "cannot convert float", "object is not iterable", "cannot reshape",
    "not supported between instances", "imum allowed", "discards the imaginary", "invalid literal",
    "tuple indices", "maximum supported",
)  # fmt: skip


def complaint(error: BaseException) -> str | None:
    """What is wrong with this exception, if anything is."""
    if isinstance(error, st.StriateError | MemoryError):
        return None if str(error) else "it has no message"
    if isinstance(error, IndexError | TypeError | ValueError):
        frame = traceback.extract_tb(error.__traceback__)[-1]
        ours = frame.filename.startswith(PACKAGE)
        if ours and "raise" in linecache.getline(frame.filename, frame.lineno or 0):
            return None
    if any(text in str(error) for text in NOT_YET):
        return None
    return f"{type(error).__name__} that striate did not raise: {error}"


def shown(value: Any) -> str:
    if isinstance(value, st.Array | np.ndarray):
        return f"{type(value).__name__}({value.dtype}, {value.shape})"
    if isinstance(value, tuple | list):
        return f"{type(value).__name__}({', '.join(map(shown, value))})"
    return repr(value)


def main(seed: int, calls: int) -> int:
    """The number of calls that misbehaved."""
    warnings.simplefilter("error")
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    except ImportError:  # not on Windows
        pass
    bad = 0
    for n in range(calls):
        r = random.Random(f"{seed}/{n}")
        name = r.choice(list(CALLS))
        function, arguments = CALLS[name]
        try:
            if callable(arguments):
                drawn = arguments(r)
            else:
                drawn = {key: draw(r) for key, draw in arguments.items()}
            text = ", ".join(f"{k}={shown(v)}" for k, v in drawn.items())
            print(f"{seed}/{n} {name}({text})", flush=True)
            faulthandler.dump_traceback_later(SECONDS, exit=True)
            read(function(**drawn))
        except Exception as error:
            if problem := complaint(error):
                bad += 1
                print(f"BAD {problem}", flush=True)
                if "-v" in sys.argv:
                    traceback.print_exc(limit=-3, file=sys.stdout)
        finally:
            faulthandler.cancel_dump_traceback_later()
    return bad


if __name__ == "__main__":
    sys.exit(min(main(int(sys.argv[1]), int(sys.argv[2])), 100))
