"""Which nodes are computed together: a graph as groups, each of which becomes one kernel.

Elementwise nodes are inlined into what reads them; a node is kept in memory only where it must be
(an output, an operand of another kind of op) or where computing it again would read more memory
than its value. A sum takes the elementwise nodes before it along. Groups over one box that read the
same values join: one pass over memory gives several results.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from striate.ir.graph import CONSTANT, PARAMETER, Graph, Node, topological
from striate.ops.movement import SUM
from striate.transform.blocked_pool import BLOCKED_ARGMAX_POOL, BLOCKED_MAX_POOL
from striate.transform.blocks import BLOCKED_CONV
from striate.transform.views import StridedView, is_dense, reshaped, view_through, whole

CHEAP = 10  # what may be computed twice rather than written and read
COSTS = {"divide": 4, "sqrt": 4, "rsqrt": 5, "reciprocal": 4, "remainder": 8, "floor_divide": 6}
SIMPLE = {
    "add", "subtract", "multiply", "negative", "abs", "square", "maximum", "minimum", "where",
    "cast", "equal", "not_equal", "less", "less_equal", "logical_and", "logical_or", "logical_not",
    "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_invert", "isnan", "isinf",
    "sign", "signbit", "floor", "ceil", "trunc", "round",
}  # fmt: skip
LARGEST = 160  # instructions of a kernel, roughly: more would live in memory, not in registers
MOST = 6  # results of a kernel
TWINS = {BLOCKED_ARGMAX_POOL, BLOCKED_MAX_POOL}  # one pass gives both
NEAR = 6  # how many groups back a node may join one that only shares an input


@dataclass(slots=True, eq=False)
class Group:
    """Nodes that one kernel writes.

    Attributes:
        kind: `map` (elementwise), `sum` (over the same axes of one box), `copy` (a view that is
            written in full), `conv` (elementwise on what a convolution has summed, before it is
            stored), `op` (anything else: one node, or two of `TWINS` with the same operands).
        outputs: the nodes.
        reads: the nodes in memory that it needs (bases of views).
        cost: instructions, roughly.
        conv: the node of a `conv` that is its convolution, or the same in another shape.
    """

    kind: str
    outputs: list[Node]
    reads: set[Node] = field(default_factory=set)
    cost: int = 0
    conv: Node | None = None

    @property
    def box(self) -> tuple[int, ...]:
        """The shape of the loops."""
        node = self.outputs[0]
        return node.inputs[0].shape if self.kind == "sum" else node.shape


class Fusion:
    """A graph with the decision what is kept in memory.

    Attributes:
        graph: the graph.
        kept: the elementwise nodes that are written to memory.
        copied: nodes that are views but are written in full: outputs that are not the memory of
            another value, and reshapes that no stride describes.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.order = graph.nodes()
        self.users: dict[Node, list[Node]] = {n: [] for n in self.order}
        for n in self.order:
            for x in dict.fromkeys(n.inputs):
                self.users[x].append(n)
        self._outputs = {*graph.outputs}  # and the nodes in whose memory they stand
        self.copied: set[Node] = set()
        self.views: dict[Node, StridedView] = {}
        for n in self.order:
            self._place(n)
        self.cost: dict[Node, int] = {}
        self.kept = self._required()
        self._keep_shared()

    # ---- where values live -------------------------------------------------------------

    def _place(self, n: Node) -> None:
        of = self.views.get(n.inputs[0]) if n.inputs else None
        view = None if of is None or n.op.elementwise else view_through(n, of)
        if view is None and n.op.name in ("reshape", "alias", "stop_gradient"):
            self.copied.add(n)
        if n in self._outputs and view is not None and not self._lent(n, view):
            self.copied.add(n)
            view = None
        self.views[n] = whole(n) if view is None else view

    def _lent(self, n: Node, view: StridedView) -> bool:
        """Whether an output that is a view is the whole memory of a value that is computed, and
        that no other output has.
        """
        base = view.base
        computed = base.op is not PARAMETER and base.op is not CONSTANT
        dense = not view.offset and is_dense(n.shape, view.strides)
        if not computed or not dense or base.type.size != n.type.size or base in self._outputs:
            return False
        self._outputs.add(base)
        return True

    def base(self, n: Node) -> Node:
        """The node in whose memory the value of `n` stands."""
        return self.views[n].base

    def is_inlined(self, n: Node) -> bool:
        """Whether `n` is computed wherever it is read."""
        return n.op.elementwise and n not in self.kept

    def _required(self) -> set[Node]:
        kept = {n for n in self._outputs if n.op.elementwise}
        for n in self.order:
            if not n.op.elementwise and n.op is not SUM:
                kept |= {x for x in n.inputs if x.op.elementwise}
        return kept

    def _large(self, x: Node, box: int) -> set[Node]:
        """The memory of the size of the box that reading `x` means."""
        view = self.views[x]
        repeated = any(s == 0 and n > 1 for s, n in zip(view.strides, x.shape, strict=True))
        return set() if repeated or view.base.type.size < box else {view.base}

    def _keep_shared(self) -> None:
        large: dict[Node, set[Node]] = {}
        cost = self.cost
        for n in self.order:
            if not n.op.elementwise:
                if n.op is SUM:
                    (x,) = n.inputs
                    cost[n] = 1 + (cost[x] if self.is_inlined(x) else 0)
                continue
            large[n], cost[n] = set(), operation_cost(n)
            for x in n.inputs:
                if self.is_inlined(x):
                    large[n] |= large[x]
                    cost[n] += cost[x]
                else:
                    large[n] |= self._large(x, n.type.size)
            if cost[n] > LARGEST:
                self.kept.add(n)
        roots: dict[Node, set[Node]] = {}
        for n in reversed(self.order):
            if not self.is_inlined(n):
                continue
            into: set[Node] = set()
            for u in self.users[n]:
                into |= {u} if not self.is_inlined(u) else roots[u]
            if len(into) > 1 and (len(large[n]) > 1 or cost[n] > CHEAP):
                self.kept.add(n)
            roots[n] = into
        self.roots = roots  # where an inlined node is computed

    # ---- groups ------------------------------------------------------------------------

    def members(self, group: Group) -> list[Node]:
        """All nodes that a group computes, its convolution first."""
        if group.kind not in ("map", "sum", "conv"):
            return group.outputs
        outside = {*self.leaves(group.outputs, known=group.outputs)}
        nodes = topological(group.outputs, stop=outside.__contains__)
        conv = [] if group.conv is None else [self.base(group.conv)]
        return [*conv, *(n for n in nodes if n not in outside)]

    def leaves(self, roots: Iterable[Node], known: Iterable[Node] = ()) -> list[Node]:
        """What a kernel that computes `roots` reads: the nodes where inlining ends."""
        found: dict[Node, None] = {}
        stop = {*known}
        seen: set[Node] = set()
        stack = [x for r in roots for x in reversed(r.inputs)]
        while stack:
            x = stack.pop()
            if x in seen:
                continue
            seen.add(x)
            if x in stop:
                continue
            if self.is_inlined(x):
                stack.extend(reversed(x.inputs))
            else:
                found[x] = None
        return [*found]

    def groups(self) -> list[Group]:
        """Every kernel of the graph, in an order in which each follows what it reads."""
        found: list[Group] = []
        at: dict[Node, int] = {}
        alike: dict[Hashable, list[int]] = {}  # the groups that loop in the same way
        twins: dict[Hashable, int] = {}
        for n in self.order:
            kind = self._kind(n)
            if kind is None:
                continue
            if n.op in TWINS:
                first = twins.setdefault((n.inputs, n.attrs), len(found))
                if first < len(found):
                    at[n] = first
                    found[first].outputs.append(n)
                    continue
            fused = kind in ("map", "sum")
            leaves = self.leaves([n]) if fused else [*n.inputs]
            reads = {self.base(x) for x in leaves}
            loops = (kind, n.inputs[0].shape, n.attrs) if kind == "sum" else (kind, n.shape)
            same = alike.setdefault(loops, []) if fused else []
            joined = self._join(n, kind, leaves, found, at, same) if fused else None
            if joined is None:
                at[n] = len(found)
                same.append(len(found))
                found.append(Group(kind, [n], reads, self.cost[n] if fused else 0))
            else:
                at[n] = joined
                group = found[joined]
                group.outputs.append(n)
                group.cost += self.cost[n]
                group.reads |= reads - {*group.outputs}
        self._drop_private(found)
        return self._with_convolutions(found)

    def _drop_private(self, found: list[Group]) -> None:
        """What only the kernel that computes it reads is not written."""
        read = {x for g in found for x in g.reads}
        for group in found:
            for n in [x for x in group.outputs if x.op.elementwise and x not in self.copied]:
                if n in read or n in self._outputs or len(group.outputs) == 1:
                    continue
                group.outputs.remove(n)
                self.kept.discard(n)
                here = {*group.outputs}
                self.roots[n] = here
                self.roots |= {x: here for x, into in self.roots.items() if n in into}

    def _with_convolutions(self, found: list[Group]) -> list[Group]:
        """The groups, with each convolution that only one of them reads made a part of it."""
        taken: set[Node] = set()
        for group in found:
            if group.kind != "map" or len(group.outputs) != 1:
                continue
            (root,) = group.outputs
            leaves = self.leaves([root])
            chosen = next((x for x in reversed(leaves) if self._feeds_only(x, root)), None)
            if chosen is None:
                continue
            conv = self.base(chosen)
            if [self.base(x) for x in leaves].count(conv) > 1:
                continue
            if None in [self.epilogue_kind(x, root, conv) for x in leaves]:
                continue
            group.kind, group.conv = "conv", chosen
            group.reads.discard(conv)
            group.reads |= {self.base(x) for x in conv.inputs}
            taken.add(conv)
        return [g for g in found if g.outputs[0] not in taken]

    def _feeds_only(self, x: Node, root: Node) -> bool:
        """Whether `x` is a convolution, in whatever shape, that nothing reads but the expression
        of `root`.
        """
        view = self.views[x]
        conv = view.base
        if conv.op is not BLOCKED_CONV or x.shape != root.shape or conv in self._outputs:
            return False
        if x.type.size != conv.type.size or view.offset or not is_dense(x.shape, view.strides):
            return False
        return all(
            u is root or (self.is_inlined(u) and self.roots[u] == {root})
            for u in self._readers(conv)
        )

    def _readers(self, n: Node) -> Iterator[Node]:
        """Who reads a node's memory, as it is or through views."""
        for u in self.users[n]:
            if u in self.views and self.base(u) is self.base(n):
                yield from self._readers(u)
            else:
                yield u

    def epilogue_kind(self, x: Node, root: Node, conv: Node) -> str | None:
        """How an epilogue in the blocks of a convolution reads `x`: per `channel`, as a `scalar` or
        a `tensor`.
        """
        view, shape = self.views[x], conv.shape
        strides = reshaped(root.shape, view.strides, shape)
        if view.offset or x.shape != root.shape or strides is None:
            return None
        if is_dense(shape, strides):
            return "tensor"
        moving = [(a, s) for a, s in enumerate(strides) if s and shape[a] > 1]
        if not moving:
            return "scalar"
        b = shape[-1]
        channels = {1: b, conv.ndim - 1: 1}
        wanted = [(a, channels[a]) for a in (1, conv.ndim - 1) if shape[a] > 1]
        size = shape[1] * b
        return "channel" if moving == wanted and view.base.type.size == size else None

    def _kind(self, n: Node) -> str | None:
        if n.op is PARAMETER or n.op is CONSTANT:
            return "op" if n in self._outputs else None
        if n in self.copied:
            return "copy"
        if n in self.kept:
            return "map"
        if n.op is SUM:
            return "sum"
        return None if n.op.elementwise or self.base(n) is not n else "op"

    def _join(
        self,
        n: Node,
        kind: str,
        leaves: Sequence[Node],
        found: list[Group],
        at: dict[Node, int],
        same: Sequence[int],
    ) -> int | None:
        """The group among `same`, which loop as `n` does, that can take `n` along, if any can."""
        latest = max((at[self.base(x)] for x in leaves if self.base(x) in at), default=-1)
        bases = {self.base(x) for x in leaves if self._large(x, max(1, n.type.size))}
        for i in reversed(same):
            if i < latest:
                break
            group = found[i]
            if len(group.outputs) >= MOST or group.cost + self.cost[n] > LARGEST:
                continue
            members = {*group.outputs}
            inside = [x for x in leaves if self.base(x) in members]
            if kind == "sum" and inside:
                continue
            if any(x not in members for x in inside):  # read through a view: not the same place
                continue
            outside = [x for x in leaves if x not in inside and self.base(x) in at]
            if any(at[self.base(x)] >= i for x in outside):
                continue
            if inside or (len(found) - i <= NEAR and bases & group.reads):
                return i
        return None


def operation_cost(n: Node) -> int:
    """Vector instructions, roughly."""
    return 1 if n.op.name in SIMPLE else COSTS.get(n.op.name, 14)
