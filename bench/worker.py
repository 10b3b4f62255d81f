"""Cases run in a process of their own, which a peer may bring down without ending the benchmark.

The worker writes JSON lines: where it is (`{"case": 3, "at": "ncnn"}`), and results. If it dies,
the contender that it was at gets a row that says so, and a new worker goes on with the same case.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bench import machine
from bench.suites import Options, cases
from bench.timing import QUICK, Effort, Result, compare
from striate.tools.peak import probes as find_probes

ROOT = Path(__file__).resolve().parent.parent
COMMAND = [sys.executable, "-m", "bench.worker"]


def results(suite: str, options: Options, rounds: int | None) -> Iterator[Result]:
    """The results of a suite other than `compile`, one after another.

    Raises:
        RuntimeError: a worker failed outside of any contender.
    """
    first = 0
    skip: dict[int, dict[str, str]] = {}
    while True:
        order = {
            "suite": suite, "options": asdict(options), "rounds": rounds, "first": first,
            "skip": skip,
        }  # fmt: skip
        process = subprocess.Popen(
            [*COMMAND, json.dumps(order)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        case, at = -1, ""
        try:
            for line in process.stdout:
                message = json.loads(line)
                if "result" in message:
                    first = message["case"] + 1
                    yield Result.of(message["result"])
                else:
                    case, at = message["case"], message["at"]
        except BaseException:  # Ctrl-C too: no worker stays behind
            process.kill()
            raise
        finally:
            process.stdout.close()
            status = process.wait()
        if not status:
            return
        if case < first or at in skip.get(case, {}):
            raise RuntimeError(f"the worker failed ({ending(status)})")
        skip.setdefault(case, {})[at] = f"brought the process down: {ending(status)}"


def ending(status: int) -> str:
    """How a process ended."""
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"


def serve(order: dict[str, Any], out: Any) -> None:
    """Run the cases from `first` on, and write what there is to say to `out`."""
    given = order["options"].items()
    options = Options(**{k: tuple(v) if isinstance(v, list) else v for k, v in given})
    machine.pin_torch(options.threads)
    probes = find_probes(options.threads)
    effort = QUICK if options.quick else Effort()
    effort = replace(effort, rounds=order["rounds"] or effort.rounds)
    wanted = (c for c in cases(order["suite"], options) if options.wants(c.group, c.name))

    def say(**message: Any) -> None:
        print(json.dumps(message), file=out, flush=True)

    for i, case in enumerate(wanted):
        if i < order["first"]:
            continue
        result = compare(
            case,
            effort,
            lambda: probes.peak(options.threads),
            watch=lambda name, i=i: say(case=i, at=name),  # type: ignore[misc]
            skip=order["skip"].get(str(i), {}),
        )
        say(case=i, result=asdict(result))


if __name__ == "__main__":
    faulthandler.enable()
    lines = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no message
    serve(json.loads(sys.argv[1]), lines)
