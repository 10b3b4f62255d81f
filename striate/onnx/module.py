"""`OnnxModule`: a model from a file as a module."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from striate.core.array import Array, asarray
from striate.core.transforms import jit
from striate.errors import DTypeError, ShapeError
from striate.ir.graph import constant
from striate.nn.module import Module, Parameter
from striate.onnx.model import Graph, Model, ModelError, Tensor
from striate.onnx.operators.half import rounded_to_half
from striate.onnx.parts import Parts, divided, fixed_names, fixed_needs
from striate.onnx.read import read_bytes, read_file
from striate.onnx.run import (
    Runner,
    Static,
    check_functions,
    check_operators,
    needed_values,
)
from striate.onnx.tensors import widened
from striate.runtime.profile import Profile

# Inputs that hold statistics, which are moved and not trained.
_STATISTICS = {"BatchNormalization": (3, 4)}
_KINDS = {"b": ("BOOL",), "f": ("FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16")}


class Holder(Module):
    """A part of the tree of names, which holds weights and computes nothing."""


class OnnxModule(Module):
    """A network that was read from an ONNX file; see `st.onnx.load`.

    It is called with one array per input of the model, by position or by name, and returns the
    output, or a tuple if there are several. It is compiled for each new combination of input sizes.

    Floating initialisers are its parameters and buffers, under their names in the file, in which a
    dot separates levels; those without axes and running statistics are buffers, as are integers
    with two axes or more. Values that shapes are computed from are constants. What is float16 in
    the file is float32 here, in which it is computed; what a Cast makes float16, and outputs that
    are, have values of float16. In training mode (`train()`) batch normalisation uses and moves its
    statistics, and dropout drops.

    Where an operator needs the values of data (non-maximum suppression, say) the module runs in
    parts, each compiled, from one such operator to the next, and cannot be traced.
    """

    def __init__(self, model: Model) -> None:
        check_operators(model)
        check_functions(model)
        self._places: dict[str, tuple[Module, str]] = {}
        needed = needed_values(model, model.graph)
        inputs = [v for v in model.graph.inputs if v.name in needed]
        divide = any(v.shape is None or len(v.shape) > 1 for v in inputs)
        self._static = frozenset() if divide else frozenset(v.name for v in inputs)
        fixed = fixed_names(model) if divide else set()
        if divide:
            needed = fixed_needs(model, fixed)
        statistics = _statistics(model.graph)
        for name, value in model.graph.initializers.items():
            if name in needed:
                continue
            if value.dtype.kind in "biu":
                if value.ndim > 1:
                    self._place(name, Array(constant(value)))
            elif not value.ndim or name in statistics:
                self._place(name, Array(constant(widened(value))))
            else:
                self._place(name, Parameter(widened(value)))
        self._model = _sharing(model, self._places)
        self._parts = divided(model, fixed) if divide else None
        self._plan = self._new_plan()
        self.eval()

    @property
    def graph(self) -> Graph:
        """The model's graph: inputs, outputs, initialisers and nodes; its text is a listing."""
        return self._model.graph

    def _place(self, name: str, value: Array) -> None:
        """Register an array in the tree under its dotted name."""
        *path, leaf = (part or "_" for part in name.split("."))
        holder: Module = self
        for part in path:
            while part in holder._parameters or part in holder._buffers:
                part += "_"  # noqa: PLW2901
            if part not in holder._modules:
                holder.add_module(part, Holder())
            holder = holder._modules[part]  # type: ignore[assignment]
        while leaf in (*holder._parameters, *holder._buffers, *holder._modules) or hasattr(
            holder, leaf
        ):
            leaf += "_"
        if isinstance(value, Parameter):
            holder.register_parameter(leaf, value)
        else:
            holder.register_buffer(leaf, value)
        self._places[name] = (holder, leaf)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """`forward`; NumPy arrays become arrays, those of float16 in float32."""
        return super().__call__(*map(_wide, args), **{k: _wide(v) for k, v in kwargs.items()})

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The outputs of the model: one array, or a tuple of several.

        Args:
            args, kwargs: arrays or NumPy arrays, one per input of the model, by position or name.

        Raises:
            ShapeError: the number of inputs, their ranks, or sizes inside do not fit; the message
                names the input or node.
            DTypeError: an input has another kind of elements than the model declares.
            TraceError: the module is traced, and an operator needs the values of data.
        """
        outputs = self._plan(*self._bind(args, kwargs))
        if self._parts is not None:
            outputs = self._rounded(outputs)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def profile(self, *args: Any, **kwargs: Any) -> Profile:
        """Run the model for these inputs and time each step; nothing is assigned.

        Returns:
            What `st.jit(f).profile` gives; an operator that needs the values of data has a row of
            its own.

        Raises:
            StriateError: the backend is not `native`, or as `forward`.
        """
        found: Profile = self._plan.profile(*self._bind(args, kwargs))
        return found

    def outline(self, *args: Any) -> None:
        """Run what can be run without the values of the inputs, for those who watch the layers:
        operators that need values are passed over, with all that depends on their results.
        """
        names = (v.name for v in self.graph.inputs)
        given = {k: x for k, x in zip(names, args, strict=True) if k not in self._static}
        runner = Runner(self._model, self.training, partial=True)
        scope = runner.opened({**self._weights(), **given})
        runner.walk(self.graph.nodes, scope, self._model.opsets)

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Array | Static]:
        wanted = self.graph.inputs
        names = [v.name for v in wanted]
        values = dict(zip(names, args, strict=False))
        twice = values.keys() & kwargs.keys()
        values |= kwargs
        if len(args) > len(names) or twice or values.keys() != set(names):
            raise ShapeError(
                f"onnx: the model takes {len(names)} inputs ({', '.join(map(str, wanted))}), got "
                f"{len(args)} by position and {sorted(kwargs)} by name"
            )
        return [self._input(v, values[v.name]) for v in wanted]

    def _input(self, declared: Tensor, value: Any) -> Array | Static:
        x = asarray(value)
        if declared.shape is not None and len(declared.shape) != x.ndim:
            raise ShapeError(
                f"onnx: the input {declared} has {len(declared.shape)} axes, got {x.type}"
            )
        kinds = _KINDS.get(x.dtype.kind, ("INT", "UINT"))
        if declared.dtype and not declared.dtype.startswith(kinds):
            raise DTypeError(f"onnx: the input {declared} got {x.type}; cast it")
        return Static(x.numpy()) if declared.name in self._static else x

    def _weights(self) -> dict[str, Array]:
        return {name: getattr(holder, leaf) for name, (holder, leaf) in self._places.items()}

    def _new_plan(self) -> Any:
        """What is called with the bound inputs: one traced function, or several."""
        if self._parts is None:
            return jit(self._run)
        return Parts(self._model, self._parts, self._weights, lambda: self.training)

    def _run(self, *values: Array | Static) -> list[Array]:
        names = (v.name for v in self.graph.inputs)
        runner = Runner(self._model, self.training)
        scope = runner.opened({**self._weights(), **dict(zip(names, values, strict=True))})
        return self._rounded(runner.run(self.graph, scope, self._model.opsets))

    def _rounded(self, outputs: list[Array]) -> list[Array]:
        """The outputs, with those of float16 rounded to its values."""
        declared = (v.dtype for v in self.graph.outputs)
        pairs = zip(outputs, declared, strict=True)
        return [rounded_to_half(y) if dtype == "FLOAT16" else y for y, dtype in pairs]

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        memo[id(self._model)] = self._model  # values that do not change
        memo[id(self._parts)] = self._parts
        memo[id(self._plan)] = None
        copy = super().__deepcopy__(memo)
        copy.__dict__["_plan"] = copy._new_plan()
        return copy

    def extra_repr(self) -> str:
        """Inputs and outputs."""
        graph = self.graph
        return f"{', '.join(map(str, graph.inputs))} -> {', '.join(map(str, graph.outputs))}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"  # the tree has names only


def _wide(value: Any) -> Any:
    """float16 as float32, in which it is computed."""
    half = isinstance(value, np.ndarray | np.generic) and value.dtype == np.float16
    return value.astype(np.float32) if half else value


def _sharing(model: Model, places: Mapping[str, tuple[Module, str]]) -> Model:
    """The model, with weights in the memory of the module's, not twice."""
    shared = {name: getattr(holder, leaf).numpy() for name, (holder, leaf) in places.items()}
    graph = replace(model.graph, initializers={**model.graph.initializers, **shared})
    return replace(model, graph=graph)


def _statistics(graph: Graph) -> set[str]:
    return {
        node.inputs[k]
        for node in graph.nodes
        for k in _STATISTICS.get(node.op_type, ())
        if k < len(node.inputs)
    }


def load(source: str | os.PathLike[str] | bytes) -> OnnxModule:
    """The network in an ONNX file, as a module in evaluation mode.

    Args:
        source: a path, or the bytes of a file. Tensors that the model keeps in other files are read
            from the folder of the path, and from nowhere else.

    Returns:
        A module: call it with NumPy arrays. It is compiled (`st.jit`) when it is first called with
        inputs of new shapes; `net.graph` shows its nodes, `net.state_dict()` has its weights, and
        `st.train_step` trains it.

    Raises:
        FileNotFoundError: there is no such file.
        ModelError: it is no valid model, or has operators that striate does not run: the message
            lists all of them with their nodes.
        ImportError: the package `onnx` is not installed.

    >>> from onnx import parser
    >>> text = '<ir_version: 8, opset_import: ["": 17]> g (float[n, 2] x) => (float[n, 2] y)'
    >>> net = st.onnx.load(parser.parse_model(text + "{ y = Relu(x) }").SerializeToString())
    >>> net(np.float32([[-1, 2]])).numpy()
    array([[0., 2.]], dtype=float32)
    """
    if isinstance(source, bytes):
        return OnnxModule(read_bytes(source))
    if not isinstance(source, str | os.PathLike):
        raise ModelError(f"onnx: load takes a path or bytes, got {type(source).__name__}")
    return OnnxModule(read_file(Path(source)))
