"""Augmentation, checked by what must hold for any draw."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from striate.data import (
    ColorJitter,
    Compose,
    CutMix,
    Cutout,
    HorizontalFlip,
    Mixup,
    Normalize,
    RandomAffine,
    RandomCrop,
    ToFloat,
    VerticalFlip,
    normalize,
    one_hot,
    to_float,
    warp_affine,
)
from striate.data.affine import inverse_affine
from striate.data.color import grey, shift_hue
from striate.errors import DTypeError, ShapeError


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def images(n: int = 6, c: int = 3, h: int = 9, w: int = 7, dtype: Any = np.uint8) -> np.ndarray:
    x = rng(1).integers(0, 256, (n, c, h, w), dtype=np.uint8)
    return x if dtype == np.uint8 else x.astype(np.float32) / 255


Y = np.arange(6) % 4
ALL = [
    RandomCrop(padding=2),
    RandomCrop((4, 5), padding=0),
    RandomCrop(5, padding=3, mode="reflect"),
    HorizontalFlip(),
    VerticalFlip(0.3),
    Cutout(4),
    RandomAffine(30, (0.2, 0.1), (0.8, 1.2), 10),
    ColorJitter(0.4, 0.4, 0.4, 0.1),
    Mixup(4, 0.4),
    CutMix(4),
]


@pytest.mark.parametrize("transform", ALL, ids=repr)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_what_all_share(transform: Any, dtype: Any) -> None:
    x = images(dtype=dtype)
    x.flags.writeable = False
    y = Y.copy()
    y.flags.writeable = False
    a, la = transform(x, y, rng(3))
    b, lb = transform(x, y, rng(3))
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(la, lb)
    assert a.dtype == dtype
    assert a.shape[:2] == x.shape[:2]
    assert len(la) == 6
    assert any(not np.array_equal(transform(x, y, rng(s))[0], a) for s in range(4, 9))
    empty = transform(x[:0], y[:0], rng())[0]
    assert empty.shape == (0, *a.shape[1:])
    with pytest.raises(ShapeError, match=r"\[N, C, H, W\], found 3 axes"):
        transform(x[0], y, rng())
    with pytest.raises(DTypeError, match="found float64"):
        transform(x.astype(np.float64), y, rng())


def test_to_float_and_normalize() -> None:
    x = images()
    f, _ = to_float(x, Y)
    assert f.dtype == np.float32
    np.testing.assert_array_equal(f, x.astype(np.float32) / np.float32(255))
    assert to_float(f, Y)[0] is f
    np.testing.assert_array_equal(ToFloat(16)(np.array([16], np.uint8), Y)[0], [1])
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    out, _ = Compose([to_float, normalize(mean, std)])(x, Y, rng())
    np.testing.assert_array_equal(out, normalize(mean, std)(x, Y)[0])
    np.testing.assert_allclose(out[:, 2], (f[:, 2] - 0.3) / 0.4, rtol=1e-5, atol=1e-6)
    assert out.dtype == np.float32
    with pytest.raises(ShapeError, match=r"found 3 entries for x of shape \(6, 1, 9, 7\)"):
        Normalize(mean, std)(images(c=1), Y)
    for wrong in (0.0, -1.0, (1.0, 0.0)):
        with pytest.raises(ValueError, match="std is above 0"):
            normalize(0.5, wrong)
    with pytest.raises(ValueError, match="above 0"):
        ToFloat(0)


def test_crops_are_windows_of_the_padded_image() -> None:
    x = images(50)
    padded = np.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2)), constant_values=7)
    out, _ = RandomCrop((5, 6), padding=2, fill=7)(x, Y, rng())
    places = set()
    for k in range(50):
        hits = [
            (i, j)
            for i in range(9)
            for j in range(6)
            if np.array_equal(out[k], padded[k, :, i : i + 5, j : j + 6])
        ]
        assert len(hits) == 1
        places |= set(hits)
    assert len(places) > 20
    with pytest.raises(ShapeError, match=r"a crop of 14 x 14 in 13 x 11 \(padding 2 a side\)"):
        RandomCrop(14, padding=2)(x, Y, rng())
    with pytest.raises(ValueError, match="padding"):
        RandomCrop(padding=-1)


def test_flips() -> None:
    x = images(200)
    for flip, axis in ((HorizontalFlip, 3), (VerticalFlip, 2)):
        np.testing.assert_array_equal(flip(1.0)(x, Y, rng())[0], np.flip(x, axis))
        np.testing.assert_array_equal(flip(0.0)(x, Y, rng())[0], x)
        out = flip(0.5)(x, Y, rng())[0]
        turned = (out == np.flip(x, axis)).all((1, 2, 3))
        assert (turned | (out == x).all((1, 2, 3))).all()
        assert 60 < turned.sum() < 140
        with pytest.raises(ValueError, match=r"p is in 0\.\.1, found 1\.5"):
            flip(1.5)


def test_cutout_hides_one_square() -> None:
    x = np.ones((300, 2, 9, 7), np.float32)
    out, _ = Cutout(4, fill=0.5)(x, Y, rng())
    hole = out == 0.5
    assert ((out == 1) | hole).all()
    assert (hole[:, 0] == hole[:, 1]).all()
    area = hole[:, 0].sum((1, 2))
    assert area.max() == 16
    assert area.min() >= 4  # a corner: the centre is always inside
    rows, cols = hole[:, 0].any(2).sum(1), hole[:, 0].any(1).sum(1)
    np.testing.assert_array_equal(rows * cols, area)
    assert (Cutout(4, p=0.0)(x, Y, rng())[0] == 1).all()
    assert (Cutout(0)(x, Y, rng())[0] == 1).all()
    with pytest.raises(ValueError, match="found -1"):
        Cutout(-1)


def matrices(n: int, angle: float = 0, tx: float = 0, ty: float = 0, scale: float = 1,
             shear: float = 0) -> np.ndarray:  # fmt: skip
    one = np.ones(n)
    return inverse_affine(angle * one, tx * one, ty * one, scale * one, shear * one)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_the_identity_is_exact(dtype: Any) -> None:
    x = images(dtype=dtype)
    np.testing.assert_array_equal(warp_affine(x, matrices(6), fill=3), x)
    np.testing.assert_array_equal(RandomAffine()(x, Y, rng())[0], x)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("k", [1, 2, 3, -1])
def test_quarter_turns(dtype: Any, size: int, k: int) -> None:
    x = images(h=size, w=size, dtype=dtype)
    out = warp_affine(x, matrices(6, angle=k * np.pi / 2))
    np.testing.assert_allclose(out, np.rot90(x, k, (2, 3)), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("tx", "ty"), [(2, 0), (0, 3), (-1, -2), (100, 0)])
def test_whole_shifts(tx: int, ty: int) -> None:
    x = images()
    expected = np.full_like(x, 9)
    h, w = x.shape[2:]
    for i in range(h):
        for j in range(w):
            if 0 <= i - ty < h and 0 <= j - tx < w:
                expected[:, :, i, j] = x[:, :, i - ty, j - tx]
    np.testing.assert_array_equal(warp_affine(x, matrices(6, tx=tx, ty=ty), fill=9), expected)


def test_sampling_is_bilinear() -> None:
    x = images(dtype=np.float32)
    out = warp_affine(x, matrices(6, tx=-0.25))
    expected = 0.75 * x[..., :-1] + 0.25 * x[..., 1:]
    np.testing.assert_allclose(out[..., :-1], expected, atol=1e-6)


@given(st.floats(-7, 7), st.floats(-3, 3), st.floats(-3, 3), st.floats(0.3, 3), st.floats(-1, 1))
def test_a_plane_stays_a_plane(
    angle: float, tx: float, ty: float, scale: float, shear: float
) -> None:
    """Bilinear sampling is exact on a + b * column + c * row, wherever it reads inside."""
    h, w = 11, 13
    col, row = np.arange(w) - (w - 1) / 2, (np.arange(h) - (h - 1) / 2)[:, None]
    x = (5 + 2 * col - 3 * row).astype(np.float32)[None, None]
    matrix = matrices(1, angle, tx, ty, scale, shear)
    at_col = matrix[0, 0, 0] * col + matrix[0, 0, 1] * row + matrix[0, 0, 2]
    at_row = matrix[0, 1, 0] * col + matrix[0, 1, 1] * row + matrix[0, 1, 2]
    inside = (np.abs(at_col) <= (w - 1) / 2) & (np.abs(at_row) <= (h - 1) / 2)
    out = warp_affine(x, matrix)[0, 0]
    np.testing.assert_allclose(out[inside], (5 + 2 * at_col - 3 * at_row)[inside], atol=1e-3)


@given(st.floats(-7, 7), st.floats(-5, 5), st.floats(0.2, 5), st.floats(-2, 2))
def test_the_inverse_is_the_inverse(angle: float, shift: float, scale: float, shear: float) -> None:
    inverse = matrices(1, angle, shift, -shift, scale, shear)[0]
    cos, sin = np.cos(angle), np.sin(angle)
    turn, slant = np.array([[cos, sin], [-sin, cos]]), np.array([[1, shear], [0, 1]])
    forward = turn @ slant * scale
    np.testing.assert_allclose(forward @ inverse[:, :2], np.eye(2), atol=1e-9)
    np.testing.assert_allclose(forward @ inverse[:, 2], [-shift, shift], atol=1e-9)


def test_affine_chunks_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    x = images()
    whole = RandomAffine(30, (0.2, 0.2))(x, Y, rng())[0]
    monkeypatch.setattr("striate.data.affine._CHUNK", 1)
    np.testing.assert_array_equal(RandomAffine(30, (0.2, 0.2))(x, Y, rng())[0], whole)


@pytest.mark.parametrize(
    "options",
    [
        {"scale": (0, 1)},
        {"scale": (2, 1)},
        {"shear": 90},
        {"degrees": -1},
        {"degrees": float("nan")},
        {"translate": (-0.1, 0)},
    ],
)
def test_affine_ranges(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="RandomAffine"):
        RandomAffine(**options)


def test_affine_matrices_are_checked() -> None:
    with pytest.raises(ShapeError, match=r"\(6, 2, 3\), found \(5, 2, 3\)"):
        warp_affine(images(), matrices(5))
    with pytest.raises(ValueError, match="finite"):
        warp_affine(images(), matrices(6) * np.nan)


def test_jitter_without_amounts_changes_nothing() -> None:
    x = images()
    np.testing.assert_array_equal(ColorJitter()(x, Y, rng())[0], x)
    f = images(dtype=np.float32)
    np.testing.assert_allclose(ColorJitter()(f, Y, rng())[0], f, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_jitter_stays_in_range(dtype: Any) -> None:
    x = images(64, dtype=dtype)
    out, _ = ColorJitter(3, 3, 3, 0.5)(x, Y, rng())
    assert out.dtype == dtype
    assert out.min() >= 0
    assert out.max() <= (255 if dtype == np.uint8 else 1)


def test_brightness_is_a_factor_by_image() -> None:
    x = images(dtype=np.float32) * np.float32(0.5)
    out, _ = ColorJitter(brightness=0.5)(x, Y, rng())
    factor = out / np.where(x > 0, x, 1)
    for k in range(6):
        known = factor[k][x[k] > 0]
        assert np.ptp(known) < 1e-5
        assert 0.5 <= known[0] <= 1.5


def test_contrast_and_saturation_keep_grey_level() -> None:
    x = 0.4 + 0.2 * images(dtype=np.float32)
    contrast, _ = ColorJitter(contrast=0.5)(x, Y, rng())
    np.testing.assert_allclose(grey(contrast).mean((1, 2, 3)), grey(x).mean((1, 2, 3)), atol=1e-6)
    saturation, _ = ColorJitter(saturation=0.5)(x, Y, rng())
    np.testing.assert_allclose(grey(saturation), grey(x), atol=1e-6)
    assert np.abs(saturation - x).max() > 0.01
    with pytest.raises(ShapeError, match="3 channels, found 1"):
        ColorJitter(saturation=0.5)(images(c=1), Y, rng())
    assert ColorJitter(0.5, 0.5)(images(c=1), Y, rng())[0].shape == (6, 1, 9, 7)
    for options in ({"hue": 0.6}, {"brightness": -1}):
        with pytest.raises(ValueError, match="ColorJitter"):
            ColorJitter(**options)


def test_hue_equals_colorsys() -> None:
    import colorsys

    x = images(2, h=4, w=4, dtype=np.float32)
    x[0, :, 0, 0] = 0.5  # grey has no hue
    turns = np.array([0.3, -0.45], np.float32).reshape(2, 1, 1, 1)
    out = shift_hue(x, turns)
    for k, i, j in np.ndindex(2, 4, 4):
        h, s, v = colorsys.rgb_to_hsv(*map(float, x[k, :, i, j]))
        expected = colorsys.hsv_to_rgb((h + float(turns[k, 0, 0, 0])) % 1, s, v)
        np.testing.assert_allclose(out[k, :, i, j], expected, atol=1e-5)


@given(st.integers(0, 1 << 30), st.floats(0.05, 5))
def test_mixed_labels_sum_to_one(seed: int, alpha: float) -> None:
    x = images(dtype=np.float32)
    for mix in (Mixup(4, alpha), CutMix(4, alpha)):
        out, y = mix(x, Y, rng(seed))
        assert (y.dtype, y.shape) == (np.float32, (6, 4))
        np.testing.assert_allclose(y.sum(1), 1, atol=1e-6)
        assert (y >= 0).all()
        assert out.min() >= 0
        assert out.max() <= 1 + 1e-6


def test_labels_weigh_what_the_pixels_do() -> None:
    """With image k filled by k's one-hot code in its channels, mean pixels are the soft label."""
    y = np.arange(6)
    x = np.broadcast_to(np.eye(6, dtype=np.float32)[:, :, None, None], (6, 6, 8, 8)).copy()
    for seed in range(20):
        for mix in (Mixup(6), CutMix(6)):
            out, soft = mix(x, y, rng(seed))
            np.testing.assert_allclose(out.mean((2, 3)), soft, atol=1e-6)
    both = Compose([CutMix(6), Mixup(6)])  # the second takes soft labels
    out, soft = both(x, y, rng(0))
    np.testing.assert_allclose(soft.sum(1), 1, atol=1e-6)


def test_cutmix_replaces_a_box() -> None:
    x = images(2, c=1, h=8, w=8)
    x[0], x[1] = 0, 200
    for seed in range(30):
        out, y = CutMix(2)(x, np.array([0, 1]), rng(seed))
        foreign = out[0, 0] == 200
        assert foreign.sum() in (0, foreign.any(1).sum() * foreign.any(0).sum())
        assert y[0, 1] == pytest.approx(foreign.mean(), abs=1e-6)


def test_labels_are_checked() -> None:
    x = images()
    with pytest.raises(ValueError, match=r"0\.\.2, found 3"):
        Mixup(3)(x, Y, rng())
    with pytest.raises(ShapeError, match="6 images need 6 labels, found 5"):
        CutMix(4)(x, Y[:5], rng())
    with pytest.raises(ValueError, match="alpha above 0"):
        Mixup(4, 0)
    with pytest.raises(ValueError, match="classes is at least 1"):
        CutMix(0)
    with pytest.raises(ValueError, match=r"soft labels of shape \(6, 5\)"):
        Mixup(4)(x, np.ones((6, 5), np.float32), rng())
    with pytest.raises(ValueError, match="float64"):
        one_hot(np.zeros(3), 4)


def test_reproducible_in_any_chain() -> None:
    chain = Compose(ALL[:1] + ALL[3:])
    a = chain(images(), Y, rng(7))
    b = chain(images(), Y, rng(7))
    np.testing.assert_array_equal(a[0], b[0])
    np.testing.assert_array_equal(a[1], b[1])
    assert "RandomCrop(size=None" in repr(chain)
