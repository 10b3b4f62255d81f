"""Weights in files: safetensors, npz, and PyTorch's, read without executing anything."""

from striate.weights.formats import metadata as metadata, read as read, write as write
from striate.weights.load import (
    WeightsError as WeightsError,
    load_weights as load_weights,
    renamed as renamed,
    save_weights as save_weights,
)
