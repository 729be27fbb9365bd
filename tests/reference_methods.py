"""Every reduction method once more, slow and obvious: the third part of the oracle.

A rule sees the audio tokens of one prompt at one place, in float64, and says which tokens end up
together and with what weights. Tokens that are in no cluster are gone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from tests.reference_layers import Token, choose_pairs, neighbour_cosines

Cluster = tuple[list[int], list[float]]


@dataclass(frozen=True)
class Seen:
    """What a place knows of its A audio tokens."""

    keys: Tensor  # [A, width], rotated, heads side by side
    states: Tensor  # [A, d]
    received: list[float]
    sampled: list[float]  # the same from every fourth query, each standing for four
    last: list[float]  # received from the last query alone
    sizes: list[int]


Rule = Callable[[Seen, int], list[Cluster]]


def regroup(tokens: list[Token], clusters: list[Cluster]) -> list[Token]:
    """The weighted mean of each cluster, at the position of its first member."""
    made = []
    for members, weights in clusters:
        total = math.fsum(weights)
        parts = [tokens[i].state * (w / total) for i, w in zip(members, weights, strict=True)]
        sources = tuple(source for i in members for source in tokens[i].sources)
        made.append(Token(torch.stack(parts).sum(0), sources, tokens[members[0]].position))
    return made


def chains(joined: Collection[int], weights: list[float]) -> list[Cluster]:
    """Clusters of tokens, i + 1 in that of i wherever i is in `joined`."""
    found: list[Cluster] = []
    for i, weight in enumerate(weights):
        if i - 1 in joined:
            found[-1][0].append(i)
            found[-1][1].append(weight)
        else:
            found.append(([i], [weight]))
    return found


def singles(scores: list[float], kept: int) -> list[Cluster]:
    """The tokens with the largest scores, the earlier first among equals."""
    best = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:kept]
    return [([i], [1.0]) for i in sorted(best)]


def fastadasp(seen: Seen, kept: int) -> list[Cluster]:
    joined, _ = choose_pairs(neighbour_cosines(seen.keys), len(seen.sizes) - kept)
    return chains(joined, seen.received)


def fastadasp_sampled(seen: Seen, kept: int) -> list[Cluster]:
    joined, _ = choose_pairs(neighbour_cosines(seen.keys), len(seen.sizes) - kept)
    return chains(joined, seen.sampled)


def merge_mean(seen: Seen, kept: int) -> list[Cluster]:
    joined, _ = choose_pairs(neighbour_cosines(seen.keys), len(seen.sizes) - kept)
    return chains(joined, [1.0] * len(seen.sizes))


def a_tome(seen: Seen, kept: int) -> list[Cluster]:
    alike = neighbour_cosines(seen.keys)
    for candidates in range(len(alike) + 1):
        chosen, _ = choose_pairs(alike, candidates)
        taken: list[int] = []
        for i in chosen:
            if i - 1 not in taken:
                taken.append(i)
        if len(taken) == len(seen.sizes) - kept:
            return chains(taken, [1.0] * len(seen.sizes))
    raise AssertionError("half of the tokens can always be paired")


def fastv(seen: Seen, kept: int) -> list[Cluster]:
    return singles(seen.last, kept)


def fastv_received(seen: Seen, kept: int) -> list[Cluster]:
    return singles(seen.received, kept)


def uniform(seen: Seen, kept: int) -> list[Cluster]:
    count = len(seen.sizes)
    joined = [i for i in range(count - 1) if i * kept // count == (i + 1) * kept // count]
    return chains(joined, [float(size) for size in seen.sizes])


def affinity(window: int) -> Rule:
    def rule(seen: Seen, kept: int) -> list[Cluster]:
        unit = [state / state.norm() for state in seen.states]
        count, wanted = len(unit), len(unit) - kept

        def best(i: int, members: int) -> float:
            return max(float(unit[i] @ unit[i - back]) for back in range(1, members + 1))

        def scan(threshold: float) -> list[int]:
            joined, group = [], 1
            for i in range(1, count):
                group = group + 1 if best(i, min(group, window)) >= threshold else 1
                joined += [i - 1] * (group > 1)
            return joined

        levels = sorted(
            {
                float(unit[i] @ unit[i - back])
                for i in range(count)
                for back in range(1, min(i, window) + 1)
            },
            reverse=True,
        )
        before: list[int] = []
        for level in levels:
            joined = scan(level)
            if len(joined) >= wanted:
                break
            before = joined
        added = [i for i in joined if i not in before]
        added.sort(key=lambda i: -best(i + 1, min(i + 1, window)))
        return chains(before + added[: wanted - len(before)], [1.0] * count)

    return rule


def ward(seen: Seen, kept: int) -> list[Cluster]:
    """The cheapest pair of neighbours again and again, its cost worked out anew each time."""
    found = [[i] for i in range(len(seen.sizes))]
    while len(found) > kept:
        costs = [_ward_cost(seen, a, b) for a, b in itertools.pairwise(found)]
        best = min(range(len(costs)), key=lambda i: costs[i])
        found[best : best + 2] = [found[best] + found[best + 1]]
    return [(members, [float(seen.sizes[i]) for i in members]) for members in found]


def _ward_cost(seen: Seen, one: list[int], other: list[int]) -> float:
    sizes, means = [], []
    for members in (one, other):
        size = sum(seen.sizes[i] for i in members)
        parts = [seen.states[i] * (seen.sizes[i] / size) for i in members]
        sizes.append(size)
        means.append(torch.stack(parts).sum(0))
    apart = float((means[0] - means[1]).square().sum())
    return apart * sizes[0] * sizes[1] / (sizes[0] + sizes[1])


RULES: dict[str, Rule] = {
    "fastadasp": fastadasp,
    "fastadasp-sampled": fastadasp_sampled,
    "merge-mean": merge_mean,
    "a-tome": a_tome,
    "affinity": affinity(3),
    "fastv": fastv,
    "fastv-received": fastv_received,
    "uniform": uniform,
    "ward": ward,
}
# where a method does something else before the first layer
AT_INPUT: dict[str, Rule] = {"affinity": affinity(1)}
