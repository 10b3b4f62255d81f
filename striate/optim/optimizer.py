"""What all optimizers share: parameters in groups, state, and one loop.

An optimizer is one rule (p, g, state) -> (p, state), a pure function on arrays. `update` applies it
to every parameter and assigns the results, eagerly or inside `st.jit`. Learning rates are arrays,
so that a change of one is data, not another program; other hyper-parameters are Python numbers,
and a change of one traces anew. Each parameter counts its own steps: one that was frozen at first
starts with a first step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, ClassVar

import numpy as np

from striate.core.array import Array, asarray
from striate.core.creation import zeros_like
from striate.core.transforms import invalidate
from striate.errors import DTypeError, ShapeError, StriateError

State = dict[str, Array]
Params = Iterable[Array] | Iterable[Mapping[str, Any]]


class Group(MutableMapping[str, Any]):
    """Parameters and their hyper-parameters, by name; what is set takes effect in compiled steps.

    `group["lr"]` is an array, and setting it assigns to that array; setting another hyper-parameter
    invalidates traces. The parameters of a group cannot be exchanged.

    Raises:
        ShapeError: a name is not that of a hyper-parameter, or its value is out of range.

    >>> optimizer = st.optim.SGD([st.ones(2)], lr=0.5)
    >>> optimizer.param_groups[0]["lr"] = 0.25
    >>> optimizer.lr
    0.25
    """

    def __init__(self, values: dict[str, Any], check: Callable[[Mapping[str, Any]], None]) -> None:
        check(values)
        self._values = {**values, "lr": asarray(np.float64(values["lr"]))}
        self._check = check

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __setitem__(self, name: str, value: Any) -> None:
        if name == "params" or name not in self._values:
            names = sorted(set(self._values) - {"params"})
            raise ShapeError(f"param_groups: {name!r} cannot be set, only {names}")
        self._check({**self._values, name: value})
        if name == "lr":
            self._values["lr"].assign(asarray(np.float64(value)))
        else:
            self._values[name] = value
            invalidate()

    def __delitem__(self, name: str) -> None:
        raise ShapeError(f"param_groups: {name!r} cannot be deleted")

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Group({self._values})"


class Optimizer:
    """Base of the optimizers.

    Args:
        params: arrays to update, or groups: mappings with `params` and other hyper-parameters.
        defaults: hyper-parameters of every group that does not give its own.

    Attributes:
        param_groups: one `Group` per group; `param_groups[0]["lr"] = 0.1` changes a rate.
        parameters: those of all groups, in order.
        state: per parameter `step`, the number of its updates (i64[]), and what the rule keeps.

    Raises:
        ShapeError: there are no parameters, one comes twice, or a hyper-parameter is out of range.
        DTypeError: a parameter is no floating array.
    """

    slots: ClassVar[tuple[str, ...]] = ()  # names of the state of one parameter, zeros at first
    ranges: ClassVar[dict[str, tuple[float, float]]] = {}

    def __init__(self, params: Params, **defaults: Any) -> None:
        given = list(params)
        rows: list[Mapping[str, Any]] = [g for g in given if isinstance(g, Mapping)]
        if len(rows) != len(given):
            rows = [{"params": given}]
        self.param_groups: list[Group] = []
        for row in rows:
            unknown = set(row) - set(defaults) - {"params"}
            if unknown:
                raise ShapeError(f"{type(self).__name__}: no hyper-parameter {sorted(unknown)}")
            group = {**defaults, **row, "params": list(row["params"])}
            self.param_groups.append(Group(group, self._check))
        self.parameters: list[Array] = [p for g in self.param_groups for p in g["params"]]
        if not self.parameters:
            raise ShapeError(f"{type(self).__name__}: there are no parameters")
        if len({id(p) for p in self.parameters}) != len(self.parameters):
            raise ShapeError(f"{type(self).__name__}: a parameter is given twice")
        for i, p in enumerate(self.parameters):
            check_floating(f"{type(self).__name__}: parameter {i}", p)
        self.state: list[State] = [
            {"step": asarray(np.int64(0)), **{name: zeros_like(p) for name in self.slots}}
            for p in self.parameters
        ]

    def _check(self, group: Mapping[str, Any]) -> None:
        for name, (low, high) in {"lr": (0.0, np.inf), **self.ranges}.items():
            values = group[name] if isinstance(group[name], tuple) else (group[name],)
            for v in values:
                if not low <= float(v) <= high:
                    raise ShapeError(
                        f"{type(self).__name__}: {name} must be in [{low}, {high}], got {v}"
                    )

    @property
    def lr(self) -> float:
        """Learning rate of the first group."""
        return float(self.param_groups[0]["lr"])

    @lr.setter
    def lr(self, value: float) -> None:
        for group in self.param_groups:
            group["lr"] = value

    def rule(
        self, p: Array, g: Array, s: State, h: Mapping[str, Any], t: Array
    ) -> tuple[Array, State]:
        """One parameter's step: its new value and the new values of the state that changed.

        Args:
            p, g: the parameter and its gradient.
            s: its state.
            h: hyper-parameters of its group; `lr` is f64[], to be cast to the dtype of p.
            t: f64[], number of this step of this parameter, from 1.
        """
        raise NotImplementedError(f"{type(self).__name__} has no rule")

    def update(self, grads: Sequence[Array | None]) -> None:
        """Apply one step to every parameter; None leaves a parameter as it is.

        Raises:
            ShapeError: the number of gradients is not that of the parameters, or the shape of one
                is not that of its parameter; nothing is changed.
            DTypeError: the dtype of one is not that of its parameter.
        """
        if len(grads) != len(self.parameters):
            raise ShapeError(
                f"{type(self).__name__}: {len(grads)} gradients for {len(self.parameters)} "
                "parameters"
            )
        for i, (p, g) in enumerate(zip(self.parameters, grads, strict=True)):
            if g is not None and g.type != p.type:
                error = ShapeError if g.shape != p.shape else DTypeError
                raise error(
                    f"{type(self).__name__}: parameter {i} is {p.type}, its gradient {g.type}; "
                    "they must be the same"
                )
        rows = zip(grads, self.state, strict=True)
        for group in self.param_groups:
            for p in group["params"]:
                g, state = next(rows)
                if g is None:
                    continue
                step = state["step"] + 1
                value, changed = self.rule(p, g, state, group, step.astype("float64"))
                p.assign(value)
                for name, new in {"step": step, **changed}.items():
                    state[name].assign(new)

    def _arrays(self) -> dict[str, Array]:
        out: dict[str, Array] = {f"lr.{i}": g["lr"] for i, g in enumerate(self.param_groups)}
        for i, state in enumerate(self.state):
            out |= {f"state.{i}.{name}": value for name, value in state.items()}
        return out

    def state_dict(self) -> dict[str, Array]:
        """The values of now, by name: `lr.<group>`, `state.<parameter>.<name>`."""
        return snapshot(self._arrays())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave.

        Raises:
            StriateError: names or shapes do not fit; nothing is changed.
        """
        load_arrays(type(self).__name__, self._arrays(), state)


def check_floating(what: str, p: Any) -> None:
    """Raises DTypeError if p is not a floating array."""
    if not isinstance(p, Array) or not p.dtype.is_floating:
        found = p.type if isinstance(p, Array) else type(p).__name__
        raise DTypeError(f"{what} must be a floating array, got {found}")


def snapshot(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The values of now: later assignments do not change them."""
    return {name: Array(a.node) for name, a in arrays.items()}


def check_arrays(owner: str, own: Mapping[str, Array], given: Mapping[str, Any]) -> None:
    """Raises StriateError if names are missing or unexpected, or shapes differ."""
    missing, unexpected = sorted(set(own) - set(given)), sorted(set(given) - set(own))
    wrong = [
        f"{k}: {own[k].type}, given shape {np.shape(given[k])}"
        for k in own
        if k in given and tuple(np.shape(given[k])) != own[k].shape
    ]
    if missing or unexpected or wrong:
        raise StriateError(
            f"{owner}: state does not fit: missing {missing}, unexpected {unexpected}, "
            f"mismatched {wrong}"
        )


def load_arrays(owner: str, own: Mapping[str, Array], given: Mapping[str, Any]) -> None:
    """Assign arrays by name, all or none.

    Raises:
        StriateError: see `check_arrays`.
    """
    check_arrays(owner, own, given)
    for name, array in own.items():
        array.assign(asarray(given[name], array.dtype))
