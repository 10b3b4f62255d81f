"""Learning rates over time: a schedule is a function (base rate, step) -> rate.

`step()` sets the rates of all groups; a step is what its caller counts. `fit` steps once per batch,
so that `T_max`, `milestones` and the like count batches, unless `schedule_per="epoch"` is given.
The rates are arrays, so nothing is traced anew. Numbers are those of PyTorch's closed forms.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, pi

from striate.errors import ShapeError
from striate.optim.optimizer import Optimizer


class Schedule:
    """Base: counts steps and sets rates."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.base = [float(g["lr"]) for g in optimizer.param_groups]
        self.steps = 0
        self._set()

    def rate(self, base: float, step: int) -> float:
        """The rate of a group at a step."""
        raise NotImplementedError(f"{type(self).__name__} has no rate")

    def step(self) -> None:
        """Go on by one."""
        self.steps += 1
        self._set()

    def _set(self) -> None:
        for group, base in zip(self.optimizer.param_groups, self.base, strict=True):
            group["lr"] = self.rate(base, self.steps)

    def state_dict(self) -> dict[str, object]:
        """What `load_state_dict` needs to go on."""
        return {"steps": self.steps, "base": list(self.base)}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Take over what `state_dict` gave."""
        self.steps = int(state["steps"])  # type: ignore[call-overload]
        self.base = [float(v) for v in state["base"]]  # type: ignore[attr-defined]
        self._set()


def _positive(owner: str, name: str, value: int) -> int:
    if value < 1:
        raise ShapeError(f"{owner}: {name} must be >= 1, got {value}")
    return value


class StepLR(Schedule):
    """Times gamma every `step_size` steps."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        self.step_size, self.gamma = _positive("StepLR", "step_size", step_size), gamma
        super().__init__(optimizer)

    def rate(self, base: float, step: int) -> float:
        """base * gamma ** (step // step_size)"""
        return base * self.gamma ** (step // self.step_size)


class MultiStepLR(Schedule):
    """Times gamma at each milestone."""

    def __init__(self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1) -> None:
        self.milestones, self.gamma = sorted(milestones), gamma
        super().__init__(optimizer)

    def rate(self, base: float, step: int) -> float:
        """base * gamma ** (number of milestones passed)"""
        return base * self.gamma ** sum(m <= step for m in self.milestones)


class CosineAnnealingLR(Schedule):
    """Half a cosine from the base rate to `eta_min` in `T_max` steps.

    Method: Loshchilov & Hutter, "SGDR" (ICLR 2017).
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        self.T_max, self.eta_min = _positive("CosineAnnealingLR", "T_max", T_max), eta_min
        super().__init__(optimizer)

    def rate(self, base: float, step: int) -> float:
        """eta_min + (base - eta_min) * (1 + cos(pi * step / T_max)) / 2"""
        return self.eta_min + (base - self.eta_min) * (1 + cos(pi * step / self.T_max)) / 2


class LinearWarmupCosine(Schedule):
    """Up linearly for `warmup` steps, then half a cosine down to `eta_min` at `total`."""

    def __init__(self, optimizer: Optimizer, warmup: int, total: int, eta_min: float = 0.0) -> None:
        if not 0 <= warmup < total:
            raise ShapeError(
                f"LinearWarmupCosine: wants 0 <= warmup < total, got {warmup}, {total}"
            )
        self.warmup, self.total, self.eta_min = warmup, total, eta_min
        super().__init__(optimizer)

    def rate(self, base: float, step: int) -> float:
        """base * (step + 1) / (warmup + 1), then the cosine."""
        if step < self.warmup:
            return base * (step + 1) / (self.warmup + 1)
        part = min(1.0, (step - self.warmup) / (self.total - self.warmup))
        return self.eta_min + (base - self.eta_min) * (1 + cos(pi * part)) / 2


class OneCycleLR(Schedule):
    """From max_lr / div_factor up to max_lr, then down to that start / final_div_factor; cosines.

    Method: Smith & Topin, "Super-convergence" (2018). The momentum is not cycled.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float,
        total_steps: int,
        pct_start: float = 0.3,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
    ) -> None:
        self.max_lr, self.total_steps = max_lr, _positive("OneCycleLR", "total_steps", total_steps)
        self.pct_start, self.div_factor = pct_start, div_factor
        self.final_div_factor = final_div_factor
        super().__init__(optimizer)

    def rate(self, base: float, step: int) -> float:
        """The cosine of the phase that `step` is in; the last rate after the end."""
        peak, last = self.pct_start * self.total_steps - 1, self.total_steps - 1
        first = self.max_lr / self.div_factor
        final = first / self.final_div_factor
        if step <= peak and peak > 0:
            return _anneal(first, self.max_lr, step / peak)
        return _anneal(self.max_lr, final, min(1.0, (step - peak) / max(last - peak, 1e-9)))


def _anneal(start: float, end: float, part: float) -> float:
    return end + (start - end) / 2 * (cos(pi * part) + 1)


class PolynomialLR(Schedule):
    """base * (1 - step / total_iters) ** power, then 0."""

    def __init__(self, optimizer: Optimizer, total_iters: int, power: float = 1.0) -> None:
        self.total_iters = _positive("PolynomialLR", "total_iters", total_iters)
        self.power = power
        super().__init__(optimizer)

    def rate(self, base: float, step: int) -> float:
        """See the class."""
        left = 1.0 - min(step, self.total_iters) / self.total_iters
        return base * float(left**self.power)
