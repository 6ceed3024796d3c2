"""The loop of discovery: rounds of proposals, a record of all of them, and the choice at the end.

The folder of a run holds

- ``run.json``: what is searched, and how;
- ``journal.jsonl`` and ``journal.parquet``: everything that was tried
  (:mod:`autotts_gym.discovery.archive`);
- ``curve.png``: what the rounds have found;
- ``choice.json``: between which programs was chosen;
- ``NAME.py``: the program that was chosen, as a controller.

A run that is killed goes on from there: what is on record is not tried again, and everything else
follows from it.
"""

from __future__ import annotations

import json
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
from autotts_gym.discovery.evaluator import Evaluator
from autotts_gym.discovery.program_tree import source
from autotts_gym.discovery.proposal import Proposal, Proposer, Tried, Verdict
from autotts_gym.discovery.proposers.response_cache import ProposerError
from autotts_gym.utils.files import write_atomically, write_text

#: Controllers that every run begins with: one to write others after, and published ones.
TEMPLATE = "template"
SEEDS = (TEMPLATE, "asc", "esc", "parallel_probe")
#: Parts of the questions: chosen by all but one, scored on that one.
_FOLDS = 5


class RunError(ValueError):
    """A folder belongs to another run; the message says what differs."""


@dataclass(frozen=True)
class Choice:
    """The program that was chosen.

    Attributes:
        tried: the program, and what came of it on all questions.
        unseen: its score on questions that neither it nor its constants were chosen by.
    """

    tried: Tried
    unseen: float


@runtime_checkable
class Chooser(Protocol):
    """A proposer with a choice of its own at the end."""

    def choose(
        self, number: int, history: Sequence[Tried]
    ) -> tuple[Proposal, float, list[dict[str, Any]]]:
        """See :meth:`autotts_gym.discovery.proposers.genetic.Genetic.choose`."""


class Discovery:
    """A search for a controller.

    Args:
        evaluator: what programs are played on.
        folder: of the run.
        plan: what is searched and how, as plain values: a run goes on only as what it was.

    Attributes:
        archive: everything that was tried.

    Raises:
        RunError: the folder holds another run.
    """

    def __init__(self, evaluator: Evaluator, folder: Path, plan: Mapping[str, Any]) -> None:
        self.evaluator, self.folder = evaluator, folder
        folder.mkdir(parents=True, exist_ok=True)
        self._check(plan)
        self.archive = Archive(folder)

    def _check(self, plan: Mapping[str, Any]) -> None:
        search = self.evaluator.search
        names = zip(search.names, search.stores, strict=True)
        data = {name: store.card.fingerprint for name, store in names}
        made = json.loads(json.dumps({"plan": plan, "data": data, "questions": search.questions}))
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
            write_json(path, made)

    def run(
        self,
        proposer: Proposer,
        rounds: int,
        report: Callable[[int, Tried], None] = lambda *_: None,
    ) -> Choice:
        """Search, and choose.

        Args:
            rounds: of proposals.
            report: called with the round of every program that is tried, or was.

        Raises:
            ProposerError: the proposer cannot go on until something is mended.
            ValueError: every program was rejected.
        """
        for name in SEEDS:
            if f"0-{name}" not in self.archive:
                self._begin(name)
            report(0, self.archive[f"0-{name}"])
        for number in range(1, rounds + 1):
            for tried in [t for t in self.archive.values() if round_of(t.name) == number]:
                report(number, tried)
            self._round(proposer, number, report)
            self._show()
        return self._choose(proposer, rounds)

    def _show(self) -> None:
        """Write the table and the picture of what was tried until now."""
        self.archive.tabulate()
        picture(self.archive, self.folder / "curve.png")

    def _begin(self, name: str) -> None:
        kind = Template.with_beta if self.evaluator.knob else Template.without_beta
        agent = load(str(scaffold.file(kind)) if name == TEMPLATE else name)
        text = agent.source.decode("utf-8")
        self.archive.note(Tried(Proposal(f"0-{name}", text, "seed"), self.evaluator.agent(agent)))

    def _round(self, proposer: Proposer, number: int, report: Callable[[int, Tried], None]) -> None:
        """Ask for proposals, and try them. A proposer that fails ends its round, not the run."""
        try:
            for proposal in proposer.propose(number, self.archive.before(number)):
                self.archive.note(Tried(proposal, self._verdict(proposal)))
                report(number, self.archive[proposal.name])
        except ProposerError:  # asking again would be no use until something is mended
            raise
        except Exception as error:
            name = f"{number}-failed"
            if name not in self.archive:
                trouble = f"{type(error).__name__}: {error}"
                self.archive.note(Tried(Proposal(name, "", "none", trouble=trouble), Verdict()))
            report(number, self.archive[name])

    def _verdict(self, proposal: Proposal) -> Verdict:
        if proposal.trouble:
            return Verdict()
        if proposal.tree is not None:
            return self.evaluator.tree(proposal.tree)
        return self.evaluator.source(proposal.source)

    def _choose(self, proposer: Proposer, rounds: int) -> Choice:
        history = self.archive.before(rounds + 1)
        chooser = proposer if isinstance(proposer, Chooser) else _Best()
        path = self.folder / "choice.json"
        proposal, unseen, finalists = chooser.choose(rounds, history)
        write_json(path, finalists)
        if proposal.name not in self.archive:
            self.archive.note(Tried(proposal, self._verdict(proposal)))
        self._show()
        return Choice(self.archive[proposal.name], unseen)

    def save(self, choice: Choice, name: str, command: str) -> Path:
        """Write the program that was chosen as a controller, with its lineage; returns its file."""
        proposal, verdict = choice.tried.proposal, choice.tried.verdict
        ancestors = [t.name for t in self.archive.lineage(proposal.name)]
        title = f"{name}: a controller that was found."
        lines = [
            f"Found by: {command}",
            f"On: {', '.join(self.evaluator.search.names)}",
            f"Lineage: {', '.join(ancestors)}",
            f"Score: {verdict.score:.4f} on what it was found on, {choice.unseen:.4f} on questions "
            "left out",
            "(right answers, less the price of their tokens, over a sweep of β).",
        ]
        path = self.folder / f"{name}.py"
        lineage = [line for text in lines for line in _wrapped(text)]
        if proposal.tree is not None:
            content = source(proposal.tree, title, "\n".join(lineage))
        else:
            content = "".join(f"# {line}\n" for line in lineage) + proposal.source
        write_text(path, content)
        return path


class _Best:
    """Chooses the best program that was not rejected."""

    def choose(
        self, number: int, history: Sequence[Tried]
    ) -> tuple[Proposal, float, list[dict[str, Any]]]:
        """The best; its unseen score is that of the best by other questions, part by part."""
        sound = sorted((t for t in history if t.sound), key=lambda t: (-t.worth, t.name))
        if not sound:
            raise ValueError("every program was rejected; the journal says why")
        scores = np.array([t.verdict.by_question for t in sound])
        less = np.array([t.worth - t.verdict.score for t in sound])
        unseen = np.empty(scores.shape[1])
        for fold in range(min(_FOLDS, len(unseen))):
            out = np.arange(len(unseen)) % _FOLDS == fold
            unseen[out] = scores[int(np.argmax(scores[:, ~out].mean(axis=1) + less))][out]
        plain = [{"name": t.name, "score": t.verdict.score, "size": t.verdict.size} for t in sound]
        chosen = sound[0].proposal
        parents = (chosen.name,)
        final = replace(chosen, name=f"{number + 1}-final", how="choice", parents=parents)
        return final, float(unseen.mean()), plain


def picture(archive: Archive, path: Path) -> None:
    """Draw the discovery curve: what every round tried, and the best until then."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    played = [(round_of(t.name), t) for t in archive.values() if np.isfinite(t.verdict.score)]
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    for sound, label, colour in ((True, "accepted", "#3b6fb6"), (False, "rejected", "#c7c7c7")):
        some = [(number, t.verdict.score) for number, t in played if t.sound is sound]
        if some:
            numbers, scores = zip(*some, strict=True)
            axes.scatter(numbers, scores, s=14, color=colour, alpha=0.7, label=label)
    rounds = sorted({number for number, _ in played})
    accepted = [(number, t) for number, t in played if t.sound]
    best = [
        max((t.verdict.score for n, t in accepted if n <= number), default=np.nan)
        for number in rounds
    ]
    axes.step(rounds, best, where="post", color="#c2571a", label="best until then")
    shown = [score for score in best if np.isfinite(score)]
    if shown:
        # Programs that came to nothing would leave no room for those that did.
        axes.set_ylim(min(shown) - 0.15, max(shown) + 0.02)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="round", ylabel="score on the search set, right answers")
    axes.legend(frameon=False, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
    write_atomically(path, lambda draft: figure.savefig(draft, dpi=150, format="png"))


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 96, subsequent_indent="    ", break_on_hyphens=False)


def write_json(path: Path, content: Any) -> None:
    """Write plain values atomically."""
    write_text(path, json.dumps(content, indent=1) + "\n")
