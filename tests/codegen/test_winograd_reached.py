"""Winograd's algorithms are what `st.conv` and its derivatives take where they pay, by plans."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

import striate as st
from striate.codegen.machine import named_target
from tests.codegen.computations import Draw, floats, with_gradients
from tests.codegen.plans import graph_of, program_of

FORWARD, WEIGHT = "forward and input gradient", "weight gradient"
ALL = [FORWARD, WEIGHT]
Size = tuple[int, ...]


def steps_of(f: Callable[..., st.Array], channels: int, size: Size, window: Size) -> list[str]:
    """The kernels of a layer of 64 channels a group, batch 2, in all directions."""
    d = Draw(0, 0, "reached")
    x, w = floats(d, (2, channels, *size)), floats(d, (channels, 64, *window))
    both = with_gradients(d, f, x, w)
    steps = program_of(graph_of(both)[0], named_target("x86-64-v4")).steps
    return [s.kernel.name for s in steps]


def reached(size: Size, window: Size, precision: str = "high") -> list[str]:
    """Which directions of a layer of 64 channels, batch 2, are done so."""
    with st.config(precision=precision):
        names = steps_of(lambda x, w: st.conv(x, w, padding="same"), 64, size, window)
    found = []
    if len([n for n in names if re.match(r"winograd_f\d", n)]) == 2:
        found.append(FORWARD)
    if [n for n in names if n.startswith("winograd_gradient_f")]:
        found.append(WEIGHT)
    return found


@pytest.mark.parametrize(
    ("size", "window", "expected"),
    [
        ((28, 28), (3, 3), ALL),
        ((28, 28), (5, 5), ALL),
        ((28, 28), (7, 7), [FORWARD]),  # few points are left: little is saved
        ((28, 28), (1, 3), ALL),
        ((28, 28), (3, 1), ALL),
        ((28, 28), (1, 7), [FORWARD]),
        ((28, 28), (1, 1), []),
        ((100,), (3,), ALL),
        ((16, 16, 16), (3, 3, 3), ALL),
    ],
    ids=str,
)
def test_a_layer_takes_them(
    size: tuple[int, ...], window: tuple[int, ...], expected: list[str]
) -> None:
    assert reached(size, window) == expected


@pytest.mark.parametrize("precision", ["highest", "high", "fast"])
def test_every_precision_takes_them_in_volumes(precision: str) -> None:
    assert reached((16, 16, 16), (3, 3, 3), precision) == ALL


@pytest.mark.parametrize(
    ("conv", "more", "taps", "forward", "gradients"),
    [
        ("conv", {"dilation": 3, "padding": 3}, 3, 2, 1),
        ("conv", {"stride": 2, "dilation": 2, "padding": 2}, 3, 2, 1),
        ("conv", {"stride": 2, "padding": 1}, 4, 5, 0),
        ("conv_transpose", {"stride": 2, "padding": 1}, 4, 5, 0),
        ("conv", {"stride": 2}, 2, 0, 0),
        ("conv", {"groups": 2, "padding": 1}, 3, 2, 1),
    ],
    ids=str,
)
def test_phases_take_them(
    conv: str, more: dict[str, Any], taps: int, forward: int, gradients: int
) -> None:
    """In numbers of kernels: of phases, forward and in the input gradient, and weight gradients."""
    channels = 64 * more.get("groups", 1)
    names = steps_of(lambda x, w: getattr(st, conv)(x, w, **more), channels, (28, 28), (taps, taps))
    found = [n for n in names if re.match(r"winograd_f\d", n)]
    assert len(found) == forward, names
    assert len([n for n in names if n.startswith("winograd_gradient_f")]) == gradients, names
