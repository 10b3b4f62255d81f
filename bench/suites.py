"""The suites: what each has, as cases that are made when their turn comes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from bench import compilation, convolutions, inference, layers, torch_backend, training
from bench.networks import NETWORKS
from bench.timing import Case, Result

SUITES = ("layers", "weak", "nets", "train", "torch", "compile")


@dataclass(frozen=True)
class Options:
    """What to run.

    Attributes:
        threads: for striate and every peer.
        quick: a part, fast.
        only: a regular expression for `group: name` of a case.
        directions: of convolutions.
        batches: of the layers.
        compiled: whether torch.compile is a peer: of inference and of a small network's first calls
            (`auto`), of training and large networks too, or never.
    """

    threads: int = 2
    quick: bool = False
    only: str = ""
    directions: tuple[str, ...] = layers.DIRECTIONS
    batches: tuple[int, ...] = (1, 16)
    compiled: str = "auto"

    @property
    def part(self) -> bool:
        """Whether only a part of a suite is run, if no case is named."""
        return self.quick and not self.only

    @property
    def whole(self) -> bool:
        """Whether nothing of a suite is left out."""
        narrowed = (self.directions, self.batches) != (layers.DIRECTIONS, (1, 16))
        return not (self.quick or self.only or narrowed)

    def wants(self, group: str, name: str) -> bool:
        """Whether a case is to be run."""
        return not self.only or re.search(self.only, f"{group}: {name}") is not None


def cases(suite: str, options: Options) -> Iterator[Case]:
    """The cases of a suite other than `compile`.

    Raises:
        ValueError: there is no such suite.
    """
    if suite in ("layers", "weak"):
        names = layers.LAYERS if suite == "layers" else layers.WEAK
        batches = options.batches[:1] if options.part else options.batches
        for name in names:
            rows = layers.table(name)
            # weak tables name their own batch
            for many in [layers.batched(rows, n) for n in batches] if suite == "layers" else [rows]:
                chosen = many[:: max(1, len(many) // 3)] if options.part else many
                yield from convolutions.cases(chosen, options.directions, options.threads)
        return
    networks = {n: w for n, w in NETWORKS.items() if n != "small"}
    if options.part:
        networks = {n: networks[n] for n in ("resnet18", "mobilenet_v2")}
    if suite == "nets":
        compiled = options.compiled != "never" and not options.quick
        yield from inference.cases(networks, (1,), options.threads, compiled)
    elif suite == "train":
        yield from training.cases(networks, options.compiled == "always")
    elif suite == "torch":
        yield from torch_backend.cases(networks, options.compiled == "always")
    else:
        raise ValueError(f"no suite {suite!r}; there are {', '.join(SUITES)}")


def measured(options: Options) -> Iterator[Result]:
    """The suite `compile`, whose numbers come from other processes."""
    rounds = 1 if options.quick else 3
    yield from compilation.results(
        options.threads, rounds, options.part, options.compiled, options.wants
    )
