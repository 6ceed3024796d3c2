"""The loop of discovery: rounds of proposals, a journal of all of them, and the choice at the end.

The folder of a run holds

- ``run.json``: what is searched, and how;
- ``journal.jsonl``: a line for every program that was tried: its trees, score, curve and parents;
- ``round-N.json``: the islands as they stood after a round;
- ``choice.json``: the finalists, cross-validated by question;
- ``NAME.py``: the program that was chosen, as a controller.

A run that is killed goes on from there: what the journal has is not tried again, and everything
else follows from the seed.
"""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from autotts_gym.discovery.breeding import seeds
from autotts_gym.discovery.genetic import Bred, Breeding, Genetic
from autotts_gym.discovery.grammar import Constant, Program, source
from autotts_gym.discovery.scoring import Curve, SearchSet
from autotts_gym.discovery.tuning import tuned
from autotts_gym.evaluation.results import write_atomically
from autotts_gym.traces.store import TraceStore

FOLDS: Final = 5
#: Score that a program loses whose knob is none.
_NO_KNOB: Final = 0.05


class RunError(ValueError):
    """A folder belongs to another run; the message says what differs."""


@dataclass(frozen=True)
class Plan:
    """What a run is.

    Attributes:
        breeding: how programs are bred.
        rounds: of children.
        seeds: branch orders of each question.
        finalists: programs that are cross-validated at the end.
        questions: rows that are searched on; None for all.
    """

    breeding: Breeding
    rounds: int = 5
    seeds: int = 4
    finalists: int = 4
    questions: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Choice:
    """A finalist.

    Attributes:
        bred: as it was tuned on all questions.
        unseen: its score on questions that its constants were not tuned on.
        curve: on all questions.
    """

    bred: Bred
    unseen: float
    curve: Curve


# --- in the processes of the pool ----------------------------------------------------------------

_search: SearchSet


def _set_up(stores: dict[str, TraceStore], questions: list[int] | None, seeds: int) -> None:
    global _search
    _search = SearchSet(stores, questions, seeds)


def score(search: SearchSet, program: Program, questions: Sequence[int] | None = None) -> float:
    """What is maximised: the score of a sweep, less a fine where the knob is none."""
    curve = search.play(program, questions)
    return curve.score - (_NO_KNOB if curve.fault() else 0.0)


def _tune(program: Program, evaluations: int, seed: int) -> tuple[Program, float]:
    return tuned(program, lambda p: score(_search, p), evaluations, seed)


def _tune_on(
    program: Program, evaluations: int, seed: int, seen: list[int], unseen: list[int]
) -> float:
    """Score on unseen questions after tuning on others."""
    found, _ = tuned(program, lambda p: score(_search, p, seen), evaluations, seed)
    return _search.play(found, unseen).score


def forgotten(program: Program) -> Program:
    """The program with the constants' orders of magnitude alone: powers of two, without slopes."""

    def rough(constant: Constant) -> Constant:
        size = abs(constant.at(0.5))
        power = 2.0 ** round(np.log2(size)) if size > 1e-9 else 0.0
        return Constant(float(np.copysign(power, constant.at(0.5))))

    return program.refilled([rough(constant) for constant in program.constants])


# --- the loop ------------------------------------------------------------------------------------


class Discovery:
    """A search by the genetic proposer.

    Args:
        stores: the search set.
        plan: what is done.
        folder: of the run.
        workers: processes that tune programs.

    Raises:
        RunError: the folder holds another run.
    """

    def __init__(
        self, stores: Mapping[str, TraceStore], plan: Plan, folder: Path, workers: int = 1
    ) -> None:
        self.stores, self.plan, self.folder = dict(stores), plan, folder
        self.workers = workers
        questions = None if plan.questions is None else list(plan.questions)
        self.search = SearchSet(self.stores, questions, plan.seeds)
        self._questions = questions
        folder.mkdir(parents=True, exist_ok=True)
        self._check()
        self._known = {bred.name: bred for bred in self._read()}

    def _check(self) -> None:
        data = {name: store.card.fingerprint for name, store in self.stores.items()}
        made = json.loads(json.dumps({"plan": asdict(self.plan), "data": data}))
        path = self.folder / "run.json"
        if path.exists():
            theirs = json.loads(path.read_text("utf-8"))
            differs = [key for key in made if theirs.get(key) != made[key]]
            if differs:
                raise RunError(
                    f"{self.folder} holds another run: its {' and '.join(differs)} differ; give "
                    "another --out, or remove it"
                )
        else:
            _write(path, made)

    @property
    def tried(self) -> int:
        """Programs that were tried until now."""
        return len(self._known)

    @property
    def planned(self) -> int:
        """Programs that the rounds try in all."""
        how = self.plan.breeding
        return len(seeds()) + self.plan.rounds * how.islands * how.children

    # --- the journal -----------------------------------------------------------------------------

    @property
    def _journal(self) -> Path:
        return self.folder / "journal.jsonl"

    def _read(self) -> Iterable[Bred]:
        """What was tried; a last line that was cut off is dropped."""
        if not self._journal.exists():
            return
        with self._journal.open("rb+") as journal:
            whole = 0
            for line in journal:
                try:
                    bred = Bred.of(json.loads(line))
                except ValueError:
                    break
                whole += len(line)
                yield bred
            journal.truncate(whole)

    def _note(self, bred: Bred) -> Bred:
        if bred.name not in self._known:
            curve = self.search.play(bred.program)
            facts = {**bred.facts(), "fault": curve.fault(), "curve": curve.facts()}
            with self._journal.open("a", encoding="utf-8") as journal:
                journal.write(json.dumps(facts) + "\n")
                journal.flush()
                os.fsync(journal.fileno())
            self._known[bred.name] = bred
        return bred

    # --- rounds ----------------------------------------------------------------------------------

    def run(self, report: Callable[[int, Bred], None] = lambda *_: None) -> Choice:
        """Search, and choose; ``report`` is called with the round of every program."""
        context = multiprocessing.get_context("spawn")
        given = (self.stores, self._questions, self.plan.seeds)
        with ProcessPoolExecutor(self.workers, context, _set_up, given) as pool:
            genetic = Genetic(self.plan.breeding, _tune, pool, self._known)
            try:
                for bred in genetic.begin():
                    report(0, self._note(bred))
                for number in range(1, self.plan.rounds + 1):
                    for bred in genetic.round(number):
                        report(number, self._note(bred))
                    islands = [[bred.name for bred in island] for island in genetic.islands]
                    _write(self.folder / f"round-{number}.json", islands)
                return self._choose(genetic.islands, pool)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _choose(self, islands: list[list[Bred]], pool: Executor) -> Choice:
        """The finalist that does best on questions that its constants were not tuned on."""
        ranked = sorted({b.name: b for island in islands for b in island}.values(),
                        key=lambda bred: (-bred.worth, bred.name))  # fmt: skip
        sound = [bred for bred in ranked if not self.search.play(bred.program).fault()]
        if not sound:
            raise ValueError(
                "no program has a knob that spends more as it rises; search for more rounds"
            )
        finalists = sound[: self.plan.finalists]
        rows = self.search.questions
        evaluations = 3 * self.plan.breeding.evaluations
        jobs = []
        for bred in finalists:
            for fold in range(FOLDS):
                unseen = rows[fold::FOLDS]
                seen = [q for q in rows if q not in unseen]
                program = forgotten(bred.program)
                jobs.append(pool.submit(_tune_on, program, evaluations, 1 + fold, seen, unseen))
        scores = np.array([job.result() for job in jobs]).reshape(len(finalists), FOLDS)
        sizes = np.array([len(rows[fold::FOLDS]) for fold in range(FOLDS)])
        means = scores @ sizes / sizes.sum()
        _write(
            self.folder / "choice.json",
            [
                {"name": b.name, "score": b.score, "unseen": float(m), "size": b.program.size}
                for b, m in zip(finalists, means, strict=True)
            ],
        )
        best = int(np.argmax(means))
        chosen = finalists[best]
        program, found = pool.submit(_tune, chosen.program, 2 * evaluations, 1).result()
        final = Bred(f"{chosen.name}-final", program, found, (chosen.name,), "tuning")
        self._note(final)
        return Choice(final, float(means[best]), self.search.play(program))

    def lineage(self, bred: Bred) -> list[Bred]:
        """A program and its ancestors, the oldest first."""
        found: dict[str, Bred] = {}

        def follow(one: Bred) -> None:
            if one.name not in found:
                for parent in one.parents:
                    follow(self._known[parent])
                found[one.name] = one

        follow(bred)
        return list(found.values())

    def save(self, choice: Choice, name: str, command: str) -> Path:
        """Write the program that was chosen as a controller; returns its file."""
        ancestors = [b for b in self.lineage(choice.bred) if b.how in ("seed", "crossover")]
        begun = ", ".join(b.name.removeprefix("0-") for b in ancestors if b.how == "seed")
        text = (
            f"Found by `{command}`, seed {self.plan.breeding.seed}, on {', '.join(self.stores)}.\n"
            f"Bred over {self.plan.rounds} rounds from: {begun}. Score "
            f"{choice.bred.score:.4f} on what it was tuned on, {choice.unseen:.4f} on questions "
            "that\nits constants were not (right answers, less the price of tokens)."
        )
        path = self.folder / f"{name}.py"
        content = source(choice.bred.program, f"{name}: a controller that was found.", text)
        write_atomically(path, lambda draft: _text(draft, content))
        return path


def _text(path: Path, content: str) -> None:
    path.write_text(content, "utf-8")


def _write(path: Path, content: Any) -> None:
    write_atomically(path, functools.partial(_text, content=json.dumps(content, indent=1) + "\n"))
