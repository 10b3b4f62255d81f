"""The operators by topic; importing this enters all of them into the registry."""

from striate.onnx.operators import (
    activation as activation,
    arithmetic as arithmetic,
    convolution as convolution,
    create as create,
    index as index,
    logic as logic,
    movement as movement,
    normalization as normalization,
    pool as pool,
    reduction as reduction,
)
from striate.onnx.registry import OPERATORS as OPERATORS
