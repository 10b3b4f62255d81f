"""The order in which groups run: one that needs little memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import heappop, heappush

from striate.ir.graph import Node
from striate.transform.fuse import Group


def schedule(groups: Sequence[Group], outputs: Iterable[Node]) -> list[Group]:
    """The groups in an order that needs little memory: whatever frees at least as much as it
    allocates runs as soon as it can, such as weight gradients and updates; else they keep the order
    of the graph.

    A value is freed by the last of its readers, so what a group frees only grows while it waits.
    """
    position = {g: i for i, g in enumerate(groups)}
    producer = {n: g for g in groups for n in g.outputs}
    reads = {g: [x for x in g.reads if x in producer] for g in groups}
    readers: dict[Node, set[Group]] = {}
    for g in groups:
        for x in reads[g]:
            readers.setdefault(x, set()).add(g)
    waiting: dict[Group, int] = {}
    users: dict[Group, list[Group]] = {g: [] for g in groups}
    for g in groups:
        before = {producer[x] for x in reads[g]} - {g}
        waiting[g] = len(before)
        for p in before:
            users[p].append(g)

    forever = {*outputs}
    growth = {g: sum(n.type.nbytes for n in g.outputs if n not in forever) for g in groups}
    ready: list[int] = []  # positions; also of groups that have run since
    shrinking: list[int] = []  # those among them that read what others made and do not grow

    def offer(g: Group) -> None:
        if not waiting[g] and reads[g] and growth[g] <= 0:
            heappush(shrinking, position[g])

    def last_reader(x: Node) -> None:
        if len(readers[x]) == 1 and x not in forever:
            (g,) = readers[x]
            growth[g] -= x.type.nbytes
            offer(g)

    for x in readers:
        last_reader(x)
    for g in groups:
        if not waiting[g]:
            heappush(ready, position[g])
    done: dict[Group, None] = {}
    while ready:
        g = groups[heappop(shrinking or ready)]
        if g in done:
            continue
        done[g] = None
        for x in reads[g]:
            readers[x].discard(g)
            last_reader(x)
        for user in users[g]:
            waiting[user] -= 1
            if not waiting[user]:
                heappush(ready, position[user])
                offer(user)
    return [*done]
