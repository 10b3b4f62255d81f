"""PyTorch: `torch.compile(model, backend="striate")`."""

from striate.torch_backend.backend import backend

__all__ = ["backend"]
