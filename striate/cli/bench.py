"""`striate bench`: how fast a network runs here, and where its time goes."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from statistics import median, quantiles
from typing import Any, cast

import striate as st
from striate.cli.source import add_arguments, at_least_one, open_source
from striate.pytree import flatten


def timed(call: Callable[[], Any], seconds: float) -> list[float]:
    """Seconds of single calls, for about so long, five at least."""
    times: list[float] = []
    while len(times) < 5 or sum(times) < seconds:
        start = time.perf_counter()
        for leaf in flatten(call())[0]:
            leaf.numpy()
        times.append(time.perf_counter() - start)
    return times


def table(steps: Sequence[Any], most: int, peak: float) -> list[str]:
    """The slowest steps of a run as lines, numbered in the order in which they run."""
    whole = sum(s.seconds for s in steps) or 1.0
    head = f"{'step':>4} {'ms':>9} {'share':>6} {'GFLOP/s':>8} {'of peak':>8} {'GB/s':>6}"
    lines = [f"{head}  layers, kernel"]
    slowest = sorted(enumerate(steps, start=1), key=lambda pair: -pair[1].seconds)
    for number, s in slowest[:most]:
        lines.append(
            f"{number:4} {1e3 * s.seconds:9.3f} {s.seconds / whole:6.1%} {s.gflops:8.1f} "
            f"{1e9 * s.gflops / peak:8.0%} {s.gbytes:6.1f}  {s.title}"
        )
    if len(steps) > most:
        rest = sum(s.seconds for _, s in slowest[most:])
        lines.append(f"     {1e3 * rest:9.3f} {rest / whole:6.1%} in {len(steps) - most} others")
    return [*lines, f"     {1e3 * whole:9.3f} in {len(steps)} steps"]


def best_rows(run: Any, inputs: Sequence[Any], times: int = 5) -> Sequence[Any]:
    """The steps of a network, each in its least time of several runs; where their number changes
    from run to run, those of the quickest one.
    """
    profiles = [run.profile(*inputs) for _ in range(times)]
    if len({len(p.rows) for p in profiles}) != 1:
        return cast(Sequence[Any], min(profiles, key=lambda p: p.seconds).rows)
    columns = zip(*(p.rows for p in profiles), strict=True)
    return [min(rows, key=lambda r: float(r.seconds)) for rows in columns]


def run(args: argparse.Namespace) -> int:
    """Print latency, throughput, the share of the processor's peak, and the slowest steps."""
    source = open_source(args)
    if args.threads:
        st.set_num_threads(args.threads)
    threads = st.get_num_threads()
    inputs = source.inputs()
    batch = next((x.shape[0] for x in inputs if x.ndim > 1), 1)
    (first, *_) = timed(lambda: source.run(*inputs), 0)
    times = timed(lambda: source.run(*inputs), args.seconds)
    table_of_layers = source.summary()
    macs, middle = table_of_layers.macs, median(times)
    found = import_module("striate.tools.peak").probes(threads)  # loads the compiler
    peak = max(found.peak(threads) for _ in range(3))
    kinds = " and ".join(dict.fromkeys(source.dtypes))
    print(f"{source.name}, {source.sizes}, {kinds}, {threads} thread{'s' * (threads > 1)}")
    print(f"first call   {first:.3f} s, with compilation or what is kept of it")
    spread = f"least {1e3 * min(times):.3f}, 90 % below {1e3 * quantiles(times, n=10)[-1]:.3f}"
    print(f"latency      {1e3 * middle:.3f} ms (median of {len(times)}; {spread})")
    print(f"throughput   {batch / middle:.1f} a second")
    rate = 2 * macs / middle
    print(
        f"arithmetic   {rate / 1e9:.1f} GFLOP/s of {macs:,} multiply-adds, "
        f"{rate / peak:.0%} of the peak of {peak / 1e9:.0f} GFLOP/s"
    )
    if any(r.shape is None for r in table_of_layers.rows):
        print("             (without those of nodes whose sizes depend on values)")
    if found.note:
        print(f"             {found.note}")
    if args.rows > 0:
        print("\n" + "\n".join(table(best_rows(source.run, inputs), args.rows, peak)))
    return 0


def add(commands: Any) -> None:
    """Register `bench`."""
    p = commands.add_parser("bench", help="how fast a network runs", description=run.__doc__)
    add_arguments(p)
    p.add_argument("--threads", type=at_least_one, help="default: those of the processor")
    p.add_argument("--seconds", type=float, default=2.0, help="how long to measure (default 2)")
    p.add_argument("--rows", type=int, default=15, help="how many steps to list (default 15)")
    p.set_defaults(run=run)
