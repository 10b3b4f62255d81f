"""The matrix of a convolution is the convolution, and its transpose the adjoint."""

from __future__ import annotations

import numpy as np
import pytest

import striate as st


def dense(csr: tuple[np.ndarray, np.ndarray, np.ndarray], columns: int) -> np.ndarray:
    data, indices, indptr = csr
    m = np.zeros((len(indptr) - 1, columns))
    for row in range(len(m)):
        span = slice(indptr[row], indptr[row + 1])
        assert (np.diff(indices[span]) > 0).all(), "indices grow, no entry twice"
        m[row, indices[span]] = data[span]
    return m


SPECS = [
    st.ConvSpec(2, 1, 2, 3, ()),
    st.ConvSpec(1, 2, 2, 1, (st.Window.of(7, 3, stride=2, padding=(1, 2)),)),
    st.ConvSpec(2, 1, 1, 2, (st.Window(5, 6, 3, -1, 2, -3, 4), st.Window(4, 3, 2, 2, 1, 1, -1))),
    st.ConvSpec(1, 3, 1, 1, (st.Window.of(4, 2, lhs_dilation=3),) * 3),
    st.ConvSpec(0, 1, 2, 2, (st.Window.of(4, 2),)),
]


@pytest.mark.parametrize("spec", SPECS)
def test_matrix_times_vector_is_the_convolution(spec: st.ConvSpec) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(-9, 9, spec.lhs_shape)
    w = rng.integers(-9, 9, spec.rhs_shape)
    g = rng.integers(-9, 9, spec.out_shape)
    m = dense(st.conv_matrix(w, spec), x.size)
    y = st.conv_general(x, w, spec)
    np.testing.assert_array_equal(m @ x.ravel(), y.numpy().ravel())
    floats = [st.asarray(v.astype(np.float64)) for v in (x, w, g)]
    _, pull = st.vjp(lambda x: st.conv_general(x, floats[1], spec), floats[0])
    np.testing.assert_array_equal(m.T @ g.ravel(), pull(floats[2])[0].numpy().ravel())


def test_wrong_filter() -> None:
    with pytest.raises(st.ShapeError, match=r"conv_matrix: w must have shape \(1, 1, 1, 2\)"):
        st.conv_matrix(np.ones((1, 2, 1, 2)), st.ConvSpec(1, 1, 1, 1, (st.Window.of(3, 2),)))
