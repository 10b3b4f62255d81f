"""Dense layers and tables: `Linear`, `Embedding`, and `Identity`."""

from __future__ import annotations

from typing import Any

from striate.core import api
from striate.core.array import Array
from striate.core.creation import zeros
from striate.dtype import float32
from striate.nn.init import fan_in_uniform_, normal_
from striate.nn.module import Module, Parameter


class Linear(Module):
    """x times the transpose of `weight`, plus `bias`.

    Args:
        in_features: C.
        out_features: K.
        bias: whether to add one.
        dtype: of the parameters.

    >>> st.nn.Linear(4, 2)(st.ones((3, 5, 4))).shape
    (3, 5, 2)
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, *, dtype: object = float32
    ) -> None:
        self.in_features = in_features
        self.out_features = out_features
        self.weight = Parameter(zeros((out_features, in_features), dtype))
        self.bias = Parameter(zeros(out_features, dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw both as PyTorch does: uniform in +-1 / sqrt(in_features)."""
        fan_in_uniform_(self.weight, self.in_features)
        if self.bias is not None:
            fan_in_uniform_(self.bias, self.in_features)

    def forward(self, x: Array) -> Array:
        """x: [*B, C] -> [*B, K]."""
        return api.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        """PyTorch's."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )


class Embedding(Module):
    """A table of vectors, read by index.

    >>> st.nn.Embedding(10, 3)(np.array([[1, 2], [3, 9]])).shape
    (2, 2, 3)
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, *, dtype: object = float32) -> None:
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.weight = Parameter(zeros((num_embeddings, embedding_dim), dtype))
        normal_(self.weight)

    def forward(self, index: Any) -> Array:
        """index: integers [*B] in [0, num_embeddings) -> [*B, embedding_dim]."""
        flat = api.reshape(index, -1)
        rows = api.take(self.weight, flat)
        return rows.reshape(*index.shape, self.embedding_dim)

    def extra_repr(self) -> str:
        """PyTorch's."""
        return f"{self.num_embeddings}, {self.embedding_dim}"


class Identity(Module):
    """Gives back its input, whatever arguments it was made with."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, x: Any) -> Any:
        """x -> x."""
        return x
