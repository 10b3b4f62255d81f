"""Recurrent layers: RNN, GRU and LSTM, unrolled over time.

With X [T, N, C] (layout 0) the weights of a direction are W [G*H, C], R [G*H, H] and B [2*G*H],
of G gates in ONNX's order. A sequence that is shorter than T keeps its state when it has ended,
and the reverse direction begins at its end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import striate as st
from striate.core.array import Array
from striate.errors import RangeError, ShapeError
from striate.onnx.registry import Call, operator

Function = Callable[[Array], Array]
State = tuple[Array, ...]  # h, and for an LSTM c: [N, H] each

PLAIN: dict[str, Function] = {
    "relu": st.relu,
    "tanh": st.tanh,
    "sigmoid": st.sigmoid,
    "softsign": st.softsign,
    "softplus": st.softplus,
}
SHAPED: dict[str, tuple[Callable[..., Array], float, float]] = {
    "affine": (lambda x, a, b: x * a + b, 1.0, 0.0),
    "leakyrelu": (lambda x, a, b: st.leaky_relu(x, a), 0.01, 0.0),
    "thresholdedrelu": (lambda x, a, b: st.threshold(x, a, 0.0), 1.0, 0.0),
    "scaledtanh": (lambda x, a, b: st.tanh(x * b) * a, 1.0, 1.0),
    "hardsigmoid": (lambda x, a, b: st.clip(x * a + b, 0, 1), 0.2, 0.5),
    "elu": (lambda x, a, b: st.elu(x, a), 1.0, 0.0),
}
STEPS = 1 << 14  # more would be a graph without end
DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}


@dataclass(frozen=True)
class Cell:
    """One direction.

    Attributes:
        w, r, b: weights [G*H, C] and [G*H, H], and biases [2*G*H].
        p: weights of peepholes [3*H], or None.
        functions: activations.
        clip: a limit of what goes into them, or None.
        hidden: H.
        flag: `linear_before_reset` of a GRU, `input_forget` of an LSTM.
    """

    w: Array
    r: Array
    b: Array
    p: Array | None
    functions: tuple[Function, ...]
    clip: float | None
    hidden: int
    flag: bool

    def act(self, k: int, x: Array) -> Array:
        """Activation k of x, which is limited first."""
        return self.functions[k](x if self.clip is None else st.clip(x, -self.clip, self.clip))

    def gates(self, x: Array) -> list[Array]:
        """x [N, G*H] as G parts [N, H]."""
        h = self.hidden
        return [x[:, k : k + h] for k in range(0, x.shape[1], h)]


# ---- one step of each ----------------------------------------------------------------------


def _rnn_step(cell: Cell, x: Array, state: State) -> State:
    (h,) = state
    both = cell.b[: cell.hidden] + cell.b[cell.hidden :]
    return (cell.act(0, x + h @ cell.r.T + both),)


def _gru_step(cell: Cell, x: Array, state: State) -> State:
    """Gates z, r, h."""
    (h,) = state
    n = cell.hidden
    wb, rb = cell.b[: 3 * n], cell.b[3 * n :]
    xz, xr, xh = cell.gates(x + wb)
    hz, hr = cell.gates(h @ cell.r[: 2 * n].T + rb[: 2 * n])
    z, r = cell.act(0, xz + hz), cell.act(0, xr + hr)
    last, bias = cell.r[2 * n :].T, rb[2 * n :]
    inner = r * (h @ last + bias) if cell.flag else (r * h) @ last + bias
    return ((1 - z) * cell.act(1, xh + inner) + z * h,)


def _lstm_step(cell: Cell, x: Array, state: State) -> State:
    """Gates i, o, f, c."""
    h, c = state
    n = cell.hidden
    i, o, f, g = cell.gates(x + h @ cell.r.T + (cell.b[: 4 * n] + cell.b[4 * n :]))
    if cell.p is not None:
        i, f = i + cell.p[:n] * c, f + cell.p[2 * n :] * c
    i = cell.act(0, i)
    f = 1 - i if cell.flag else cell.act(0, f)
    c = f * c + i * cell.act(1, g)
    if cell.p is not None:
        o = o + cell.p[n : 2 * n] * c
    return cell.act(0, o) * cell.act(2, c), c


# ---- over time -----------------------------------------------------------------------------


def _functions(node: Call, directions: int, default: tuple[str, ...]) -> list[tuple[Function, ...]]:
    """The activations of each direction; their parameters are taken in order by those with some."""
    names = node.strings("activations", list(default) * directions)
    if len(names) != len(default) * directions:
        raise ShapeError(f"activations: wants {len(default) * directions} names, got {names}")
    alphas, betas = (
        iter(node.floats("activation_alpha", [])),
        iter(node.floats("activation_beta", [])),
    )
    found = []
    for name in names:
        key = name.lower()
        if key in PLAIN:
            found.append(PLAIN[key])
        elif key in SHAPED:
            fn, alpha, beta = SHAPED[key]
            a = next(alphas, alpha)
            b = next(betas, beta) if key in ("affine", "scaledtanh", "hardsigmoid") else beta
            found.append(partial(fn, a=a, b=b))
        else:
            raise ShapeError(f"activations: {name!r} is unknown")
    size = len(default)
    return [tuple(found[k : k + size]) for k in range(0, len(found), size)]


def _run(
    node: Call,
    step: Callable[[Cell, Array, State], State],
    gates: int,
    default: tuple[str, ...],
    flag: str,
    x: Array,
    w: Array,
    r: Array,
    b: Array | None,
    lengths: Array | None,
    initial: list[Array | None],
    p: Array | None = None,
) -> tuple[Array, ...]:
    """(Y [T, D, N, H], the last states [D, N, H]); with layout 1 the batch comes first."""
    direction = node.string("direction", "forward")
    if direction not in DIRECTIONS:
        raise ShapeError(f"direction must be one of {', '.join(DIRECTIONS)}, got {direction!r}")
    turned = DIRECTIONS[direction]
    batch_first = bool(node.int("layout", 0))
    x = st.moveaxis(x, 0, 1) if batch_first else x
    if x.ndim != 3 or r.ndim != 3 or w.shape != (len(turned), gates * r.shape[2], x.shape[2]):
        raise ShapeError(
            f"X {x.type}, W {w.type} and R {r.type} do not fit {len(turned)} directions"
        )
    hidden = node.int("hidden_size", r.shape[2])
    if r.shape != (len(turned), gates * hidden, hidden):
        raise ShapeError(f"R must be [D, {gates}*H, H] with H = {hidden}, got {r.type}")
    time, n, _ = x.shape
    if time > STEPS:
        raise RangeError(f"at most {STEPS} steps are unrolled, got {time} in X {x.type}")
    functions = _functions(node, len(turned), default)
    clip = node.float("clip", None)
    ys, lasts = [], []
    for d, reverse in enumerate(turned):
        bias = st.zeros(2 * gates * hidden, x.dtype) if b is None else b[d]
        peephole = None if p is None else p[d]
        cell = Cell(w[d], r[d], bias, peephole, functions[d], clip, hidden, bool(node.int(flag, 0)))
        state = tuple(
            st.zeros((n, hidden), x.dtype) if s is None else (s[:, d] if batch_first else s[d])
            for s in initial
        )
        projected = (x.reshape(time * n, -1) @ cell.w.T).reshape(time, n, gates * hidden)
        rows: list[Array] = []
        for t in reversed(range(time)) if reverse else range(time):
            new = step(cell, projected[t], state)
            if lengths is None:
                state, row = new, new[0]
            else:
                running = st.expand_dims(lengths > t, 1)  # [N, 1]
                state = tuple(st.where(running, a, old) for a, old in zip(new, state, strict=True))
                row = st.where(running, new[0], 0.0)
            rows.append(row)
        ys.append(st.stack(rows[::-1] if reverse else rows))  # [T, N, H]
        lasts.append(state)
    y = st.stack(ys, axis=1)  # [T, D, N, H]
    final = [st.stack([s[k] for s in lasts]) for k in range(len(initial))]  # [D, N, H]
    if batch_first:
        return (y.transpose(2, 0, 1, 3), *(st.moveaxis(f, 0, 1) for f in final))
    return (y, *final)


@operator("RNN")
def rnn(
    node: Call, x: Array, w: Array, r: Array, b: Array | None = None,
    lengths: Array | None = None, h: Array | None = None,
) -> tuple[Array, ...]:  # fmt: skip
    return _run(node, _rnn_step, 1, ("Tanh",), "", x, w, r, b, lengths, [h])


@operator("GRU")
def gru(
    node: Call, x: Array, w: Array, r: Array, b: Array | None = None,
    lengths: Array | None = None, h: Array | None = None,
) -> tuple[Array, ...]:  # fmt: skip
    default = ("Sigmoid", "Tanh")
    return _run(node, _gru_step, 3, default, "linear_before_reset", x, w, r, b, lengths, [h])


@operator("LSTM")
def lstm(
    node: Call, x: Array, w: Array, r: Array, b: Array | None = None,
    lengths: Array | None = None, h: Array | None = None, c: Array | None = None,
    p: Array | None = None,
) -> tuple[Array, ...]:  # fmt: skip
    default = ("Sigmoid", "Tanh", "Tanh")
    return _run(node, _lstm_step, 4, default, "input_forget", x, w, r, b, lengths, [h, c], p)
