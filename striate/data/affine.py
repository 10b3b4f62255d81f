"""Affine maps of images with bilinear sampling.

Coordinates are (column, row) about the centre of the image, in pixels; rows go down, and a
positive angle turns counter-clockwise, as np.rot90. The image is moved by `p -> A p + t`, so the
output at `p` reads the input at `A^-1 (p - t)`, from the four pixels around it.
"""

from dataclasses import dataclass

import numpy as np

from striate.errors import ShapeError

from .dataset import Batch
from .files import Array
from .transform import check_images, restore

_CHUNK = 1 << 19  # output pixels at a time: bounds the memory for indices


def warp_affine(x: Array, matrix: Array, *, fill: float = 0.0) -> Array:
    """Sample images through affine maps: `x: u8|f32[N, C, H, W]`, `matrix: f64[N, 2, 3]`.

    Output pixel `p = (column, row)` about the centre reads the input at `matrix @ (*p, 1)`,
    bilinear; `fill` is read outside. Same type and shape as `x`. Raises ShapeError where the
    matrices do not fit or are not finite.

    >>> x = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3)
    >>> bool((warp_affine(x, np.array([[[1, 0, 0], [0, 1, 0]]])) == x).all())
    True
    """
    n, _, h, w = check_images("warp_affine", x)
    matrix = np.asarray(matrix, np.float64)
    if matrix.shape != (n, 2, 3) or not np.isfinite(matrix).all():
        raise ShapeError(
            f"warp_affine: matrix is finite and has the shape ({n}, 2, 3), found {matrix.shape}"
        )
    out = np.empty(x.shape, x.dtype)
    if x.size == 0:
        return out
    step = max(1, _CHUNK // (h * w))
    for at in range(0, n, step):
        part = slice(at, at + step)
        out[part] = restore(x, _sample(x[part], matrix[part], fill))
    return out


def _sample(x: Array, matrix: Array, fill: float) -> Array:
    n, c, h, w = x.shape
    col, row = np.arange(w) - (w - 1) / 2, np.arange(h) - (h - 1) / 2
    framed = np.full((n, h + 2, w + 2, c), fill, np.float32)  # one pixel of `fill` all round
    framed[:, 1:-1, 1:-1] = x.transpose(0, 2, 3, 1)  # [n, c, h, w] -> [n, h, w, c]
    pixels = framed.reshape(-1, c)
    j, fx = _split(_at(matrix[:, 0], col, row) + (w - 1) / 2, w)  # [n, h, w]
    i, fy = _split(_at(matrix[:, 1], col, row) + (h - 1) / 2, h)
    base = (np.arange(n)[:, None, None] * (h + 2) + i) * (w + 2) + j
    above = (1 - fx) * pixels[base] + fx * pixels[base + 1]  # [n, h, w, c]
    base += w + 2
    below = (1 - fx) * pixels[base] + fx * pixels[base + 1]
    out: Array = (1 - fy) * above + fy * below
    return out.transpose(0, 3, 1, 2)  # -> [n, c, h, w]


def _at(line: Array, col: Array, row: Array) -> Array:
    a, b, t = (line[:, k, None, None] for k in range(3))  # [n, 1, 1]
    value: Array = a * col[None, None, :] + b * row[None, :, None] + t
    return value


def _split(at: Array, size: int) -> tuple[Array, Array]:
    """The framed index left of a coordinate, and the weight of its right neighbour."""
    at = np.clip(at + 1, 0, size + 1)
    low = np.minimum(np.floor(at), size)
    return low.astype(np.intp), (at - low).astype(np.float32)[..., None]


@dataclass(frozen=True)
class RandomAffine:
    """Rotate, move, scale and shear each image at random: `x: u8|f32[N, C, H, W]`, same type.

    `degrees`: rotation in +-degrees. `translate`: shift in +- these fractions of (H, W).
    `scale`: factor in (low, high). `shear`: shear of rows in +- these degrees. `fill`: the value
    outside. The map is bilinear, and exact where it moves nothing. Raises ValueError out of range.

    >>> x = np.ones((2, 3, 8, 8), np.float32)
    >>> turn = RandomAffine(degrees=15, translate=(0.1, 0.1), scale=(0.9, 1.1), shear=5)
    >>> turn(x, np.zeros(2), np.random.default_rng(0))[0].shape
    (2, 3, 8, 8)
    """

    degrees: float = 0.0
    translate: tuple[float, float] = (0.0, 0.0)
    scale: tuple[float, float] = (1.0, 1.0)
    shear: float = 0.0
    fill: float = 0.0

    def __post_init__(self) -> None:
        low, high = self.scale
        if not 0 < low <= high < np.inf:
            raise ValueError(f"RandomAffine: scale is 0 < low <= high, found {self.scale}")
        if not 0 <= self.shear < 90 or not 0 <= self.degrees < np.inf:
            raise ValueError(
                "RandomAffine: shear is in 0..90 (not 90) and degrees at least 0, "
                f"found {self.shear} and {self.degrees}"
            )
        if not all(0 <= t < np.inf for t in self.translate):
            raise ValueError(f"RandomAffine: translate is at least 0, found {self.translate}")

    def __call__(self, x: Array, y: Array, rng: np.random.Generator, /) -> Batch:
        """Move each image by a map of its own."""
        n, _, h, w = check_images("RandomAffine", x)
        angle, ty, tx, scale, shear = rng.random((5, n)) * 2 - 1  # in -1..1
        low, high = self.scale
        matrix = inverse_affine(
            np.deg2rad(angle * self.degrees),
            tx * self.translate[1] * w,
            ty * self.translate[0] * h,
            low + (high - low) * (scale + 1) / 2,
            np.tan(np.deg2rad(shear * self.shear)),
        )
        return warp_affine(x, matrix, fill=self.fill), y


def inverse_affine(angle: Array, tx: Array, ty: Array, scale: Array, shear: Array) -> Array:
    """f64[N, 2, 3]: the inverse of scale, then shear of rows, then rotation, then shift.

    `angle` in radians, `shear` as a slope; all f64[N].
    """
    cos, sin = np.cos(angle), np.sin(angle)
    # R = [[cos, sin], [-sin, cos]] (rows go down), S = [[1, k], [0, 1]], A = R S scale
    # A^-1 = S^-1 R^T / scale = [[cos - k sin, -sin - k cos], [sin, cos]] / scale
    a, b = (cos - shear * sin) / scale, (-sin - shear * cos) / scale
    c, d = sin / scale, cos / scale
    return np.stack([a, b, -(a * tx + b * ty), c, d, -(c * tx + d * ty)], -1).reshape(-1, 2, 3)
