"""The operators by topic; importing this enters all of them into the registry."""

from striate.onnx.operators import (
    activation as activation,
    arithmetic as arithmetic,
    contraction as contraction,
    control as control,
    convolution as convolution,
    create as create,
    index as index,
    logic as logic,
    losses as losses,
    movement as movement,
    normalization as normalization,
    pool as pool,
    quantized as quantized,
    random as random,
    recurrent as recurrent,
    reduction as reduction,
    resize as resize,
    sampling as sampling,
    scores as scores,
    sorting as sorting,
    spatial as spatial,
)
from striate.onnx.registry import OPERATORS as OPERATORS
