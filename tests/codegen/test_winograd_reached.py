"""Winograd's algorithms are what `st.conv` and its derivatives take where they pay, by plans."""

from __future__ import annotations

import re

import pytest

import striate as st
from striate.codegen.machine import named_target
from tests.codegen.computations import Draw, floats, with_gradients
from tests.codegen.plans import graph_of, program_of

FORWARD, WEIGHT = "forward and input gradient", "weight gradient"
ALL = [FORWARD, WEIGHT]


def reached(size: tuple[int, ...], window: tuple[int, ...], precision: str = "high") -> list[str]:
    """Which directions of a layer of 64 channels, batch 2, are done so."""
    d = Draw(0, 0, "reached")
    x, w = floats(d, (2, 64, *size)), floats(d, (64, 64, *window))
    both = with_gradients(d, lambda x, w: st.conv(x, w, padding="same"), x, w)
    with st.config(precision=precision):
        steps = program_of(graph_of(both)[0], named_target("x86-64-v4")).steps
    names = [s.kernel.name for s in steps]
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
