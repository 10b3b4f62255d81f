"""The matrix of a convolution, to look at: y = M x, and the adjoint is its transpose."""

from __future__ import annotations

from itertools import product
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.core.array import asarray
from striate.errors import ShapeError
from striate.ops.conv import ConvSpec
from striate.ops.window import Window

Csr = tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]


def _solutions(window: Window) -> NDArray[np.int64]:
    """All (o, k, i) in range that satisfy the relation: i64[n, 3]."""
    t = window.canonical()
    o, k = np.indices((t.out_size, t.kernel_size), dtype=np.int64).reshape(2, -1)
    i, rest = np.divmod(t.stride * o + t.rhs_dilation * k - t.pad_lo, t.lhs_dilation)
    live = (rest == 0) & (i >= 0) & (i < t.in_size)
    solutions: NDArray[np.int64] = np.stack([o, k, i], axis=1)[live]
    return solutions


def conv_matrix(w: Any, spec: ConvSpec) -> Csr:
    """The matrix of the map x -> y of `st.conv_general(x, w, spec)`, for study and for tests.

    Args:
        w: [G, K, C, *W].
        spec: the sizes and windows.

    Returns:
        (data, indices, indptr) in compressed sparse row form, as `scipy.sparse.csr_matrix` takes
        it, with N*G*K*prod(O) rows (y in row-major order) and N*G*C*prod(I) columns (x likewise).
        Indices grow within a row; entries are stored for each tap that meets an input, zero or not.

    Raises:
        ShapeError: `w` has not the shape of `spec`.

    >>> spec = st.ConvSpec(1, 1, 1, 1, (st.Window.of(3, 2),))
    >>> data, indices, indptr = st.conv_matrix(np.float32([[[[1, 10]]]]), spec)
    >>> data, indices, indptr
    (array([ 1., 10.,  1., 10.], dtype=float32), array([0, 1, 1, 2]), array([0, 2, 4]))
    """
    weights = asarray(w).numpy()
    if weights.shape != spec.rhs_shape:
        raise ShapeError(f"conv_matrix: w must have shape {spec.rhs_shape}, got {weights.shape}")
    g, k, c = spec.groups, spec.out_features, spec.in_features
    ins = [t.in_size for t in spec.windows]
    outs = [t.out_size for t in spec.windows]
    taps = [t.kernel_size for t in spec.windows]
    out_at = tap_at = in_at = np.zeros(1, np.int64)  # row-major positions of all joint solutions
    for t, n_out, n_tap, n_in in zip(spec.windows, outs, taps, ins, strict=True):
        o, f, i = _solutions(t).T
        out_at = (out_at[:, None] * n_out + o).ravel()
        tap_at = (tap_at[:, None] * n_tap + f).ravel()
        in_at = (in_at[:, None] * n_in + i).ravel()
    flat = weights.reshape(g, k, c, prod(taps))
    rows, columns, data = [], [], []
    for n, group, to, source in product(range(spec.batch), range(g), range(k), range(c)):
        rows.append(((n * g + group) * k + to) * prod(outs) + out_at)
        columns.append(((n * g + group) * c + source) * prod(ins) + in_at)
        data.append(flat[group, to, source, tap_at])
    count = prod(spec.out_shape)
    if not rows:
        return np.zeros(0, weights.dtype), np.zeros(0, np.int64), np.zeros(count + 1, np.int64)
    row, column = np.concatenate(rows), np.concatenate(columns)
    order = np.lexsort((column, row))
    indptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=count))]).astype(np.int64)
    return np.concatenate(data)[order], column[order], indptr
