"""The search loop: rounds of proposals, a journal of all candidates, and the final choice.

The folder of a run contains

- ``run.json``: the search set and the options of the search;
- ``journal.jsonl`` and ``journal.parquet``: all candidates (:mod:`autotts_gym.discovery.archive`);
- ``curve.png``: scores by round;
- ``choice.json``: the finalists among which the program was chosen;
- ``NAME.py``: the chosen program, as a controller.

An interrupted or killed run resumes from its folder: recorded candidates are not evaluated again,
and everything else is derived from them.
"""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from autotts_gym.controllers import scaffold
from autotts_gym.controllers.loader import load
from autotts_gym.controllers.scaffold import Template
from autotts_gym.discovery.archive import Archive, round_of
from autotts_gym.discovery.code_generation import generate_source
from autotts_gym.discovery.evaluator import Evaluator
from autotts_gym.discovery.proposal import (
    Candidate,
    Evaluation,
    Proposal,
    Proposer,
    ProposerError,
)
from autotts_gym.discovery.search_plots import plot_search
from autotts_gym.utils.bounded_files import read_text
from autotts_gym.utils.files import write_text
from autotts_gym.utils.redaction import redact_values

#: Name of the seed controller that is the commented starting file.
TEMPLATE = "template"
#: Seed controllers, with which every run begins: the starting file and published controllers.
SEEDS = (TEMPLATE, "asc", "esc", "parallel_probe")
#: Number of folds of the questions that estimate the score on unseen questions.
_FOLDS = 5


class RunError(ValueError):
    """The folder belongs to another run; the message lists the differences."""


@dataclass(frozen=True)
class Choice:
    """The chosen program.

    Attributes:
        candidate: the program and its evaluation on all questions.
        unseen: estimated score on questions that were used neither to choose the program nor to
            tune its constants.
    """

    candidate: Candidate
    unseen: float


@runtime_checkable
class Chooser(Protocol):
    """A proposer that makes the final choice itself."""

    def choose(
        self, round_number: int, history: Sequence[Candidate]
    ) -> tuple[Proposal, float, list[dict[str, Any]]]:
        """See :meth:`autotts_gym.discovery.proposers.genetic.GeneticProposer.choose`."""


class Discovery:
    """A search for a controller.

    Args:
        evaluator: evaluates the proposals.
        folder: folder of the run; created if necessary.
        plan: options of the search, as plain values. A folder resumes only with the same plan.

    Attributes:
        archive: all candidates.

    Raises:
        RunError: the folder contains another run.
    """

    def __init__(
        self, evaluator: Evaluator, folder: str | os.PathLike[str], plan: Mapping[str, Any]
    ) -> None:
        self.evaluator, self.folder = evaluator, Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._check_plan(plan)
        self.archive = Archive(self.folder)

    def _check_plan(self, plan: Mapping[str, Any]) -> None:
        search = self.evaluator.search
        stores = zip(search.names, search.stores, strict=True)
        data = {name: store.card.fingerprint for name, store in stores}
        content = {"plan": plan, "data": data, "questions": search.questions}
        run = redact_values(json.loads(json.dumps(content)))
        path = self.folder / "run.json"
        if path.exists():
            recorded = redact_values(_read_run(path))
            different = [key for key in run if recorded.get(key) != run[key]]
            if different:
                raise RunError(
                    f"{self.folder} contains another run with a different "
                    f"{' and '.join(different)}: choose another folder, or remove this one"
                )
        else:
            write_json(path, run)

    def run(
        self,
        proposer: Proposer,
        rounds: int,
        report: Callable[[int, Candidate], None] = lambda *_: None,
    ) -> Choice:
        """Run the search and choose a program.

        Args:
            proposer: generates the proposals.
            rounds: number of rounds.
            report: called with the round number and each candidate, recorded ones included.

        Raises:
            ProposerError: the proposer cannot continue until its cause is fixed.
            ValueError: every program was rejected.
        """
        for name in SEEDS:
            if f"0-{name}" not in self.archive:
                self._add_seed(name)
            report(0, self.archive[f"0-{name}"])
        for number in range(1, rounds + 1):
            for candidate in [c for c in self.archive.values() if round_of(c.name) == number]:
                report(number, candidate)
            self._run_round(proposer, number, report)
            self._write_summary()
        return self._choose(proposer, rounds)

    def _write_summary(self) -> None:
        """Write the table and the plot of all candidates so far."""
        self.archive.write_table()
        plot_search(self.archive, self.folder / "curve.png")

    def _add_seed(self, name: str) -> None:
        template = Template.with_beta if self.evaluator.knob else Template.without_beta
        agent = load(str(scaffold.file(template)) if name == TEMPLATE else name)
        proposal = Proposal(f"0-{name}", agent.source.decode("utf-8"), "seed")
        self.archive.add(Candidate(proposal, self.evaluator.evaluate_agent(agent)))

    def _run_round(
        self, proposer: Proposer, number: int, report: Callable[[int, Candidate], None]
    ) -> None:
        """Request proposals and evaluate them. An error of the proposer ends the round only."""
        try:
            for proposal in proposer.propose(number, self.archive.before(number)):
                self.archive.add(Candidate(proposal, self._evaluate(proposal)))
                report(number, self.archive[proposal.name])
        except ProposerError:  # every later request would fail in the same way
            raise
        except Exception as error:
            name = f"{number}-failed"
            if name not in self.archive:
                message = f"{type(error).__name__}: {error}"
                self.archive.add(Candidate(Proposal(name, "", "none", error=message), Evaluation()))
            report(number, self.archive[name])

    def _evaluate(self, proposal: Proposal) -> Evaluation:
        if proposal.error:
            return Evaluation()
        if proposal.tree is not None:
            return self.evaluator.evaluate_tree(proposal.tree)
        return self.evaluator.evaluate_source(proposal.source)

    def _choose(self, proposer: Proposer, rounds: int) -> Choice:
        history = self.archive.before(rounds + 1)
        chooser = proposer if isinstance(proposer, Chooser) else _ScoreChooser()
        proposal, unseen, finalists = chooser.choose(rounds, history)
        write_json(self.folder / "choice.json", finalists)
        if proposal.name not in self.archive:
            self.archive.add(Candidate(proposal, self._evaluate(proposal)))
        self._write_summary()
        return Choice(self.archive[proposal.name], unseen)

    def save(self, choice: Choice, name: str, command: str) -> Path:
        """Write the chosen program as a controller, with its lineage.

        Args:
            choice: the result of :meth:`run`.
            name: name of the controller, without ``.py``.
            command: the command that ran the search, for the file's header.

        Returns:
            Path of the file.
        """
        proposal, evaluation = choice.candidate.proposal, choice.candidate.evaluation
        ancestors = [c.name for c in self.archive.lineage(proposal.name)]
        title = f"{name}: a controller found by search."
        paragraphs = [
            f"Found by: {command}",
            f"On: {', '.join(self.evaluator.search.names)}",
            f"Lineage: {', '.join(ancestors)}",
            f"Score: {choice.unseen:.4f} out of fold, {evaluation.score:.4f} on the search set "
            "(correct answers minus the price of tokens, mean over the β sweep).",
        ]
        path = self.folder / f"{name}.py"
        lineage = [line for text in paragraphs for line in _wrapped(text)]
        if proposal.tree is not None:
            content = generate_source(proposal.tree, title, "\n".join(lineage))
        else:
            content = "".join(f"# {line}\n" for line in lineage) + proposal.source
        write_text(path, content)
        return path


class _ScoreChooser:
    """Chooses the accepted candidate with the highest fitness."""

    def choose(
        self, round_number: int, history: Sequence[Candidate]
    ) -> tuple[Proposal, float, list[dict[str, Any]]]:
        """Choose the best candidate.

        The unseen score is cross-validated: on each fold of the questions, it is the score of the
        candidate that is best on the other folds.
        """
        accepted = sorted((c for c in history if c.accepted), key=lambda c: (-c.fitness, c.name))
        if not accepted:
            raise ValueError("every program was rejected; the journal contains the reasons")
        scores = np.array([c.evaluation.by_question for c in accepted])
        penalties = np.array([c.fitness - c.evaluation.score for c in accepted])
        unseen = np.empty(scores.shape[1])
        for fold in range(min(_FOLDS, len(unseen))):
            held_out = np.arange(len(unseen)) % _FOLDS == fold
            best = int(np.argmax(scores[:, ~held_out].mean(axis=1) + penalties))
            unseen[held_out] = scores[best][held_out]
        finalists = [
            {"name": c.name, "score": c.evaluation.score, "size": c.evaluation.size}
            for c in accepted
        ]
        chosen = accepted[0].proposal
        final = replace(
            chosen, name=f"{round_number + 1}-final", origin="choice", parents=(chosen.name,)
        )
        return final, float(unseen.mean()), finalists


def _read_run(path: Path) -> dict[str, Any]:
    try:
        run = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path}: is damaged: {error}") from None
    if not isinstance(run, dict):
        raise RunError(f"{path}: is damaged: it must hold an object")
    return run


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 96, subsequent_indent="    ", break_on_hyphens=False)


def write_json(path: Path, content: Any) -> None:
    """Write plain values as indented JSON, atomically."""
    write_text(path, json.dumps(content, indent=1) + "\n")
