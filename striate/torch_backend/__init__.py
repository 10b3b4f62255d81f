"""PyTorch: `torch.compile(model, backend="striate")`, `st.from_torch`, `st.to_torch`."""

from striate.torch_backend.backend import backend
from striate.torch_backend.convert import from_torch, to_torch

__all__ = ["backend", "from_torch", "to_torch"]
