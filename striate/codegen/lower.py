"""From a graph to steps: every group of nodes becomes kernels with their words.

Views cost nothing: a step walks over the memory of their base. What an op needs dense is copied
where it first is. Each op that is no view, no elementwise function and no sum has one entry in
`LOWERINGS`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from functools import partial

from striate.codegen.boxes import Operand, copy_step, map_step, sum_step
from striate.codegen.epilogue import Epilogue
from striate.codegen.expression import Expression
from striate.codegen.kernel import Buffer, Step, View
from striate.codegen.layouts import TargetLayouts
from striate.codegen.op_steps import LOWERINGS, blocked_conv, blocked_max_with_index
from striate.codegen.pointwise import Instruction
from striate.dtype import float32
from striate.errors import StriateError
from striate.ir.graph import CONSTANT, PARAMETER, Graph, Node, Value, topological
from striate.ir.types import TensorType
from striate.ops.index import index_error
from striate.ops.movement import BROADCAST_TO
from striate.ops.pool import LAST_WRITER, writer_error
from striate.target import Target
from striate.transform.blocks import block_channels
from striate.transform.factor import factor_sums
from striate.transform.fold import fold_strides
from striate.transform.fuse import Fusion, Group
from striate.transform.lift import lift_views
from striate.transform.schedule import schedule
from striate.transform.views import dense_strides, is_dense, view_through

PASSES: tuple[tuple[str, Callable[[Graph, Target], Graph]], ...] = (
    ("factor_sums", lambda graph, target: factor_sums(graph)),
    ("fold_strides", lambda graph, target: fold_strides(graph, target.lanes)),
    ("block_channels", lambda graph, target: block_channels(graph, TargetLayouts(target))),
    ("lift_views", lambda graph, target: lift_views(graph)),
)


@dataclass(slots=True)
class Program:
    """What a plan runs.

    Attributes:
        steps: the kernel calls, in order.
        inputs: the memory of each input of the graph.
        outputs: the memory of each output; it may be that of an input or a constant.
        results: the types of the outputs.
        constants: memory with content that is known.
        faults: per op that can meet a bad index the memory in which it says so, and what to raise.
        largest: the op and the type of the largest value.
    """

    steps: list[Step] = field(default_factory=list)
    inputs: list[Buffer] = field(default_factory=list)
    outputs: list[Buffer] = field(default_factory=list)
    results: list[TensorType] = field(default_factory=list)
    constants: dict[Buffer, Value] = field(default_factory=dict)
    faults: list[tuple[Buffer, Callable[[int], IndexError]]] = field(default_factory=list)
    largest: tuple[str, TensorType] = ("", TensorType((), float32))


class Lowering:
    """The state of one lowering; what the functions of `LOWERINGS` use."""

    def __init__(self, graph: Graph, target: Target) -> None:
        """Lower a graph that the passes of `PASSES` have been through."""
        self.target = target
        self.program = Program()
        self.fusion = Fusion(graph)
        self._memory: dict[Node, Buffer] = {}
        self._copies: dict[Node, Buffer] = {}
        self._origins: tuple[Hashable, ...] = ()
        for x in graph.inputs:
            self.program.inputs.append(self.allocate(x))
        outputs = [self.fusion.base(y) for y in graph.outputs]
        for group in schedule(self.fusion.groups(), outputs):
            self._origins = tuple(dict.fromkeys(n.origin for n in self.fusion.members(group)))
            self._lower(group)
        self.program.outputs = [self._memory[y] for y in outputs]
        self.program.results = [y.type for y in graph.outputs]
        full = [n for n in self.fusion.order if n.op is not BROADCAST_TO]
        if full:
            n = max(full, key=lambda n: n.type.nbytes)
            self.program.largest = (n.op.name, n.type)

    # ---- memory ------------------------------------------------------------------------

    def allocate(self, n: Node) -> Buffer:
        """The memory of a node's own value."""
        found = self._memory.get(n)
        if found is None:
            found = self._memory[n] = Buffer(n.type.nbytes, repr(n))
            if n.op is CONSTANT:
                assert n.data is not None
                self.program.constants[found] = n.data
        return found

    def view(self, n: Node) -> View:
        """How to walk over a node's value, axis by axis."""
        v = self.fusion.views[n]
        return View(self.allocate(v.base), v.offset, v.strides)

    def operand(self, n: Node) -> Operand:
        """A node's value as an operand of loops."""
        return Operand(n.type.dtype, self.view(n))

    def dense(self, n: Node) -> Buffer:
        """A buffer that holds a node's value in row-major order, copied if there is none."""
        v = self.fusion.views[n]
        if v.offset == 0 and is_dense(n.shape, v.strides) and v.base.type.size == n.type.size:
            return self.allocate(v.base)
        found = self._copies.get(n)
        if found is None:
            found = self._copies[n] = Buffer(n.type.nbytes, f"copy of {n!r}")
            to = Operand(n.type.dtype, View(found, 0, dense_strides(n.shape)))
            self.add(copy_step(n.shape, self.operand(n), to))
        return found

    def fault(self, n: Node) -> Buffer:
        """i64[2] that a kernel sets to (1, index) where an index is out of range."""
        buffer = Buffer(16, f"fault of {n!r}")
        known = (n.attrs,) if n.op is LAST_WRITER else (n.op.name, n.attrs)
        error = writer_error if n.op is LAST_WRITER else index_error
        self.program.faults.append((buffer, partial(error, *known)))
        return buffer

    def add(self, steps: list[Step]) -> None:
        """Append steps to the program."""
        self.program.steps += [replace(s, origins=self._origins) for s in steps]

    # ---- groups ------------------------------------------------------------------------

    def _lower(self, group: Group) -> None:
        if group.kind in {"map", "sum"}:
            self._loops(group)
            return
        n, *twins = group.outputs
        if group.conv is not None:
            self._convolution(group.conv, n)
            return
        if twins:
            blocked_max_with_index(self, group.outputs)
        elif n.op is PARAMETER or n.op is CONSTANT:
            self.allocate(n)
        elif group.kind == "copy":
            self._copy(n)
        else:
            lowering = LOWERINGS.get(n.op.name)
            if lowering is None:
                raise StriateError(f"compiler: no kernel for {n!r}")
            lowering(self, n, self.allocate(n))

    def _copy(self, n: Node) -> None:
        (x,) = n.inputs
        through = view_through(n, self.fusion.views[x])
        shape = x.shape if through is None else n.shape
        source = self.view(x)
        if through is not None:
            source = View(self.allocate(through.base), through.offset, through.strides)
        to = Operand(n.type.dtype, View(self.allocate(n), 0, dense_strides(shape)))
        self.add(copy_step(shape, Operand(x.type.dtype, source), to))

    def _convolution(self, sums: Node, n: Node) -> None:
        """A convolution whose sums become `n` before they are stored."""
        conv = self.fusion.base(sums)
        others = [x for x in self.fusion.leaves([n]) if x is not sums]
        kinds = [self.fusion.epilogue_kind(x, n, conv) for x in others]
        epilogue = Epilogue(
            expression_of([n], [sums, *others]),
            tuple(k for k in kinds if k is not None),
            tuple(x.type.dtype for x in others),
        )
        operands = [self.allocate(self.fusion.base(x)) for x in others]
        blocked_conv(self, conv, self.allocate(n), epilogue, operands)

    def _loops(self, group: Group) -> None:
        members = group.outputs
        leaves = self.fusion.leaves(members, known=members)
        expression = expression_of(members, leaves, summed=group.kind == "sum")
        inputs = [self.operand(x) for x in leaves]
        if group.kind == "map":
            outputs = [
                Operand(n.type.dtype, View(self.allocate(n), 0, dense_strides(n.shape)))
                for n in members
            ]
            self.add(map_step(group.box, inputs, expression, outputs))
            return
        axes = members[0].attrs
        outputs = []
        for n in members:
            strides = iter(dense_strides(n.shape))
            steps = tuple(0 if a in axes else next(strides) for a in range(len(group.box)))
            outputs.append(Operand(n.type.dtype, View(self.allocate(n), 0, steps)))
        self.add(sum_step(group.box, axes, inputs, expression, outputs))


def expression_of(roots: list[Node], leaves: list[Node], summed: bool = False) -> Expression:
    """The elementwise nodes between leaves and roots as instructions; of sums, what is summed."""
    number = {x: i for i, x in enumerate(leaves)}
    body: list[Instruction] = []
    wanted = [r.inputs[0] for r in roots] if summed else roots
    for n in topological(wanted, stop=number.__contains__):
        if n in number:
            continue
        args = tuple(number[x] for x in n.inputs)
        number[n] = len(leaves) + len(body)
        body.append(Instruction(n.op.name, n.type.dtype, args))
    results = []
    for r, x in zip(roots, wanted, strict=True):
        i = number[x]
        if summed and x.type.dtype is not r.type.dtype:
            i = len(leaves) + len(body)
            body.append(Instruction("cast", r.type.dtype, (number[x],)))
        results.append(i)
    return Expression(tuple(x.type.dtype for x in leaves), tuple(body), tuple(results))
