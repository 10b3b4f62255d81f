"""Optimizers, schedules, clipping and averaging, with PyTorch's names and numbers."""

from striate.optim.gradients import (
    EMA as EMA,
    clip_grad_norm as clip_grad_norm,
    clip_grad_value as clip_grad_value,
)
from striate.optim.optimizer import Group as Group, Optimizer as Optimizer
from striate.optim.rules import (
    LARS as LARS,
    SGD as SGD,
    Adam as Adam,
    AdamW as AdamW,
    Lion as Lion,
    RMSprop as RMSprop,
)
from striate.optim.schedules import (
    CosineAnnealingLR as CosineAnnealingLR,
    LinearWarmupCosine as LinearWarmupCosine,
    MultiStepLR as MultiStepLR,
    OneCycleLR as OneCycleLR,
    PolynomialLR as PolynomialLR,
    Schedule as Schedule,
    StepLR as StepLR,
)
