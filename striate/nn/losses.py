"""Losses as functions; `striate.nn.criterion` has them as modules.

Names, arguments and numbers are PyTorch's: `reduction` is "mean", "sum" or "none", and the mean of
classes with weights divides by the sum of the weights that were used. Classes stand on axis 1 of
[N, C, *S] (axis 0 of [C]), so segmentation is the same function as classification.
"""

from __future__ import annotations

from typing import Any, Literal

from striate.core import api
from striate.core.array import Array, asarray
from striate.dtype import compute_dtype
from striate.errors import DTypeError, ShapeError

Reduction = Literal["mean", "sum", "none"]


def _floating(op: str, x: Any) -> Array:
    """`x` as it is computed with: bfloat16 as float32.

    Raises:
        DTypeError: it is not floating.
    """
    array = asarray(x)
    if not array.dtype.is_floating:
        raise DTypeError(f"{op}: wants a floating input, got {array.type}; cast it with .astype")
    return array.astype(compute_dtype(array.dtype))


def _pair(op: str, x: Any, target: Any) -> tuple[Array, Array]:
    """Input and target of one shape, in the input's dtype.

    Raises:
        ShapeError: the shapes differ; nothing is broadcast.
        DTypeError: the input is not floating.
    """
    x, target = _floating(op, x), asarray(target)
    if x.shape != target.shape:
        raise ShapeError(
            f"{op}: input and target must have one shape, got {x.type} and {target.type}"
        )
    return x, target.astype(x.dtype)


def _reduce(op: str, loss: Array, reduction: str) -> Array:
    if reduction == "none":
        return loss
    if reduction == "sum":
        return api.sum(loss)
    if reduction == "mean":
        return api.mean(loss)
    raise ShapeError(f"{op}: reduction {reduction!r} is not 'mean', 'sum' or 'none'")


# ---- classes -------------------------------------------------------------------------------


def cross_entropy(
    logits: Any,
    target: Any,
    weight: Any = None,
    *,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    label_smoothing: float = 0.0,
) -> Array:
    """Minus the log-probability of the target under softmax(logits).

    Args:
        logits: [N, C, *S], or [C].
        target: labels, integers [N, *S] (or a scalar) in [0, C); or probabilities with the shape
            of the logits.
        weight: [C], per class.
        ignore_index: a label that counts for nothing.
        reduction: "none" gives [N, *S]. The mean over labels divides by the sum of their weights,
            the mean over probabilities by their number.
        label_smoothing: share of the target that is spread evenly over all classes.

    Raises:
        ShapeError: shapes do not fit, or label_smoothing is outside [0, 1].
        DTypeError: the logits are not floating.
        IndexError: a label is outside [0, C) and not `ignore_index` (when it is computed).

    Method: for smoothing, Szegedy et al., "Rethinking the Inception architecture" (2016).

    >>> st.nn.losses.cross_entropy(st.asarray([[0.0, 0.0]]), np.array([1]))
    Array(0.6931472, dtype=float32)
    """
    op = "cross_entropy"
    x, target = _floating(op, logits), asarray(target)
    if not 0 <= label_smoothing <= 1:
        raise ShapeError(f"{op}: label_smoothing must be in [0, 1], got {label_smoothing}")
    axis = _class_axis(op, x)
    log_p = api.log_softmax(x, axis)
    if not target.dtype.is_floating:
        nll, used = _nll(op, log_p, target, weight, ignore_index)
        loss = _weighted(op, nll, used, reduction)
        if not label_smoothing:
            return loss
        spread = log_p if weight is None else log_p * _per_class(op, weight, x)
        even = api.where(used.valid, -api.sum(spread, axis), 0.0)
        smooth = _weighted(op, even, used, reduction)
        return loss * (1 - label_smoothing) + smooth * (label_smoothing / x.shape[axis])
    if target.shape != x.shape:
        raise ShapeError(
            f"{op}: probabilities must have the shape of the logits {x.type}, got {target.type}"
        )
    p = target.astype(x.dtype)
    if label_smoothing:
        p = p * (1 - label_smoothing) + label_smoothing / x.shape[axis]
    terms = log_p * p if weight is None else log_p * p * _per_class(op, weight, x)
    return _reduce(op, -api.sum(terms, axis), reduction)


def nll_loss(
    log_probabilities: Any,
    target: Any,
    weight: Any = None,
    *,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Array:
    """Minus the log-probability of each label: `cross_entropy` after `log_softmax`.

    Args:
        log_probabilities: [N, C, *S], or [C].
        target, weight, ignore_index, reduction: as for `cross_entropy`, with labels.

    Raises:
        ShapeError: shapes do not fit.
        DTypeError: the target is not integers.
        IndexError: a label is outside [0, C) and not `ignore_index` (when it is computed).
    """
    op = "nll_loss"
    nll, used = _nll(op, _floating(op, log_probabilities), asarray(target), weight, ignore_index)
    return _weighted(op, nll, used, reduction)


def _class_axis(op: str, x: Array) -> int:
    if x.ndim == 0:
        raise ShapeError(f"{op}: wants logits [N, C, *S] or [C], got {x.type}")
    return 0 if x.ndim == 1 else 1


def _per_class(op: str, weight: Any, x: Array) -> Array:
    """Weights [C] as an array that broadcasts against [N, C, *S]."""
    axis = _class_axis(op, x)
    each = asarray(weight).astype(x.dtype)
    if each.shape != (x.shape[axis],):
        raise ShapeError(f"{op}: weight must have shape ({x.shape[axis]},), got {each.type}")
    return each.reshape(-1, *(1,) * (x.ndim - axis - 1))


class _Used:
    """Which labels count, and for how much: bool and floating [N, *S]."""

    def __init__(self, valid: Array, weight: Array) -> None:
        self.valid = valid
        self.weight = weight


def _nll(
    op: str, log_p: Array, target: Array, weight: Any, ignore_index: int
) -> tuple[Array, _Used]:
    """(-log_p[target] * weight[target], 0 where ignored; what was used): both [N, *S]."""
    axis = _class_axis(op, log_p)
    classes = log_p.shape[axis]
    expected = log_p.shape[:axis] + log_p.shape[axis + 1 :]
    if not target.dtype.is_integer:
        raise DTypeError(f"{op}: labels must be integers, got {target.type}")
    if target.shape != expected:
        raise ShapeError(
            f"{op}: labels for {log_p.type} must have shape {expected}, got {target.type}"
        )
    _check_labels(op, target, classes, ignore_index)
    label = target.astype("int64")
    valid = label != ignore_index
    label = api.where(valid, label, 0)
    label = api.where(label < 0, label - classes, label)  # below -C: an IndexError, not class C - 1
    picked = api.take_along_axis(log_p, api.expand_dims(label, axis), axis)
    one = valid.astype(log_p.dtype)
    if weight is not None:
        each = _per_class(op, weight, log_p).reshape(-1)
        one = one * api.take(each, label.reshape(-1)).reshape(*expected)
    nll = api.where(valid, -api.squeeze(picked, axis) * one, 0.0)
    return nll, _Used(valid, one)


def _check_labels(op: str, target: Array, classes: int, ignore_index: int) -> None:
    """Say at once what the op would say when it runs, if the labels are known already.

    Raises:
        IndexError: a label is outside [0, classes) and not `ignore_index`.
    """
    known = target.node.data
    if known is None:
        return
    wrong = known[((known < 0) | (known >= classes)) & (known != ignore_index)]
    if wrong.size:
        raise IndexError(
            f"{op}: label {wrong.flat[0]} is outside [0, {classes}), the classes of the logits, "
            f"and is not ignore_index {ignore_index}"
        )


def _weighted(op: str, loss: Array, used: _Used, reduction: str) -> Array:
    if reduction == "mean":
        return api.sum(loss) / api.sum(used.weight)
    return _reduce(op, loss, reduction)


# ---- yes or no -----------------------------------------------------------------------------


def binary_cross_entropy_with_logits(
    logits: Any,
    target: Any,
    weight: Any = None,
    *,
    reduction: Reduction = "mean",
    pos_weight: Any = None,
) -> Array:
    """-(t * log(sigmoid(x)) + (1 - t) * log(1 - sigmoid(x))), without overflow.

    Args:
        logits: any shape.
        target: in [0, 1], of the same shape.
        weight: of each element; broadcasts.
        reduction: "mean", "sum" or "none".
        pos_weight: of the first term; broadcasts.

    Raises:
        ShapeError: the shapes differ.

    >>> st.nn.losses.binary_cross_entropy_with_logits(st.zeros(2), np.float32([0, 1]))
    Array(0.6931472, dtype=float32)
    """
    op = "binary_cross_entropy_with_logits"
    x, t = _pair(op, logits, target)
    positive = 1.0 if pos_weight is None else (_like(pos_weight, x) - 1.0) * t + 1.0
    loss = (1.0 - t) * x - positive * api.log_sigmoid(x)
    return _reduce(op, loss if weight is None else loss * _like(weight, x), reduction)


def _like(v: Any, x: Array) -> Array:
    return asarray(v).astype(x.dtype)


def binary_cross_entropy(
    probabilities: Any, target: Any, weight: Any = None, *, reduction: Reduction = "mean"
) -> Array:
    """-(t * log(p) + (1 - t) * log(1 - p)), each logarithm at least -100.

    Better: `binary_cross_entropy_with_logits`. At p = 0 and p = 1 the clamped term has no
    derivative; p outside [0, 1] gives NaN.

    Args:
        probabilities: any shape.
        target: in [0, 1], of the same shape.
        weight: of each element; broadcasts.
        reduction: "mean", "sum" or "none".

    Raises:
        ShapeError: the shapes differ.
    """
    op = "binary_cross_entropy"
    p, t = _pair(op, probabilities, target)
    loss = -(t * _clamped_log(p) + (1.0 - t) * _clamped_log(1.0 - p))
    return _reduce(op, loss if weight is None else loss * _like(weight, p), reduction)


def _clamped_log(p: Array) -> Array:
    zero = p == 0
    return api.where(zero, -100.0, api.maximum(api.log(api.where(zero, 1.0, p)), -100.0))


def sigmoid_focal_loss(
    logits: Any,
    target: Any,
    alpha: float = 0.25,
    gamma: float = 2.0,
    *,
    reduction: Reduction = "none",
) -> Array:
    """Binary cross-entropy times (1 - p_t) ** gamma: easy examples count little (Lin et al. 2017).

    Args:
        logits: any shape.
        target: in [0, 1], of the same shape.
        alpha: weight of the positive class; negative for no weights.
        gamma: how much the easy ones are held back.
        reduction: "mean", "sum" or "none" (the default, as in torchvision).

    Raises:
        ShapeError: the shapes differ.
    """
    op = "sigmoid_focal_loss"
    x, t = _pair(op, logits, target)
    p = api.sigmoid(x)
    wrong = p * (1.0 - t) + (1.0 - p) * t  # 1 - p_t, without cancellation
    loss = binary_cross_entropy_with_logits(x, t, reduction="none") * api.pow(wrong, gamma)
    if alpha >= 0:
        loss = loss * (t * alpha + (1.0 - t) * (1.0 - alpha))
    return _reduce(op, loss, reduction)


def dice_loss(
    logits: Any,
    target: Any,
    *,
    activation: Literal["auto", "none"] = "auto",
    smooth: float = 1.0,
    include_background: bool = True,
    reduction: Reduction = "mean",
) -> Array:
    """Soft Dice: 1 - (2 * sum(p * t) + smooth) / (sum(p) + sum(t) + smooth) per sample and class.

    The sums run over the spatial axes.

    Args:
        logits: [N, C, *S].
        target: labels, integers [N, *S] in [0, C); or masks (0 to 1, any dtype) with the shape of
            the logits. For C = 1, masks.
        activation: "auto" is sigmoid for C = 1 and softmax over the classes else; "none" takes
            probabilities.
        smooth: keeps an empty class from dividing 0 by 0.
        include_background: False leaves class 0 out.
        reduction: "none" gives [N, C] (without the background [N, C - 1]).

    Raises:
        ShapeError: shapes do not fit, or nothing is left without the background.

    Method: Milletari et al., "V-Net" (2016).

    >>> mask = np.array([[[0, 1], [1, 1]]])
    >>> sure = 100.0 * st.one_hot(mask, 2).transpose(0, 3, 1, 2)
    >>> st.nn.losses.dice_loss(sure, mask)
    Array(0., dtype=float32)
    """
    op = "dice_loss"
    x, target = _floating(op, logits), asarray(target)
    if x.ndim < 2:
        raise ShapeError(f"{op}: wants logits [N, C, *S], got {x.type}")
    if activation not in ("auto", "none"):
        raise ShapeError(f"{op}: activation {activation!r} is not 'auto' or 'none'")
    classes = x.shape[1]
    if target.ndim == x.ndim - 1 and target.dtype.is_integer and classes > 1:
        hot = api.one_hot(target, classes, x.dtype)  # [n, *s] -> [n, *s, c]
        target = api.moveaxis(hot, -1, 1)
    if target.shape != x.shape:
        raise ShapeError(f"{op}: target for {x.type} must be labels or a mask, got {target.type}")
    p, t = x, target.astype(x.dtype)
    if activation == "auto":
        p = api.sigmoid(x) if classes == 1 else api.softmax(x, 1)
    if not include_background:
        if classes == 1:
            raise ShapeError(f"{op}: without the background nothing is left of {x.type}")
        p, t = p[:, 1:], t[:, 1:]
    axes = tuple(range(2, x.ndim))
    both, each = api.sum(p * t, axes), api.sum(p, axes) + api.sum(t, axes)
    return _reduce(op, 1.0 - (both * 2.0 + smooth) / (each + smooth), reduction)


# ---- distances -----------------------------------------------------------------------------


def mse_loss(x: Any, target: Any, *, reduction: Reduction = "mean") -> Array:
    """(x - target) ** 2.

    Raises:
        ShapeError: the shapes differ.

    >>> st.nn.losses.mse_loss(st.zeros(2), np.float32([1, 3]))
    Array(5., dtype=float32)
    """
    x, target = _pair("mse_loss", x, target)
    return _reduce("mse_loss", api.square(x - target), reduction)


def l1_loss(x: Any, target: Any, *, reduction: Reduction = "mean") -> Array:
    """|x - target|.

    Raises:
        ShapeError: the shapes differ.
    """
    x, target = _pair("l1_loss", x, target)
    return _reduce("l1_loss", api.abs(x - target), reduction)


def huber_loss(x: Any, target: Any, *, reduction: Reduction = "mean", delta: float = 1.0) -> Array:
    """d ** 2 / 2 where d = |x - target| is below delta, else delta * (d - delta / 2).

    Raises:
        ShapeError: the shapes differ, or delta is not positive.
    """
    if delta <= 0:
        raise ShapeError(f"huber_loss: delta must be > 0, got {delta}")
    x, target = _pair("huber_loss", x, target)
    d = api.abs(x - target)
    loss = api.where(d < delta, api.square(d) * 0.5, (d - 0.5 * delta) * delta)
    return _reduce("huber_loss", loss, reduction)


def smooth_l1_loss(
    x: Any, target: Any, *, reduction: Reduction = "mean", beta: float = 1.0
) -> Array:
    """The Huber loss with delta = beta, divided by beta; for beta = 0 the L1 loss.

    Raises:
        ShapeError: the shapes differ, or beta is negative.
    """
    if beta < 0:
        raise ShapeError(f"smooth_l1_loss: beta must be >= 0, got {beta}")
    if beta == 0:
        return l1_loss(x, target, reduction=reduction)
    return huber_loss(x, target, reduction=reduction, delta=beta) / beta
