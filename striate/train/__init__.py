"""Training: one-graph steps, the loop around them, checkpoints."""

from striate.train.checkpoint import (
    CheckpointError as CheckpointError,
    load as load,
    save as save,
)
from striate.train.fit import History as History, evaluate as evaluate, fit as fit
from striate.train.step import eval_step as eval_step, train_step as train_step
