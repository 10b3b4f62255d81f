"""Benchmarks of striate side by side with its peers.

    python -m bench SUITE... [--quick] [--only REGEX] [--threads N]

Suites: layers, weak, nets, train, torch, compile (default: all). Results go to
bench/results/SUITE.json and SUITE.md, rewritten after every case; those of a part (--quick, --only
and the like) to SUITE-part.json and SUITE-part.md.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bench.threads import pin

if TYPE_CHECKING:
    from bench.suites import Options
    from bench.timing import Result

ROOT = Path(__file__).resolve().parent


def arguments(given: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("suites", nargs="*", metavar="SUITE")
    parser.add_argument("--quick", action="store_true", help="a part of each suite, fewer rounds")
    parser.add_argument(
        "--only", default="", metavar="REGEX", help="cases whose 'group: name' fits"
    )
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="for all (default 2)")
    parser.add_argument("--rounds", type=int, metavar="N", help="samples per contender")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16], help="of the layers")
    parser.add_argument(
        "--direction", nargs="+", choices=("forward", "input_gradient", "weight_gradient"),
        default=["forward", "input_gradient", "weight_gradient"],
    )  # fmt: skip
    parser.add_argument(
        "--torch-compile", choices=("auto", "always", "never"), default="auto",
        help="auto: for inference; always: for training too (minutes per network)",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default=ROOT / "results", metavar="DIR")
    return parser.parse_args(given)


def main(given: list[str]) -> int:
    args = arguments(given)
    pin(args.threads)  # before anything that reads the number of threads
    from bench.suites import SUITES

    unknown = set(args.suites) - set(SUITES)
    if unknown:
        print(f"no suite {sorted(unknown)[0]!r}; there are {', '.join(SUITES)}", file=sys.stderr)
        return 2
    for suite in args.suites or SUITES:
        run(suite, args)
    return 0


def run(suite: str, args: argparse.Namespace) -> None:
    """Measure, print and save one suite."""
    from bench import machine, report
    from bench.suites import Options
    from striate.tools.peak import probes as find_probes

    options = Options(
        args.threads, args.quick, args.only, tuple(args.direction), tuple(args.batch),
        args.torch_compile,
    )  # fmt: skip
    name = suite if options.whole else f"{suite}-part"
    start = time.perf_counter()
    probes = find_probes(args.threads)
    described = machine.describe(args.threads) | machine.measure(probes, args.threads)
    bandwidth = probes.copy(args.threads)
    for what, text in described.items():
        print(f"{what:>18}: {text}")
    results: list[Result] = []
    try:
        for result in measure(suite, options, args.rounds):
            results.append(result)
            shown = ", ".join(
                f"{r.name} {report.amount(r.seconds, result.unit)}" for r in result.rows
            )
            print(f"{result.group}: {result.name}: {shown} {result.unit}", flush=True)
            report.save(args.out, name, described, results, bandwidth)
    except KeyboardInterrupt:
        print("stopped; what is measured is saved", file=sys.stderr)
    for group, members in report.grouped(results).items():
        notes = [report.summary(members), *report.failures(members)]
        report.show(f"{group} ({members[0].unit})", report.table(members, bandwidth), notes)
    described["seconds"] = f"{time.perf_counter() - start:.0f}"
    if results:
        report.save(args.out, name, described, results, bandwidth)
        print(f"saved {args.out / name}.json and .md after {described['seconds']} s")


def measure(suite: str, options: Options, rounds: int | None) -> Iterator[Result]:
    """The results of a suite."""
    from bench import suites, worker

    if suite == "compile":
        return suites.measured(options)
    return worker.results(suite, options, rounds)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
