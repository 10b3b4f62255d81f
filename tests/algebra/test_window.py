"""One axis: the relation against every (o, k, i), its symmetries, and its parts."""

from __future__ import annotations

from hypothesis import assume, example, given, strategies as s

from striate import Window
from tests.algebra.relations import dense_windows, signed, solutions, windows


@given(windows())
def test_lhs_adjoint_exchanges_i_and_o(t: Window) -> None:
    assert solutions(t.lhs_adjoint()) == {(i, k, o) for o, k, i in solutions(t)}


@given(windows())
def test_rhs_adjoint_exchanges_o_and_k(t: Window) -> None:
    assert solutions(t.rhs_adjoint()) == {(k, o, i) for o, k, i in solutions(t)}


@given(windows())
def test_adjoints_are_involutions(t: Window) -> None:
    assert t.lhs_adjoint().lhs_adjoint() == t
    assert t.rhs_adjoint().rhs_adjoint() == t


@given(windows())
@example(Window(7, 4, 3, 3, 2, -1, 2))
def test_adjoints_generate_the_symmetric_group(t: Window) -> None:
    seen = {t.canonical()}
    todo = [t.canonical()]
    while todo:
        u = todo.pop()
        for v in (u.lhs_adjoint().canonical(), u.rhs_adjoint().canonical()):
            if v not in seen:
                seen.add(v)
                todo.append(v)
    assert 6 % len(seen) == 0
    braid = t
    for _ in range(3):  # (a b)^3 = 1: with the involutions, the presentation of S3
        braid = braid.lhs_adjoint().rhs_adjoint()
    assert braid.canonical() == t.canonical()


def test_an_orbit_has_six_relations() -> None:
    t = Window(7, 4, 3, 3, 2, -1, 2)
    a, b = Window.lhs_adjoint, Window.rhs_adjoint
    orbit = {t, a(t), b(t), a(b(t)), b(a(t)), a(b(a(t)))}
    assert len({u.canonical() for u in orbit}) == 6


@given(windows())
def test_canonical_has_the_same_solutions_and_is_canonical(t: Window) -> None:
    for u in (t.canonical(), t.canonical_sign()):
        assert u.lhs_dilation > 0
        assert solutions(u) == solutions(t)
    assert t.canonical().canonical() == t.canonical()


@given(windows(), signed(3), signed(3), signed(3))
def test_idle_coefficients_do_not_count(t: Window, a: int, b: int, c: int) -> None:
    u = Window(1, 1, 1, a, b, c, t.pad_lo)
    assert u.canonical() == Window(1, 1, 1, pad_lo=abs(t.pad_lo))


@given(
    s.integers(0, 9),
    s.integers(1, 4),
    s.integers(1, 4),
    s.tuples(s.integers(-4, 6), s.integers(-4, 6)),
    s.integers(1, 4),
    signed(4),
)
def test_padding_comes_back_out(
    n: int, k: int, stride: int, padding: tuple[int, int], lhs_dilation: int, rhs_dilation: int
) -> None:
    extent = (k - 1) * abs(rhs_dilation) + 1
    assume(max(0, (n - 1) * lhs_dilation + 1) + sum(padding) >= extent)

    def of(pads: tuple[int, int]) -> Window:
        return Window.of(
            n, k, stride=stride, padding=pads, lhs_dilation=lhs_dilation, rhs_dilation=rhs_dilation
        )

    t = of(padding)
    lo, hi = t.padding
    assert lo == padding[0]
    assert padding[1] - stride < hi <= padding[1]  # the smallest: what stride drops is left out
    assert of((lo, hi)) == t
    if t.out_size > 1:
        assert of((lo, hi - 1)).out_size == t.out_size - 1


@given(s.integers(1, 12), s.integers(1, 4), s.integers(1, 3), s.integers(-3, 3), s.integers(-3, 3))
def test_of_counts_as_the_padded_input_does(n: int, k: int, d: int, lo: int, hi: int) -> None:
    extent = (k - 1) * d + 1
    assume(n + lo + hi >= extent)
    for stride in (1, 2, 3):
        starts = range(-lo, n + hi - extent + 1, stride)
        t = Window.of(n, k, stride=stride, padding=(lo, hi), rhs_dilation=d)
        assert t.out_size == len(starts)
        flipped = Window.of(n, k, stride=stride, padding=(lo, hi), rhs_dilation=-d)
        assert solutions(flipped) == {(o, k - 1 - f, i) for o, f, i in solutions(t)}


@given(windows(size=9, taps=6))
def test_phases_tile_the_outputs_and_keep_every_product(t: Window) -> None:
    outputs: list[int] = []
    products: list[tuple[int, int, int]] = []
    for phase in t.phases():
        outs = range(t.out_size)[phase.out]
        outputs += outs
        if phase.window is None or phase.kernel is None:
            assert phase.window is None and phase.kernel is None
            assert not any(o in outs for o, _, _ in solutions(t))
            continue
        taps = range(t.kernel_size)[phase.kernel]
        dense = phase.window
        assert dense.lhs_dilation == 1, "no inserted zero is multiplied"
        assert (dense.in_size, dense.out_size, dense.kernel_size) == (
            t.in_size, len(outs), len(taps)
        )  # fmt: skip
        products += [(outs[o], taps[k], i) for o, k, i in solutions(dense)]
    assert sorted(outputs) == list(range(t.out_size))
    assert len(products) == len(set(products))
    assert set(products) == solutions(t)


@given(dense_windows(size=9))
def test_outputs_of_a_tap(t: Window) -> None:
    for u in (
        t,
        Window(t.in_size, t.out_size, t.kernel_size, -t.stride, -1, -t.rhs_dilation, -t.pad_lo),
    ):
        for k in range(u.kernel_size):
            assert list(u.outputs_of(k)) == sorted(o for o, tap, _ in solutions(u) if tap == k)


def positions(t: Window, o: int) -> list[int]:
    """Where in the dilated input the taps of one output stand."""
    t = t.canonical_sign()
    return [t.stride * o + t.rhs_dilation * k - t.pad_lo for k in range(t.kernel_size)]


@given(windows(least=1, size=9))
def test_interior_sees_no_padding(t: Window) -> None:
    last = abs(t.lhs_dilation) * (t.in_size - 1)
    inside = [o for o in range(t.out_size) if all(0 <= p <= last for p in positions(t, o))]
    assert list(t.interior()) == inside


@given(windows(least=1))
def test_reads_are_the_ends_of_all_positions(t: Window) -> None:
    touched = [p for o in range(t.out_size) for p in positions(t, o)]
    assert t.reads() == (min(touched), max(touched))


def test_huge_numbers_are_exact() -> None:
    t = Window.of(3, 2, padding=(2**60, 2**60 - 4), rhs_dilation=2**60)
    assert t.out_size == 2**60 - 1
    assert list(Window.of(8, 1, stride=2**62).outputs_of(0)) == [0]
    big = Window(5, 4, 3, stride=2**40, lhs_dilation=2**41, rhs_dilation=-(2**39), pad_lo=2**50)
    assert big.lhs_adjoint().lhs_adjoint() == big
