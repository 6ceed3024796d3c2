"""The genetic proposer: programs are bred on islands, their constants tuned by CMA-ES.

In a round, every island breeds children from its best programs, by mutation and crossover; each
child's constants are tuned; the best of parents and children stay; and the best of all islands
visits the next one. What a program is worth is its score on the search set, less a little for
every node and slope: of programs that do as well, the one that is easier to read wins.

Nothing but the seed, the round and the islands as they stand decides what a round does: one that
was cut off is bred anew, the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from autotts_gym.discovery import breeding
from autotts_gym.discovery.grammar import Program, from_json, to_json

#: What a node, and a slope, costs: right answers.
PARSIMONY: Final = 5e-5


@dataclass(frozen=True)
class Bred:
    """A program with its score.

    Attributes:
        name: ``ROUND-ISLAND-NUMBER``.
        parents: names.
        how: ``"seed"``, ``"mutation"`` or ``"crossover"``.
    """

    name: str
    program: Program
    score: float
    parents: tuple[str, ...] = ()
    how: str = "seed"

    @property
    def worth(self) -> float:
        return self.score - PARSIMONY * self.program.size

    def facts(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "how": self.how,
            "parents": list(self.parents),
            "score": self.score,
            "size": self.program.size,
            "program": to_json(self.program),
        }

    @classmethod
    def of(cls, facts: dict[str, Any]) -> Bred:
        return cls(
            facts["name"],
            from_json(facts["program"]),
            facts["score"],
            tuple(facts["parents"]),
            facts["how"],
        )


@dataclass(frozen=True)
class Breeding:
    """How programs are bred.

    Attributes:
        islands: that breed by themselves.
        keep: programs of an island.
        children: of an island in a round.
        evaluations: of each child, while its constants are tuned.
        seed: of everything.
    """

    islands: int = 4
    keep: int = 6
    children: int = 6
    evaluations: int = 120
    seed: int = 0


@dataclass
class Genetic:
    """A search by generations.

    Args:
        how: how programs are bred.
        tune: a program's best constants and score, from the program, evaluations and a seed; it is
            called in ``pool``.
        pool: of processes.
        known: programs that were tried before, by name; they are not tuned again.
    """

    how: Breeding
    tune: Callable[[Program, int, int], tuple[Program, float]]
    pool: Executor
    known: dict[str, Bred] = field(default_factory=dict)
    islands: list[list[Bred]] = field(default_factory=list)

    def begin(self) -> Iterator[Bred]:
        """Tune the programs that it begins with; they are on every island."""
        planned = [Bred(f"0-{name}", program, 0.0) for name, program in breeding.seeds().items()]
        found = []
        for bred in self._tuned(planned, 0, 4 * self.how.evaluations):
            found.append(bred)
            yield bred
        self.islands = [list(found) for _ in range(self.how.islands)]

    def round(self, number: int) -> Iterator[Bred]:
        """Breed a generation; yields its children, then the islands are as they begin the next."""
        how = self.how
        rng = np.random.default_rng([how.seed, number])
        planned = []
        for island in range(how.islands):
            for k in range(how.children):
                kind, parents, child = self._child(self.islands[island], rng)
                planned.append(Bred(f"{number}-{island}-{k}", child, 0.0, parents, kind))
        born = []
        for bred in self._tuned(planned, number, how.evaluations):
            born.append(bred)
            yield bred
        of_island = range(0, len(born), how.children)
        self.settle([born[k : k + how.children] for k in of_island])

    def settle(self, born: Sequence[Sequence[Bred]]) -> None:
        """Who stays: the best of parents and children, and a visitor from the island before."""
        grown = [
            _best([*old, *new], self.how.keep) for old, new in zip(self.islands, born, strict=True)
        ]
        visitors = [grown[k - 1][0] for k in range(len(grown))]
        self.islands = [
            _best([*island, visitor], self.how.keep)
            for island, visitor in zip(grown, visitors, strict=True)
        ]

    def _child(
        self, island: Sequence[Bred], rng: np.random.Generator
    ) -> tuple[str, tuple[str, ...], Program]:
        while True:
            one, other = (self._chosen(island, rng) for _ in range(2))
            if rng.random() < 0.35 and one.name != other.name:
                child, kind = breeding.crossed(one.program, other.program, rng), "crossover"
                parents: tuple[str, ...] = (one.name, other.name)
            else:
                child, kind, parents = one.program, "mutation", (one.name,)
                for _ in range(1 + int(rng.integers(2))):
                    child = breeding.mutated(child, rng)
            if breeding.fits(child) and child != one.program:
                return kind, parents, child

    def _chosen(self, island: Sequence[Bred], rng: np.random.Generator) -> Bred:
        """The best of three."""
        some = [island[int(rng.integers(len(island)))] for _ in range(3)]
        return max(some, key=lambda bred: bred.worth)

    def _tuned(self, planned: Sequence[Bred], number: int, evaluations: int) -> Iterator[Bred]:
        """The same with their constants tuned, in order."""
        drawn = np.random.SeedSequence([self.how.seed, number, 1]).generate_state(len(planned))
        jobs = {
            bred.name: self.pool.submit(self.tune, bred.program, evaluations, 1 + int(seed) % 2**30)
            for bred, seed in zip(planned, drawn, strict=True)
            if bred.name not in self.known
        }
        for bred in planned:
            if bred.name in jobs:
                program, score = jobs[bred.name].result()
                bred = replace(bred, program=program, score=score)
            else:
                bred = self.known[bred.name]
            yield bred


def _best(of: Sequence[Bred], count: int) -> list[Bred]:
    """The best ones, each program once."""
    ranked = sorted({b.program: b for b in of}.values(), key=lambda b: (-b.worth, b.name))
    return ranked[:count]
