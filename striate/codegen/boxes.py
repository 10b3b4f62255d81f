"""From boxes of any rank to steps of `Map` and `Sum`: which axes merge, which one has the lanes.

Axes of size 1 vanish, neighbours merge where every array walks over both with one stride, and a
last axis that is a block of channels becomes a fixed size in the kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from striate.codegen.expression import Expression
from striate.codegen.kernel import STREAM, At, Buffer, Step, View, Word
from striate.codegen.loops import UNIT_ELEMENTS, Access, Map
from striate.codegen.pointwise import Instruction
from striate.codegen.reduce_loops import Sum
from striate.codegen.transposed_map import TransposedMap, chunks, transposed_axes
from striate.dtype import DType, compute_dtype
from striate.transform.views import dense_strides

SMALL = 4096  # fewer elements than this are left to one thread
LINE = 64  # bytes of a cache line
FIXED = (4, 8, 16)  # sizes of a last axis that become part of the kernel


@dataclass(frozen=True, slots=True)
class Operand:
    """An array as a step walks over it: one stride per axis of the box (0 where it is repeated)."""

    dtype: DType
    view: View


@dataclass(slots=True)
class _Axis:
    size: int
    strides: list[int]  # one per operand
    summed: bool = False


def _axes(shape: Sequence[int], views: Sequence[View], summed: Sequence[int] = ()) -> list[_Axis]:
    """The axes of a box without those of size 1, neighbours merged."""
    merged: list[_Axis] = []
    for axis, n in enumerate(shape):
        if n == 1:
            continue
        new = _Axis(n, [v.strides[axis] for v in views], axis in summed)
        if merged and merged[-1].summed == new.summed:
            before = merged[-1]
            if all(b == n * s for b, s in zip(before.strides, new.strides, strict=True)):
                merged[-1] = _Axis(before.size * n, new.strides, new.summed)
                continue
        merged.append(new)
    return merged


def _access(dtype: DType, strides: Sequence[int]) -> Access:
    steps = ["0" if s == 0 else "s" for s in strides]
    if strides[-1] == 1:
        steps[-1] = "1"
    return Access(dtype, "".join(steps))


def _words(operand: Operand, access: Access, strides: Sequence[int]) -> list[Word]:
    moving = [s for step, s in zip(access.steps, strides, strict=True) if step == "s"]
    return [address(operand.view, operand.dtype), *moving]


def address(view: View, dtype: DType) -> Word:
    """The address of a view's first element, as a word."""
    from_start = view.offset * dtype.itemsize
    return view.buffer if not from_start else At(view.buffer, from_start)


def map_step(
    shape: Sequence[int],
    inputs: Sequence[Operand],
    expression: Expression,
    outputs: Sequence[Operand],
    label: str = "",
) -> list[Step]:
    """out_j[i] = expression_j(inputs[i]) for every i in the box; no step if it is empty."""
    if 0 in shape:
        return []
    operands = [*inputs, *outputs]
    axes = _axes(shape, [o.view for o in operands])
    if not axes:
        axes = [_Axis(1, [1] * len(operands))]
    by_axis = [[a.strides[j] for a in axes] for j in range(len(operands))]
    count = len(inputs)
    across = transposed_axes([a.size for a in axes], by_axis[:count], by_axis[count:])
    if across is not None:
        rest = [a for i, a in enumerate(axes) if i not in across]
        order = [*rest, *(axes[i] for i in across)]
        return _transposed_step(order, inputs, expression, outputs, label)
    if len(axes) == 1 and axes[0].size % FIXED[-1] == 0:  # one long axis: whole vectors
        a = axes[0]
        axes = [_Axis(a.size // FIXED[-1], [s * FIXED[-1] for s in a.strides]),
                _Axis(FIXED[-1], a.strides)]  # fmt: skip
    if len(axes) == 1:
        axes.insert(0, _Axis(1, [0] * len(operands)))
    q = axes[-1].size
    strides = [[a.strides[j] for a in axes] for j in range(len(operands))]
    accesses = [_access(o.dtype, s) for o, s in zip(operands, strides, strict=True)]
    sizes: list[Word] = [a.size for a in axes]
    chunk_q = UNIT_ELEMENTS
    chunk_p = max(1, UNIT_ELEMENTS // q)
    kernel = Map(
        len(axes) - 2,
        q if q in FIXED else 0,
        tuple(accesses[: len(inputs)]),
        expression,
        tuple(accesses[len(inputs) :]),
        q in FIXED and _streams(prod(shape), q, outputs, strides[len(inputs) :]),
    )
    words = [*sizes, chunk_p, chunk_q]
    for o, access, s in zip(operands, accesses, strides, strict=True):
        words += _words(o, access, s)
    writes = tuple(o.view.buffer for o in outputs)
    single = prod(shape) < SMALL
    return [Step(kernel, tuple(words), writes, label or kernel.name, single=single)]


def _transposed_step(
    axes: Sequence[_Axis],
    inputs: Sequence[Operand],
    expression: Expression,
    outputs: Sequence[Operand],
    label: str,
) -> list[Step]:
    """A map whose last two axes are those of `transposed_axes`."""
    n, elements = len(inputs), prod(a.size for a in axes)
    operands = [*inputs, *outputs]
    p, q = axes[-2].size, axes[-1].size
    side = max(b for b in FIXED if b <= min(p, q))
    lines = q % side == 0 and all(side * o.dtype.itemsize % LINE == 0 for o in outputs)
    strides = [[a.strides[j] for a in axes] for j in range(len(operands))]
    accesses = [_access(o.dtype, s) for o, s in zip(operands, strides, strict=True)]
    for i, s in enumerate(strides[:n]):
        if s[-2] == 1:
            steps = accesses[i].steps
            accesses[i] = Access(accesses[i].dtype, f"{steps[:-2]}1{steps[-1]}")
    kernel = TransposedMap(
        len(axes) - 2,
        side,
        tuple(accesses[:n]),
        expression,
        tuple(accesses[n:]),
        lines and _streams(elements, side, outputs, strides[n:]),
    )
    words: list[Word] = [*(a.size for a in axes), *chunks(p, q)]
    for o, access, s in zip(operands, accesses, strides, strict=True):
        words += _words(o, access, s)
    writes = tuple(o.view.buffer for o in outputs)
    single = elements < SMALL
    return [Step(kernel, tuple(words), writes, label or kernel.name, single=single)]


def _streams(
    elements: int, q: int, outputs: Sequence[Operand], strides: Sequence[Sequence[int]]
) -> bool:
    """Whether outputs are so large that the caches forget them, and can be written past them."""
    if elements * sum(o.dtype.itemsize for o in outputs) < STREAM:
        return False
    return all(
        s[-1] == 1 and all(n % q == 0 for n in (o.view.offset, *s[:-1]))
        for o, s in zip(outputs, strides, strict=True)
    )


def fill_step(shape: Sequence[int], output: Operand, value: float | int) -> list[Step]:
    """The number everywhere in the box."""
    number = repr(float(value) if output.dtype.is_floating else int(value))
    literal = Instruction("literal", output.dtype, (), number)
    return map_step(shape, (), Expression((), (literal,), (0,)), (output,))


def copy_step(shape: Sequence[int], source: Operand, output: Operand) -> list[Step]:
    """The same values, walked over in another way."""
    return map_step(shape, (source,), Expression((source.dtype,), (), (0,)), (output,))


def sum_step(
    shape: Sequence[int],
    summed: Sequence[int],
    inputs: Sequence[Operand],
    expression: Expression,
    outputs: Sequence[Operand],
    label: str = "",
) -> list[Step]:
    """out_j[k] = sum over the summed axes of expression_j(inputs[k, r]).

    The views of outputs have a stride per axis of the box too; those of summed axes count nothing.
    """
    if any(n == 0 for a, n in enumerate(shape) if a not in summed):
        return []
    if any(shape[a] == 0 for a in summed):
        kept = [1 if a in summed else n for a, n in enumerate(shape)]
        return [s for o in outputs for s in fill_step(kept, o, 0)]
    if all(shape[a] == 1 for a in summed):
        return map_step(shape, inputs, expression, outputs, label)
    operands = [*inputs, *outputs]
    axes = _axes(shape, [o.view for o in operands], summed)
    last = axes.pop(_lane_axis(axes, len(inputs)))
    outer = [a for a in axes if not a.summed]
    reduced = [a for a in axes if a.summed]
    if not last.summed:  # the longest side by side sums last, but never the batch by parts
        reduced.sort(key=lambda a: min(abs(s) for s in a.strides[: len(inputs)]), reverse=True)
    images = shape[0] if 0 not in summed else 1  # what is decided must not depend on the batch
    lanes = last.size if not last.summed else 1
    units = max(1, prod(a.size for a in outer) * -(-lanes // FIXED[-1]) // images)
    work = prod(a.size for a in reduced) * (last.size if last.summed else 1)
    parts = 0
    if reduced and units < 16 and work > 4 * UNIT_ELEMENTS and reduced[0].size >= 4:
        parts = min(16, reduced[0].size)
    fixed = last.size if not last.summed and last.size in FIXED else 0
    order = [*outer, *reduced, last]
    n_in = len(inputs)
    in_strides = [[a.strides[j] for a in order] for j in range(n_in)]
    in_access = [_access(o.dtype, s) for o, s in zip(inputs, in_strides, strict=True)]
    kept_sizes = [a.size for a in outer]
    words: list[Word] = [*kept_sizes]
    targets: list[tuple[Operand, list[int]]] = []
    if parts:
        part_size = -(-reduced[0].size // parts)
        parts = -(-reduced[0].size // part_size)
        words += [parts, part_size]
        partial_shape = (*kept_sizes, parts, lanes)
        strides = list(dense_strides(partial_shape))
        for r in expression.results:
            dtype = compute_dtype(expression.dtype(r))
            buffer = Buffer(prod(partial_shape) * dtype.itemsize, "partial sums")
            targets.append((Operand(dtype, View(buffer, 0, tuple(strides))), strides))
    else:
        for j, o in enumerate(outputs, start=n_in):
            moves = [a.strides[j] for a in outer] + [0 if last.summed else last.strides[j]]
            targets.append((o, moves))
    out_access = [_access(o.dtype, s) for o, s in targets]
    kernel = Sum(
        len(outer) + bool(parts),
        len(reduced),
        not last.summed,
        fixed,
        bool(parts),
        tuple(in_access),
        expression,
        tuple(out_access),
    )
    words += [*(a.size for a in reduced), last.size]
    for o, access, s in zip(inputs, in_access, in_strides, strict=True):
        words += _words(o, access, s)
    for (o, s), access in zip(targets, out_access, strict=True):
        words += _words(o, access, s)
    writes = tuple(o.view.buffer for o, _ in targets)
    single = prod(shape) < SMALL
    step = Step(kernel, tuple(words), writes, label or kernel.name, single=single)
    if not parts:
        return [step]
    steps = [step]
    for j, (o, _) in enumerate(targets):  # the parts, in order
        out = outputs[j]
        back = [a.strides[n_in + j] for a in outer] + [
            0,
            0 if last.summed else last.strides[n_in + j],
        ]
        final = Operand(out.dtype, View(out.view.buffer, out.view.offset, tuple(back)))
        body = Expression((o.dtype,), (), (0,))
        if out.dtype is not o.dtype:
            body = Expression((o.dtype,), (Instruction("cast", out.dtype, (0,)),), (1,))
        axis = len(outer)
        steps += sum_step((*kept_sizes, parts, lanes), (axis,), (o,), body, (final,))
    return steps


def _lane_axis(axes: Sequence[_Axis], inputs: int) -> int:
    """The axis along which most inputs are contiguous; the last of equals."""

    def contiguous(i: int) -> tuple[int, int]:
        return sum(s == 1 for s in axes[i].strides[:inputs]), i

    return max(range(len(axes)), key=contiguous)
