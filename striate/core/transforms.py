"""Function transforms: `jit`, `grad`, `value_and_grad`, `vjp`, `jvp`.

Each runs a Python function on arrays, looks at the graph that it made, and makes another. None
knows an op by name, and they nest in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import wraps
from operator import attrgetter
from typing import Any, Generic, ParamSpec, TypeVar

import numpy as np

from striate.config import settings
from striate.core.array import (
    Array,
    Trace,
    asarray,
    current_trace,
    is_recording,
    recording,
    tracing,
    variables,
)
from striate.core.watching import Origins, watching
from striate.errors import DTypeError, ShapeError, StriateError
from striate.ir.graph import CONSTANT, Node, Value, constant, parameter
from striate.ir.types import TensorType
from striate.ops.movement import alias
from striate.ops.operand import as_node
from striate.pytree import TreeDef, flatten, tree_map, unflatten
from striate.runtime.plan import MAX_PLANS, Plan, plan_of
from striate.transform import autodiff
from striate.transform.canonical import rows

P = ParamSpec("P")
R = TypeVar("R")


# ---- derivatives ---------------------------------------------------------------------------


def _variables(op: str, where: str, tree: Any) -> tuple[list[Node], Any]:
    """Fresh nodes to differentiate by, and the tree of arrays that hold them.

    Raises:
        DTypeError: a leaf is not a floating array.
    """
    leaves, treedef = flatten(tree)
    nodes = []
    for leaf in leaves:
        x = asarray(leaf)
        if not x.dtype.is_floating:
            raise DTypeError(
                f"{op}: {where} has {x.type}; derivatives exist by floating values only: cast it "
                "or leave it out with argnums"
            )
        nodes.append(alias(x.node))
    return nodes, unflatten(treedef, [Array(n) for n in nodes])


def _output_nodes(op: str, tree: Any) -> tuple[list[Node], TreeDef]:
    leaves, treedef = flatten(tree)
    return [as_node(asarray(leaf)) for leaf in leaves], treedef


def _scalar(out: Any) -> Array:
    """The result of a function that is differentiated.

    Raises:
        ShapeError: it is not one floating number.
    """
    loss = asarray(out)
    if loss.shape != () or not loss.dtype.is_floating:
        raise ShapeError(
            f"grad: the function must return one floating number, got {loss.type}; reduce it "
            "with .sum() or .mean(), or use st.vjp"
        )
    return loss


def value_and_grad(
    f: Callable[..., Any], argnums: int | tuple[int, ...] = 0, *, has_aux: bool = False
) -> Callable[..., tuple[Any, Any]]:
    """A function that returns f's value and its gradient.

    Args:
        f: returns one floating number; with `has_aux`, a pair of it and anything else.
        argnums: by which positional arguments; each may be a tree of arrays.
        has_aux: `f` returns `(loss, aux)`; the value is then that pair.

    Raises:
        DTypeError: an argument of `argnums` holds integers or bools.
        ShapeError: the result is not a single number.

    >>> st.value_and_grad(lambda x: (x * x).sum())(st.asarray([1.0, 2.0]))
    (Array(5., dtype=float32), Array([2., 4.], dtype=float32))
    """
    which = (argnums,) if isinstance(argnums, int) else tuple(argnums)

    @wraps(f)
    def run(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        for i in which:
            if not -len(args) <= i < len(args):
                raise ShapeError(f"grad: argnums has {i}, the call has {len(args)} arguments")
        given = list(args)
        nodes: list[Node] = []
        defs = []
        for i in which:
            fresh, given[i] = _variables("grad", f"argument {i}", args[i])
            nodes += fresh
            defs.append((len(fresh), flatten(given[i])[1]))
        with recording():
            out = f(*given, **kwargs)
            loss = _scalar(out[0] if has_aux else out)
        seed = constant(np.ones((), loss.dtype.numpy))
        gradients = iter(Array(g) for g in autodiff.vjp([loss.node], nodes, [seed]))
        trees = tuple(unflatten(d, [next(gradients) for _ in range(n)]) for n, d in defs)
        value = (loss, out[1]) if has_aux else loss
        return value, trees[0] if isinstance(argnums, int) else trees

    return run


def grad(
    f: Callable[..., Any], argnums: int | tuple[int, ...] = 0, *, has_aux: bool = False
) -> Callable[..., Any]:
    """A function that returns f's gradient; with `has_aux`, the pair (gradient, aux).

    Raises:
        DTypeError: an argument of `argnums` holds integers or bools.
        ShapeError: the result is not a single number.

    >>> st.grad(st.grad(lambda x: x**3))(st.asarray(2.0)).item()
    12.0
    """
    both = value_and_grad(f, argnums, has_aux=has_aux)

    @wraps(f)
    def run(*args: Any, **kwargs: Any) -> Any:
        value, gradient = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return run


def gradients(f: Callable[[], Any], arrays: Any, *, has_aux: bool = False) -> tuple[Any, Any]:
    """f's value and its gradient by arrays that it reads from outside, such as weights.

    Args:
        f: takes nothing and returns one floating number; with `has_aux`, a pair of it and
            anything else.
        arrays: a tree of floating arrays.

    Raises:
        DTypeError: an array holds integers or bools.
        ShapeError: the result is not a single number.

    >>> w = st.asarray([1.0, 2.0])
    >>> st.gradients(lambda: (w * w).sum(), {"w": w})[1]
    {'w': Array([2., 4.], dtype=float32)}
    """
    leaves, treedef = flatten(arrays)
    for x in leaves:
        if not isinstance(x, Array) or not x.dtype.is_floating:
            what = x.type if isinstance(x, Array) else type(x).__name__
            raise DTypeError(f"gradients: derivatives exist by floating arrays only, got {what}")
    with recording(), variables(leaves) as nodes:
        out = f()
        loss = _scalar(out[0] if has_aux else out)
    seed = constant(np.ones((), loss.dtype.numpy))
    found = [Array(g) for g in autodiff.vjp([loss.node], nodes, [seed])]
    return ((loss, out[1]) if has_aux else loss), unflatten(treedef, found)


def vjp(f: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """f's value and its pull-back: `pull(g)` is g times the Jacobian, one tree per primal.

    Raises:
        DTypeError: a primal holds integers or bools.
        ShapeError: `g` has not the structure and shapes of the output.

    >>> y, pull = st.vjp(lambda x: x * x, st.asarray([1.0, 2.0]))
    >>> pull(st.asarray([1.0, 10.0]))[0]
    Array([ 2., 40.], dtype=float32)
    """
    pairs = [_variables("vjp", f"primal {i}", p) for i, p in enumerate(primals)]
    with recording():
        out = f(*(tree for _, tree in pairs))
        outputs, outdef = _output_nodes("vjp", out)

    def pull(g: Any) -> tuple[Any, ...]:
        leaves, gdef = flatten(g)
        if gdef != outdef:
            raise ShapeError("vjp: the cotangent must have the structure of the output")
        cotangents = [as_node(asarray(leaf)) for leaf in leaves]
        for want, got in zip(outputs, cotangents, strict=True):
            if want.type != got.type:
                raise ShapeError(f"vjp: the output is {want.type}, its cotangent {got.type}")
        flat = [n for nodes, _ in pairs for n in nodes]
        gradients = iter(autodiff.vjp(outputs, flat, cotangents))
        return tuple(tree_map(lambda _: Array(next(gradients)), tree) for _, tree in pairs)

    return unflatten(outdef, [Array(n) for n in outputs]), pull


def jvp(f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """f's value and its derivative in a direction: the Jacobian times the tangents.

    Raises:
        DTypeError: a primal holds integers or bools.
        ShapeError: the tangents have not the structure and shapes of the primals.

    >>> st.jvp(lambda x: x * x, (st.asarray(3.0),), (st.asarray(1.0),))
    (Array(9., dtype=float32), Array(6., dtype=float32))
    """
    pairs = [_variables("jvp", f"primal {i}", p) for i, p in enumerate(primals)]
    flat = [n for nodes, _ in pairs for n in nodes]
    leaves, tangentdef = flatten(tuple(tangents))
    if tangentdef != flatten(tuple(tree for _, tree in pairs))[1]:
        raise ShapeError("jvp: the tangents must have the structure of the primals")
    directions = [as_node(asarray(leaf)) for leaf in leaves]
    for want, got in zip(flat, directions, strict=True):
        if want.type != got.type:
            raise ShapeError(f"jvp: a primal is {want.type}, its tangent {got.type}")
    with recording():
        outputs, outdef = _output_nodes("jvp", f(*(tree for _, tree in pairs)))
    derivative = autodiff.jvp(outputs, flat, directions)
    return tuple(unflatten(outdef, [Array(n) for n in nodes]) for nodes in (outputs, derivative))


# ---- jit -----------------------------------------------------------------------------------

_epoch = [0]


def invalidate() -> None:
    """Forget every trace: Python state that a traced function may have read has changed."""
    _epoch[0] += 1


@dataclass
class _Traced:
    """What one run of a function on symbols made.

    Attributes:
        trace: what it reads and assigns of the outside.
        origins: the layers that made its nodes.
        symbols: the parameter of each argument that is data, by its number.
        structure: the output tree; `parts` are its leaves, each with its node if it is an array.
        results: the nodes of the outputs, and then the new values of what it assigns.
    """

    trace: Trace
    origins: Origins
    symbols: dict[int, Node]
    structure: TreeDef
    parts: list[tuple[Any, Node | None]]
    results: list[Node]


@dataclass
class _Compiled:
    """One trace, compiled.

    Attributes:
        plan: the executable; its outputs are those of the function and then the new values of
            `written`.
        inputs: the plan's inputs, as far as they are known; None for the others.
        arguments: (number of an input, of the argument that gives it).
        captured: the outside arrays, `types` their types, `places` which inputs they give.
        state: the numbers of the inputs that no argument gives and the function does not assign.
        structure: the output tree; `outputs` are its leaves, an index into the plan's outputs for
            an array, and the leaf itself in a 1-tuple for anything else.
        results: the types of the plan's outputs.
        origins: the layers that were called; `rows` are those of the plan's rows.
        seen: the nodes that the outside arrays had at the last call, and the inputs with them.
    """

    plan: Plan | None
    inputs: list[Value | None]
    arguments: list[tuple[int, int]]
    captured: list[Array]
    types: list[TensorType]
    places: list[tuple[int, int]]
    state: list[int]
    structure: TreeDef
    outputs: list[int | tuple[Any]]
    results: list[TensorType]
    written: list[Array]
    origins: Origins
    rows: list[Any]
    seen: tuple[list[Node], list[Value | None]] | None = None

    def values(self) -> list[Any] | None:
        """The plan's inputs, all but the arguments; None if an outside array has another type.

        Outside arrays that hold the nodes of the last call are looked at in one comparison. Those
        that each call assigns never do, and their old values are not to be kept alive.
        """
        seen, nodes = self.seen, list(map(_node_of, self.captured))
        if seen is not None and seen[0] == nodes:
            return seen[1].copy()
        if not all(n.op is CONSTANT for n in nodes):
            nodes = [a.realize()._node for a in self.captured]
        if [n.type for n in nodes] != self.types:
            return None
        inputs = self.inputs.copy()
        for place, i in self.places:
            inputs[place] = nodes[i].data
        if not self.written:
            self.seen = nodes, inputs
        return inputs.copy()


class Jit(Generic[P, R]):
    """A function that is traced once per argument types and then run as one plan."""

    def __init__(self, f: Callable[P, R]) -> None:
        self.f = f
        self._compiled: dict[Hashable, _Compiled] = {}
        wraps(f)(self) if hasattr(f, "__name__") else None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the plan for arguments of these types, tracing the function if it is the first."""
        if current_trace() is not None or is_recording():
            return self.f(*args, **kwargs)  # part of the outer plan, or of the derivative's graph
        return self._run(*self._prepare(args, kwargs))

    def profile(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Run the plan for these arguments and time each of its steps; nothing is assigned.

        Returns:
            A profile: `rows` with the kernel, seconds, multiply-adds and bytes of each step, and
            the names of the layers that it computes; `seconds` in all; its text is a table.

        Raises:
            StriateError: the backend is not `native`.

        >>> f = st.jit(lambda x: (x * x).sum())
        >>> [row.kernel for row in f.profile(st.ones(3)).rows]
        ['sum_multiply_f32']
        """
        done, values = self._prepare(args, kwargs)
        if done.plan is None:
            raise StriateError("profile: the function computes nothing")
        return done.plan.profile(values, done.state, done.origins.names(done.rows))

    def _prepare(self, args: Any, kwargs: Any) -> tuple[_Compiled, list[Value]]:
        """What to run, and its inputs."""
        chosen = settings()
        now = (_epoch[0], chosen.backend, chosen.target, chosen.precision)
        if not kwargs and all(isinstance(a, Array) for a in args):
            leaves: Sequence[Any] = args
            key: Hashable = (*now, *[a._node.type for a in args])
            dynamic: Sequence[Array | None] = args
        else:
            leaves, treedef = flatten((args, kwargs))
            dynamic = [_as_argument(leaf) for leaf in leaves]
            known = [leaf if x is None else x.type for leaf, x in zip(leaves, dynamic, strict=True)]
            key = (*now, treedef, *known)
        done = self._compiled.get(key)
        values = None if done is None else done.values()
        while done is None or values is None:
            treedef = flatten((args, kwargs))[1]
            done = self._compiled[key] = self._compile(self._follow(treedef, leaves, dynamic))
            values = done.values()
        for place, i in done.arguments:
            values[place] = _value_of(dynamic[i])
        return done, values

    def _follow(
        self, treedef: TreeDef, leaves: Sequence[Any], dynamic: Sequence[Array | None]
    ) -> _Traced:
        """Run the function on symbols."""
        origins = Origins()
        with tracing() as trace, watching(origins):
            symbols = {i: parameter(x.type) for i, x in enumerate(dynamic) if x is not None}
            args, kwargs = unflatten(
                treedef,
                [Array(symbols[i]) if i in symbols else leaf for i, leaf in enumerate(leaves)],
            )
            out = self.f(*args, **kwargs)
            leaves, structure = flatten(out)
            parts = [(x, x.node if isinstance(x, Array) else None) for x in leaves]
        results = [n for _, n in parts if n is not None] + list(trace.written.values())
        return _Traced(trace, origins, symbols, structure, parts, results)

    def _compile(self, traced: _Traced) -> _Compiled:
        known = list(self._compiled)  # other threads may do the same
        for i, k in enumerate(known):
            if k[0] != _epoch[0] or i <= len(known) - MAX_PLANS:  # type: ignore[index]
                self._compiled.pop(k, None)
        trace, results = traced.trace, traced.results
        plan, inputs = plan_of(results) if results else (None, [])
        number = {n: place for place, n in enumerate(inputs)}
        captured = list(trace.captured)
        places = [(number[n], i) for i, n in enumerate(trace.captured.values()) if n in number]
        counter = iter(range(len(results)))
        return _Compiled(
            plan,
            [n.data for n in inputs],
            [(number[n], i) for i, n in traced.symbols.items() if n in number],
            captured,
            [a.type for a in captured],
            places,
            [
                *(place for place, n in enumerate(inputs) if n.data is not None),
                *(place for place, i in places if captured[i] not in trace.written),
            ],
            traced.structure,
            [(leaf,) if n is None else next(counter) for leaf, n in traced.parts],
            [n.type for n in results],
            list(trace.written),
            traced.origins,
            [n.origin for n in rows(results)],
        )

    def _run(self, done: _Compiled, values: list[Value]) -> R:
        results = [] if done.plan is None else done.plan(values, done.state)
        made = list(map(constant, results, done.results))
        if done.written:
            for array, node in zip(done.written, made[-len(done.written) :], strict=True):
                array._node = node
        leaves = [out[0] if isinstance(out, tuple) else Array(made[out]) for out in done.outputs]
        result: R = unflatten(done.structure, leaves)
        return result


_node_of = attrgetter("_node")


def _value_of(array: Array | None) -> Any:
    """The value of an array, without any history."""
    assert array is not None
    node = array._node
    return node.data if node.op is CONSTANT else array.realize()._node.data


def _as_argument(leaf: Any) -> Array | None:
    """The array of an argument that is data; None for one that is part of the key."""
    if isinstance(leaf, Array):
        return leaf
    if isinstance(leaf, np.ndarray | np.generic) or (
        isinstance(leaf, int | float) and not isinstance(leaf, bool)
    ):
        return Array(as_node(leaf))
    return None


def jit(f: Callable[P, R]) -> Jit[P, R]:
    """`f`, run as one compiled plan.

    The function is traced once per structure, shapes and dtypes of its arguments. Arrays and
    numbers are data; strings, bools and None are part of the key. Arrays from outside that `f`
    reads are inputs too, with the value that they have at each call; arrays from outside that it
    assigns are updated by the call. Other Python state is read once, when `f` is traced.

    Raises:
        TraceError: `f` asks for a value (`if x > 0`, `float(x)`), when it is called.

    >>> step = st.jit(lambda x, scale: (x * scale).sum())
    >>> step(st.ones(3), 2.0).item(), step(st.ones(3), 3.0).item()
    (6.0, 9.0)
    """
    return Jit(f)
