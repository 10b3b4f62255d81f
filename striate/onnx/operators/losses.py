"""Losses, as training graphs have them."""

from __future__ import annotations

import striate as st
from striate.core.array import Array
from striate.errors import DTypeError, ShapeError
from striate.onnx.registry import Call, operator


def _of_labels(node: Call, scores: Array, labels: Array, weight: Array | None) -> Array:
    """-scores[n, label, *d] * weight[label] of scores [N, C, *D] and labels [N, *D], reduced.

    Labels that are `ignore_index` count for nothing, and the mean is weighted.
    """
    if scores.ndim < 2 or labels.shape != (scores.shape[0], *scores.shape[2:]):
        raise ShapeError(
            f"wants scores [N, C, *D] and labels [N, *D], got {scores.type}, {labels.type}"
        )
    if not labels.dtype.is_integer:
        raise DTypeError(f"labels must be integers, got {labels.type}")
    if weight is not None and weight.shape != (scores.shape[1],):
        raise ShapeError(
            f"wants a weight for each of the {scores.shape[1]} classes, got {weight.type}"
        )
    kept = None
    if node.has("ignore_index"):
        kept = labels != node.int("ignore_index")
        labels = st.where(kept, labels, 0)
    share = st.ones(labels.shape, scores.dtype)
    if weight is not None:
        share = st.take(weight, labels.reshape(-1)).reshape(*labels.shape)
    if kept is not None:
        share = st.where(kept, share, 0.0)
    chosen = st.squeeze(st.take_along_axis(scores, st.expand_dims(labels, 1), 1), 1)
    loss = -chosen * share
    how = node.string("reduction", "mean")
    if how == "none":
        return loss
    if how == "sum":
        return st.sum(loss)
    if how == "mean":
        return st.sum(loss) / st.sum(share)
    raise ShapeError(f"reduction must be none, sum or mean, got {how!r}")


@operator("NegativeLogLikelihoodLoss")
def negative_log_likelihood(
    node: Call, scores: Array, labels: Array, weight: Array | None = None
) -> Array:
    return _of_labels(node, scores, labels, weight)


@operator("SoftmaxCrossEntropyLoss")
def softmax_cross_entropy(
    node: Call, scores: Array, labels: Array, weight: Array | None = None
) -> tuple[Array, Array]:
    """(loss, logarithms of the softmax)."""
    if scores.ndim < 2:
        raise ShapeError(f"wants scores [N, C, *D], got {scores.type}")
    logarithms = st.log_softmax(scores, 1)
    return _of_labels(node, logarithms, labels, weight), logarithms
