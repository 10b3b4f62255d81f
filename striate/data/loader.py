"""The loader: batches in an order that is a function of (seed, epoch), whoever makes them.

Batch `b` of epoch `e` depends on nothing but (dataset, seed, e, b): workers race for batches,
never for randomness, and the consumer hands batches out in order. So any number of worker threads
gives the same bits, and a run resumes at any batch. At most `workers + prefetch` batches exist
beside the one that the consumer holds.
"""

import functools
import operator
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any, TypeAlias

import numpy as np

from striate.errors import StriateError

from .dataset import Batch, Dataset, collate, unwrap
from .files import Array
from .rng import keyed_rng, permutation
from .transform import Transform

_Result: TypeAlias = tuple[int, Batch | None, BaseException | None]


class LoaderError(StriateError, RuntimeError):
    """A sample or a batch could not be made; the cause is `__cause__`.

    `epoch` and `batch` say where; `index` is the sample in the dataset, or None where the whole
    batch failed (its transform).

    >>> try:
    ...     next(iter(DataLoader([(0, 0), None], 2)))
    ... except LoaderError as error:
    ...     error.index, error.batch
    (1, 0)
    """

    def __init__(self, text: str, epoch: int, batch: int, index: int | None) -> None:
        super().__init__(text)
        self.epoch, self.batch, self.index = epoch, batch, index


class DataLoader:
    """Batches `(x: dtype[B, ...], y: dtype[B, ...])` of a dataset as NumPy arrays.

    `shuffle` takes the samples in the order `permutation(seed, epoch)`. `sample_transform` sees one
    sample `(x[1, ...], y[1, ...])` with the generator of (seed, epoch, sample); `transform` sees
    the batch with the generator of (seed, epoch, batch). `workers` threads make batches ahead of
    the consumer (0: none, in its own thread). The last batch may be smaller, unless `drop_last`.

    Iterating does not change the loader: it gives the epoch `loader.epoch`. A loop over epochs
    uses `loader.batches(epoch)` or `loader.set_epoch(epoch)`.

    Raises ValueError for a size out of range. While iterating, LoaderError with the sample's index.

    >>> from striate.data import ArrayDataset
    >>> data = ArrayDataset(np.zeros((10, 1, 4, 4), np.uint8), np.arange(10))
    >>> loader = DataLoader(data, 4, shuffle=True, seed=1, workers=2)
    >>> [len(y) for x, y in loader.batches(epoch=0)]
    [4, 4, 2]
    >>> resumed = list(loader.batches(epoch=0, start=1))
    >>> bool((resumed[0][1] == list(loader.batches(epoch=0))[1][1]).all())
    True
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        workers: int = 0,
        prefetch: int = 2,
        drop_last: bool = False,
        transform: Transform | None = None,
        sample_transform: Transform | None = None,
    ) -> None:
        self.dataset = dataset
        self.batch_size = _at_least("batch_size", batch_size, 1)
        self.shuffle = shuffle
        self.seed = _at_least("seed", seed, 0)
        self.workers = _at_least("workers", workers, 0)
        self.prefetch = _at_least("prefetch", prefetch, 0)
        self.drop_last = drop_last
        self.transform = transform
        self.sample_transform = sample_transform
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Let `iter(loader)` give the batches of this epoch; raises ValueError below 0."""
        self.epoch = _at_least("epoch", epoch, 0)

    def __len__(self) -> int:
        """The number of batches of an epoch."""
        n = len(self.dataset)
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        return self.batches(self.epoch)

    def order(self, epoch: int) -> Array:
        """The samples in the order of an epoch: i64[N]."""
        n = len(self.dataset)
        return permutation(self.seed, epoch, n) if self.shuffle else np.arange(n, dtype=np.int64)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from batch `start` on; raises ValueError for start > len."""
        epoch, start = _at_least("epoch", epoch, 0), _at_least("start", start, 0)
        stop = len(self)
        if start > stop:
            raise ValueError(
                f"DataLoader.batches: start is in 0..{stop}, the number of batches, found {start}"
            )
        make = functools.partial(self._make, self.order(epoch), epoch)
        workers = min(self.workers, stop - start)
        if workers:
            return _threaded(make, start, stop, workers, workers + self.prefetch)
        return map(make, range(start, stop))

    def _make(self, order: Array, epoch: int, b: int) -> Batch:
        ids = order[b * self.batch_size : (b + 1) * self.batch_size]
        x, y = self._fetch(ids, epoch, b)
        if self.transform is not None:
            try:
                x, y = self.transform(x, y, keyed_rng(self.seed, epoch, b, "batch"))
            except Exception as error:
                raise _failed("the transform", error, epoch, b, None) from error
        return x, y

    def _fetch(self, ids: Array, epoch: int, b: int) -> Batch:
        if self.sample_transform is None:
            data, at = unwrap(self.dataset, ids)
            take = getattr(data, "take", None)
            if take is not None:
                try:
                    x, y = take(at)
                    return x, y
                except Exception as error:
                    text = f"dataset.take (samples {ids[:4].tolist()} ...)"
                    raise _failed(text, error, epoch, b, None) from error
        samples = []
        for i in ids.tolist():
            try:
                samples.append(self._sample(i, epoch))
            except Exception as error:
                raise _failed(f"sample {i}", error, epoch, b, i) from error
        try:
            return collate(ids.tolist(), samples)
        except ValueError as error:
            raise _failed("the batch", error, epoch, b, None) from error

    def _sample(self, i: int, epoch: int) -> tuple[Any, Any]:
        x, y = self.dataset[i]
        if self.sample_transform is None:
            return x, y
        rng = keyed_rng(self.seed, epoch, i, "sample")
        xs, ys = self.sample_transform(np.asarray(x)[None], np.asarray(y)[None], rng)
        return xs[0], ys[0]


def _failed(what: str, error: Exception, epoch: int, b: int, index: int | None) -> LoaderError:
    why = f"{type(error).__name__}: {error}"
    text = f"DataLoader: {what} of batch {b}, epoch {epoch}, failed: {why}"
    return LoaderError(text, epoch, b, index)


def _at_least(name: str, value: int, least: int) -> int:
    number = operator.index(value)
    if number < least:
        raise ValueError(f"DataLoader: {name} is at least {least}, found {number}")
    return number


def _threaded(
    make: Callable[[int], Batch], start: int, stop: int, workers: int, ahead: int
) -> Iterator[Batch]:
    # SimpleQueue.put is reentrant, so that closing is safe in a finalizer, in any thread.
    # The threads hold no reference to this generator: dropping it closes it, which ends them.
    tasks: SimpleQueue[int | None] = SimpleQueue()
    results: SimpleQueue[_Result] = SimpleQueue()
    closed = threading.Event()
    threads = [
        threading.Thread(
            target=_work, args=(make, tasks, results, closed), daemon=True, name="striate-data"
        )
        for _ in range(workers)
    ]
    ready: dict[int, tuple[Batch | None, BaseException | None]] = {}
    try:
        for thread in threads:
            thread.start()
        for b in range(start, min(start + ahead, stop)):
            tasks.put(b)
        for b in range(start, stop):
            while b not in ready:
                k, made, error = results.get()
                ready[k] = made, error
            made, error = ready.pop(b)
            if error is not None:
                raise error
            assert made is not None
            if b + ahead < stop:
                tasks.put(b + ahead)
            yield made
            made = None
    finally:
        closed.set()
        for _ in threads:
            tasks.put(None)
        for thread in threads:
            if thread.is_alive() and thread is not threading.current_thread():
                thread.join(timeout=5)  # a dataset that hangs must not hang the consumer too


def _work(
    make: Callable[[int], Batch],
    tasks: SimpleQueue[int | None],
    results: SimpleQueue[_Result],
    closed: threading.Event,
) -> None:
    while (b := tasks.get()) is not None and not closed.is_set():
        try:
            results.put((b, make(b), None))
        except BaseException as error:
            results.put((b, None, error))
