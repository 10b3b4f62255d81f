"""What all optimizers share: parameters in groups, state, and one loop.

An optimizer is one rule (p, g, state) -> (p, state), a pure function on arrays. `update` applies it
to every parameter and assigns the results, eagerly or inside `st.jit`. Learning rates are arrays,
so that a change of one is data, not another program; other hyper-parameters are Python numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from striate.core.array import Array, asarray
from striate.core.creation import zeros_like
from striate.errors import ShapeError, StriateError

State = dict[str, Array]
Params = Iterable[Array] | Iterable[Mapping[str, Any]]


class Optimizer:
    """Base of the optimizers.

    Args:
        params: arrays to update, or groups: mappings with `params` and other hyper-parameters.
        defaults: hyper-parameters of every group that does not give its own.

    Raises:
        ShapeError: there are no parameters, one comes twice, or a hyper-parameter is out of range.
    """

    slots: ClassVar[tuple[str, ...]] = ()  # names of the state of one parameter, zeros at first
    ranges: ClassVar[dict[str, tuple[float, float]]] = {}

    def __init__(self, params: Params, **defaults: Any) -> None:
        given = list(params)
        rows: list[Mapping[str, Any]] = [g for g in given if isinstance(g, Mapping)]
        if len(rows) != len(given):
            rows = [{"params": given}]
        self.groups: list[dict[str, Any]] = []
        for row in rows:
            unknown = set(row) - set(defaults) - {"params"}
            if unknown:
                raise ShapeError(f"{type(self).__name__}: no hyper-parameter {sorted(unknown)}")
            group = {**defaults, **row, "params": list(row["params"])}
            self._check(group)
            group["lr"] = asarray(np.float64(group["lr"]))
            self.groups.append(group)
        self.parameters: list[Array] = [p for g in self.groups for p in g["params"]]
        if not self.parameters:
            raise ShapeError(f"{type(self).__name__}: there are no parameters")
        if len({id(p) for p in self.parameters}) != len(self.parameters):
            raise ShapeError(f"{type(self).__name__}: a parameter is given twice")
        self.count = asarray(np.int64(0))
        self.state: list[State] = [
            {name: zeros_like(p) for name in self.slots} for p in self.parameters
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
        return float(self.groups[0]["lr"])

    @lr.setter
    def lr(self, value: float) -> None:
        for group in self.groups:
            group["lr"].assign(asarray(np.float64(value)))

    def rule(
        self, p: Array, g: Array, s: State, h: Mapping[str, Any], t: Array
    ) -> tuple[Array, State]:
        """One parameter's step: its new value and the new values of the state that changed.

        Args:
            p, g: the parameter and its gradient.
            s: its state.
            h: hyper-parameters of its group; `lr` has the dtype of p.
            t: f64, number of this step, from 1.
        """
        raise NotImplementedError(f"{type(self).__name__} has no rule")

    def update(self, grads: Sequence[Array | None]) -> None:
        """Apply one step to every parameter; None leaves a parameter as it is.

        Raises:
            ShapeError: the number of gradients is not that of the parameters.
        """
        if len(grads) != len(self.parameters):
            raise ShapeError(
                f"{type(self).__name__}: {len(grads)} gradients for {len(self.parameters)} "
                "parameters"
            )
        self.count.assign(self.count + 1)
        t = self.count.astype("float64")
        rows = zip(grads, self.state, strict=True)
        for group in self.groups:
            for p in group["params"]:
                g, state = next(rows)
                if g is None:
                    continue
                value, changed = self.rule(p, g, state, _typed(group, p), t)
                p.assign(value)
                for name, new in changed.items():
                    state[name].assign(new)

    def state_dict(self) -> dict[str, Array]:
        """All state, by name: `count`, `lr.<group>`, `state.<parameter>.<name>`."""
        out = {"count": self.count}
        out |= {f"lr.{i}": g["lr"] for i, g in enumerate(self.groups)}
        for i, state in enumerate(self.state):
            out |= {f"state.{i}.{name}": value for name, value in state.items()}
        return out

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave.

        Raises:
            StriateError: names do not fit; nothing is changed.
        """
        load_arrays(type(self).__name__, self.state_dict(), state)


def _typed(group: Mapping[str, Any], p: Array) -> dict[str, Any]:
    return {**group, "lr": group["lr"].astype(p.dtype)}


def load_arrays(owner: str, own: Mapping[str, Array], given: Mapping[str, Any]) -> None:
    """Assign arrays by name, all or none.

    Raises:
        StriateError: names are missing or unexpected, or shapes differ.
    """
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
    for name, array in own.items():
        array.assign(asarray(given[name], array.dtype))
