"""Rules of single ATen operators, with their derivatives, against PyTorch in float64."""

from __future__ import annotations

import logging
from collections.abc import Callable
from math import inf

import pytest
import torch
from torch.nn import functional as F

from striate.torch_backend import backend

Check = Callable[..., None]


@pytest.fixture
def check(caplog: pytest.LogCaptureFixture) -> Check:
    """f and its gradients: computed by striate alone, and as in PyTorch."""

    def run(f: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> None:
        torch._dynamo.reset()
        torch.set_num_threads(1)
        results = []
        with caplog.at_level(logging.DEBUG, "striate.torch"):
            for call in (f, torch.compile(f, backend=backend, fullgraph=True)):
                given = [x.clone().requires_grad_(x.is_floating_point()) for x in inputs]
                y = call(*given)
                g = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape)
                results.append(
                    [y, *torch.autograd.grad(y, [x for x in given if x.requires_grad], g)]
                )
        assert not [r.getMessage() for r in caplog.records if r.name == "striate.torch"]
        for expected, found in zip(*results, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)

    return run


@pytest.mark.parametrize(
    ("order", "dims"), [(2, None), (2, 1), (2.5, (0, 2)), (1, -1), (3, ()), (inf, 1), (-inf, None)]
)
def test_vector_norm(check: Check, order: float, dims: int | tuple[int, ...] | None) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 4, 5, dtype=torch.float64)
    check(lambda x: torch.linalg.vector_norm(x, order, dims, keepdim=dims == 1), x)


def test_the_number_of_nonzeros(check: Check) -> None:
    x = torch.eye(3, dtype=torch.float64)
    check(lambda x: x * torch.linalg.vector_norm(x.detach(), 0, 1), x)


def test_normalize_of_a_zero_vector(check: Check) -> None:
    x = torch.randn(3, 4, dtype=torch.float64)
    x[1] = 0
    check(F.normalize, x)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(6, 4), (2, 4, 3, 3)])
def test_cross_entropy(check: Check, shape: tuple[int, ...], weighted: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64)
    target = torch.randint(4, (shape[0], *shape[2:]))
    target.view(-1)[1] = -100  # ignored
    weight = torch.rand(4, dtype=torch.float64) if weighted else None
    check(lambda x, t: F.cross_entropy(x, t, weight), x, target)


def test_scatter(check: Check) -> None:
    torch.manual_seed(0)
    x, source = torch.randn(3, 5, 4).double(), torch.randn(3, 1, 4).double()
    index = torch.randint(5, (3, 1, 4))
    check(lambda x, s: x.scatter(1, index, s), x, source)
    several = torch.randint(5, (3, 2, 4))
    check(lambda x: x.scatter(-2, several, 2.5), x)


def test_scatter_to_where_nothing_is() -> None:
    call = torch.compile(lambda x, i: x.scatter(0, i, 1.0), backend=backend)
    with pytest.raises(IndexError, match="5"):
        call(torch.zeros(3), torch.tensor([5]))
