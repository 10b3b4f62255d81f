"""Pictures of what a network learns: filters, feature maps, training curves, confusion.

Every function takes arrays, draws one matplotlib figure and returns it; `save` writes a PNG.
matplotlib is the optional extra `striate[viz]`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, sqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.errors import ShapeError, StriateError

Figure = Any  # matplotlib.figure.Figure


def _figure(width: float, height: float) -> Figure:
    """An empty figure that no window shows.

    Raises:
        StriateError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure as Empty
    except ImportError as error:
        raise StriateError("viz: pictures need matplotlib: pip install 'striate[viz]'") from error
    figure = Empty(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure as PNG; the folder is made if it is missing."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return path


def _images(name: str, images: Any) -> NDArray[Any]:
    """[N, H, W] of anything that is it.

    Raises:
        ShapeError: there are not three axes, or there is nothing to draw.
    """
    x = np.asarray(images, dtype=np.float64)
    if x.ndim != 3 or 0 in x.shape:
        raise ShapeError(f"{name}: wants [N, H, W] with no size 0, got {x.shape}")
    return x


def grid(images: Any, *, titles: Sequence[str] = (), symmetric: bool = False) -> Figure:
    """Images side by side.

    Args:
        images: [N, H, W].
        titles: one per image, or none.
        symmetric: colours around zero (blue below, red above) instead of grey.

    Raises:
        ShapeError: `images` has not three axes.
        StriateError: matplotlib is not installed.
    """
    x = _images("grid", images)
    columns = ceil(sqrt(len(x) * 1.6))
    rows = ceil(len(x) / columns)
    figure = _figure(columns * 1.0, rows * (1.25 if titles else 1.0))
    limit = float(np.abs(x).max()) or 1.0
    for i, image in enumerate(x):
        axes = figure.add_subplot(rows, columns, i + 1)
        if symmetric:
            axes.imshow(image, cmap="RdBu_r", vmin=-limit, vmax=limit)
        else:
            axes.imshow(image, cmap="gray")
        axes.axis("off")
        if titles:
            axes.set_title(titles[i], fontsize=8)
    return figure


def filters(weight: Any) -> Figure:
    """The filters of a convolution, one picture per (filter, channel).

    Args:
        weight: [K, C, H, W]; 1-D filters [K, C, W] are drawn as rows.

    Raises:
        ShapeError: `weight` has another rank.
        StriateError: matplotlib is not installed.
    """
    w = np.asarray(weight)
    if w.ndim == 3:
        w = w[:, :, None, :]
    if w.ndim != 4:
        raise ShapeError(f"filters: wants [K, C, H, W] or [K, C, W], got {w.shape}")
    return grid(w.reshape(-1, *w.shape[2:]), symmetric=True)


def feature_maps(maps: Any) -> Figure:
    """The channels of one image inside a network.

    Args:
        maps: [C, H, W].

    Raises:
        ShapeError: `maps` has another rank.
        StriateError: matplotlib is not installed.
    """
    return grid(_images("feature_maps", maps))


def curves(rows: Sequence[Mapping[str, Any]], *, x: str = "epoch") -> Figure:
    """Training curves: losses in one panel, all other numbers in a second.

    Args:
        rows: one mapping per epoch, such as `history.rows`.
        x: the key of the horizontal axis.

    Raises:
        ShapeError: there are no rows.
        StriateError: matplotlib is not installed.
    """
    if not rows:
        raise ShapeError("curves: there are no rows to draw")
    names = [
        k
        for k in rows[-1]
        if k not in (x, "lr", "seconds", "step", "steps") and isinstance(rows[-1][k], int | float)
    ]
    panels = [[n for n in names if "loss" in n], [n for n in names if "loss" not in n]]
    panels = [p for p in panels if p]
    figure = _figure(5.0 * max(1, len(panels)), 3.5)
    for i, panel in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), i + 1)
        for name in panel:
            points = [(r[x], r[name]) for r in rows if r.get(name) is not None]
            axes.plot([a for a, _ in points], [b for _, b in points], marker=".", label=name)
        axes.set_xlabel(x)
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def confusion_matrix(labels: Any, predictions: Any, classes: int) -> NDArray[np.int64]:
    """How often class i was taken for class j: i64[classes, classes].

    Raises:
        ShapeError: the two have different shapes, or a class is out of range.

    >>> st.viz.confusion_matrix([0, 1, 1], [0, 1, 0], 2)
    array([[1, 0],
           [1, 1]])
    """
    true, guess = (np.asarray(v, dtype=np.int64).ravel() for v in (labels, predictions))
    if true.shape != guess.shape:
        raise ShapeError(f"confusion_matrix: {true.size} labels, {guess.size} predictions")
    if true.size and not (
        0 <= min(true.min(), guess.min()) <= max(true.max(), guess.max()) < classes
    ):
        raise ShapeError(f"confusion_matrix: a class is outside 0..{classes - 1}")
    counts = np.bincount(true * classes + guess, minlength=classes * classes)
    return counts.reshape(classes, classes).astype(np.int64)


def confusion(matrix: Any, *, names: Sequence[str] = ()) -> Figure:
    """A confusion matrix, with its counts.

    Args:
        matrix: [classes, classes], rows are the true classes.
        names: of the classes.

    Raises:
        ShapeError: `matrix` is not square.
        StriateError: matplotlib is not installed.
    """
    m = np.asarray(matrix)
    if m.ndim != 2 or m.shape[0] != m.shape[1]:
        raise ShapeError(f"confusion: wants a square matrix, got {m.shape}")
    n = len(m)
    labels = list(names) or [str(i) for i in range(n)]
    figure = _figure(1.5 + 0.45 * n, 1.2 + 0.45 * n)
    axes = figure.add_subplot(1, 1, 1)
    axes.imshow(np.sqrt(m), cmap="Blues")
    for i in range(n):
        for j in range(n):
            if m[i, j]:
                colour = "white" if m[i, j] > m.max() / 3 else "black"
                axes.text(j, i, str(m[i, j]), ha="center", va="center", fontsize=7, color=colour)
    axes.set_xticks(range(n), labels)
    axes.set_yticks(range(n), labels)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    return figure
