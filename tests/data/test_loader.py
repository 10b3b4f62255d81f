from __future__ import annotations

import gc
import itertools
import threading
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from striate.data import (
    ArrayDataset,
    Compose,
    CutMix,
    DataLoader,
    Dataset,
    HorizontalFlip,
    LoaderError,
    RandomAffine,
    RandomCrop,
    Subset,
    collate,
    digits,
    keyed_rng,
    to_float,
)
from striate.data.rng import permutation
from striate.errors import ShapeError


class Samples:
    """A dataset without `take`, slow in an irregular way."""

    def __init__(self, n: int, bad: int | None = None, delay: float = 0.0) -> None:
        self.n, self.bad, self.delay = n, bad, delay
        self.asked: list[int] = []

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> tuple[Any, Any]:
        self.asked.append(i)
        if self.delay:
            time.sleep(self.delay * (i * 7 % 5))
        if i == self.bad:
            raise OSError("disk on fire")
        return np.full((1, 4, 4), i, np.float32), i


def flat(batches: Any) -> list[tuple[bytes, bytes]]:
    return [(x.tobytes(), y.tobytes()) for x, y in batches]


AUGMENT = Compose([RandomCrop(padding=1), RandomAffine(20, (0.1, 0.1)), to_float, CutMix(10)])


def loader(workers: int = 0, **options: Any) -> DataLoader:
    options = {"shuffle": True, "seed": 5, "transform": AUGMENT} | options
    data = Subset(digits("test"), range(100))
    return DataLoader(data, 16, workers=workers, **options)


@pytest.mark.parametrize("sampled", [None, HorizontalFlip()])
def test_any_number_of_workers_gives_the_same_bits(sampled: Any) -> None:
    expected = flat(loader(sample_transform=sampled).batches(3))
    assert len(expected) == 7
    for workers, prefetch in [(1, 0), (1, 2), (3, 0), (3, 1), (20, 50)]:
        with_threads = loader(workers, prefetch=prefetch, sample_transform=sampled)
        assert flat(with_threads.batches(3)) == expected


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_resume_at_any_batch(workers: int) -> None:
    expected = flat(loader().batches(2))
    for start in range(8):
        assert flat(loader(workers).batches(2, start)) == expected[start:]
    with pytest.raises(ValueError, match=r"in 0\.\.7, the number of batches, found 8"):
        loader(workers).batches(2, 8)


def test_epochs() -> None:
    one = loader()
    first, again = flat(one), flat(one)
    assert first == again == flat(one.batches(0))  # iterating carries no state
    one.set_epoch(1)
    assert flat(one) != first
    assert flat(one) == flat(one.batches(1))
    one.epoch = 0
    assert flat(one) == first
    assert flat(loader(seed=6)) != first


@given(st.integers(0, 60), st.integers(1, 13), st.booleans(), st.booleans(), st.integers(0, 3))
def test_every_sample_once(n: int, size: int, shuffle: bool, drop: bool, workers: int) -> None:
    data = ArrayDataset(np.arange(n, dtype=np.float32).reshape(n, 1, 1, 1), np.arange(n))
    batches = DataLoader(data, size, shuffle=shuffle, drop_last=drop, workers=workers)
    got = list(batches)
    assert len(got) == len(batches)
    assert all(len(y) == size for _, y in got[:-1])
    labels = np.concatenate([y for _, y in got]) if got else np.zeros(0, np.int64)
    kept = n - n % size if drop else n
    assert len(labels) == kept
    assert len(np.unique(labels)) == kept
    assert np.array_equal(labels, np.arange(kept)) or shuffle
    assert all((x.reshape(-1) == y).all() for x, y in got)


def test_a_sample_keeps_its_randomness_whatever_its_batch() -> None:
    data = digits("test")

    def noisy(x: Any, y: Any, rng: np.random.Generator) -> Any:
        return x + rng.random(x.shape), y

    wide = DataLoader(data, 599, sample_transform=noisy)
    narrow = DataLoader(data, 7, shuffle=True, workers=2, sample_transform=noisy)
    (x, _) = next(iter(wide))
    got = np.empty_like(x)
    order = narrow.order(0)
    for b, (part, _) in enumerate(narrow):
        got[order[b * 7 : b * 7 + 7]] = part
    np.testing.assert_array_equal(got, x)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_a_failing_sample_is_named(workers: int) -> None:
    batches = DataLoader(Samples(40, bad=17), 4, workers=workers).batches(2)
    good = list(itertools.islice(batches, 4))
    assert [int(y[0]) for _, y in good] == [0, 4, 8, 12]  # all before it come
    with pytest.raises(LoaderError, match=r"sample 17 of batch 4, epoch 2, .* disk on fire") as e:
        next(batches)
    assert (e.value.index, e.value.batch, e.value.epoch) == (17, 4, 2)
    assert isinstance(e.value.__cause__, OSError)
    assert no_threads()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_failing_transform_is_named(workers: int) -> None:
    def fail(x: Any, y: Any, rng: Any) -> Any:
        raise ValueError("no")

    with pytest.raises(LoaderError, match=r"the transform of batch 0, .* ValueError: no") as caught:
        list(DataLoader(Samples(4), 2, workers=workers, transform=fail))
    assert caught.value.index is None
    with pytest.raises(LoaderError, match="sample 0 of batch 0"):
        list(DataLoader(Samples(4), 2, workers=workers, sample_transform=fail))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_interrupt_in_a_dataset_goes_through(workers: int) -> None:
    class Stops(Samples):
        def __getitem__(self, i: int) -> tuple[Any, Any]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(DataLoader(Stops(4), 2, workers=workers))


def no_threads() -> bool:
    for _ in range(200):
        if not any(t.name == "striate-data" for t in threading.enumerate()):
            return True
        time.sleep(0.01)
    return False


def test_threads_end() -> None:
    batches = iter(DataLoader(Samples(1000, delay=1e-4), 4, workers=3))
    next(batches)
    assert sum(t.name == "striate-data" for t in threading.enumerate()) == 3
    del batches
    gc.collect()
    assert no_threads()
    list(DataLoader(Samples(20), 4, workers=3))
    assert no_threads()
    with pytest.raises(RuntimeError, match="the consumer's own"):
        for _ in DataLoader(Samples(1000), 4, workers=3):
            raise RuntimeError("the consumer's own")
    assert no_threads()


def test_an_iterator_that_was_never_used_starts_no_thread() -> None:
    batches = iter(DataLoader(Samples(10), 4, workers=3))
    assert no_threads()
    del batches


@pytest.mark.parametrize(("workers", "prefetch"), [(1, 0), (1, 3), (3, 2)])
def test_prefetch_is_bounded(workers: int, prefetch: int) -> None:
    data = Samples(400)
    batches = iter(DataLoader(data, 4, workers=workers, prefetch=prefetch))
    for taken in range(1, 20):
        next(batches)
        time.sleep(0.002)
        assert len(set(data.asked)) <= 4 * (taken + workers + prefetch)


def test_empty_data() -> None:
    empty = ArrayDataset(np.zeros((0, 1, 8, 8), np.uint8), np.zeros(0, np.int64))
    for workers in (0, 2):
        batches = DataLoader(empty, 4, shuffle=True, workers=workers, transform=AUGMENT)
        assert len(batches) == 0
        assert list(batches) == []


@pytest.mark.parametrize(
    "options",
    [{"batch_size": 0}, {"workers": -1}, {"prefetch": -1}, {"seed": -1}],
)
def test_sizes_out_of_range(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))} is at least"):
        DataLoader(Samples(3), **({"batch_size": 2} | options))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="epoch is at least 0, found -1"):
        DataLoader(Samples(3), 2).set_epoch(-1)


def test_datasets() -> None:
    data = ArrayDataset(np.arange(12).reshape(3, 4), np.array([2, 0, 1], np.uint8))
    assert isinstance(data, Dataset)
    assert data[-1][1] == 1
    assert type(data[0][1]) is int
    with pytest.raises(IndexError):
        data[3]
    with pytest.raises(ShapeError, match=r"\(3, 4\) and y of shape \(2,\)"):
        ArrayDataset(data.x, data.y[:2])
    soft = ArrayDataset(data.x, np.eye(3, dtype=np.float32))
    assert soft[1][1].tolist() == [0, 1, 0]
    x, y = soft.take([2, 2])
    assert (x.shape, y.shape, y.dtype) == ((2, 4), (2, 3), np.float32)
    nested = Subset(Subset(data, [2, 1]), [1, 0, 1])
    assert [y for _, y in (nested[i] for i in range(3))] == [0, 1, 0]
    (_, labels) = next(iter(DataLoader(nested, 5)))
    assert labels.tolist() == [0, 1, 0]
    with pytest.raises(IndexError, match=r"0\.\.2, found 3"):
        Subset(data, [0, 3])
    with pytest.raises(IndexError, match="found -1"):
        Subset(data, [-1])
    assert len(Subset(data, [])) == 0


def test_collate() -> None:
    with pytest.raises(ShapeError, match=r"float64\[2\] at 4 and float64\[3\] at 9; resize"):
        collate([4, 9], [(np.zeros(2), 0), (np.zeros(3), 1)])
    _, y = collate([0, 1], [(np.zeros(2), 0.5), (np.zeros(2), 1.5)])
    assert y.dtype == np.float64
    _, y = collate([0, 1], [(np.zeros(2), np.zeros((3, 3))), (np.zeros(2), np.ones((3, 3)))])
    assert y.shape == (2, 3, 3)


def test_streams_are_functions_of_their_address() -> None:
    draws = {
        (s, e, i, p): keyed_rng(s, e, i, p).random(4).tobytes()  # type: ignore[arg-type]
        for s, e, i, p in itertools.product((0, 1), (0, 1), (0, 1), ("order", "sample", "batch"))
    }
    assert len(set(draws.values())) == len(draws)
    with pytest.raises(ValueError, match=r"seed is in 0\.\.2\^64-1, found -1"):
        keyed_rng(-1, 0, 0)
    keyed_rng((1 << 64) - 1, (1 << 64) - 1, (1 << 64) - 1)


def test_the_order_is_fixed_for_all_time() -> None:
    assert permutation(0, 0, 8).tolist() == ORDER_0
    assert permutation(0, 1, 8).tolist() == ORDER_1
    first = np.array([permutation(0, e, 5)[0] for e in range(4000)])
    counts = np.bincount(first, minlength=5)
    assert (np.abs(counts - 800) < 5 * np.sqrt(640)).all()


ORDER_0 = [0, 2, 1, 5, 4, 3, 6, 7]
ORDER_1 = [7, 4, 2, 6, 5, 0, 1, 3]
