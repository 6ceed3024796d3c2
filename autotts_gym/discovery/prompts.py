"""Texts for proposers: the task and the feedback on candidates, in Markdown.

Signatures, docstrings and constants are read from the code, so that the texts cannot become
outdated.
"""

from __future__ import annotations

import importlib
import inspect
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from autotts_gym.controllers.episode import Episode
from autotts_gym.controllers.scaffold import Template
from autotts_gym.controllers.scaffold import source as starting_file
from autotts_gym.discovery.objective import BETAS, MIN_SPAN, price_at
from autotts_gym.discovery.proposal import Candidate
from autotts_gym.discovery.source_rules import ALLOWED_BUILTINS, MAX_SOURCE_SIZE, allowed_modules

#: Attributes of an episode that programs must not use, see
#: :mod:`autotts_gym.discovery.source_rules`.
_HIDDEN: Final = frozenset({"facts", "info", "log", "notes"})

_TASK: Final = """# The task

Write a controller: a Python file with a function `{call}` that controls how inference is spent on
one question. A language model samples reasoning branches for the question. Branches grow by
intervals of tokens. A controller can open a branch, extend a branch by an interval, probe a branch
for its current answer, prune a branch, and end the episode with an answer. Episodes are replayed
from recorded traces; a controller observes exactly what a live server would return.

The aim is to answer as many questions correctly with as few tokens as possible. You get the
following feedback on every evaluated program: {feedback}.

## How programs are scored

Every program plays the same questions in the same branch orders at β = {betas}.
Its score is the mean over these episodes of

    correct answers − price · {cost}

where both terms are per question, and C is the number of tokens of reading all branches of a
question to their ends (a mean over the environment). The price of C, in correct answers, is
{prices}.
Branches that grow in parallel take as long as the longest of them: these are sequential tokens. L
is their expected number if all branches are read to their ends. {latency}

An episode counts as incorrect if the program raises an error, returns without calling
`episode.answer()`, or exceeds the time limit. The tokens spent until then count."""

_KNOB: Final = """## One knob

β in [0, 1] is the only knob: a program spends least at β = 0 and most at β = 1. Every other
constant is fixed or a function of β. Tokens must rise from each scored value of β to the next, and
the tokens at the last value must be at least {span:g} times the tokens at the first. A program
whose tokens fall, or hardly rise, is rejected."""

_NO_KNOB: Final = """## No knob is needed

`solve(episode)` plays in the same way at every β. `solve(episode, beta)` is accepted as well."""

_EPISODE: Final = """\
Branches are numbered from 0, in the order in which they are opened. Depths are in intervals, costs
in tokens. Answers are integers, numbered by their first appearance in the episode; -1 means no
answer. The plurality is taken over the latest answers of the active branches. An illegal action
raises an error, so check first whether an action is legal.

Requests to generate text do not block; a probe blocks. Before the first probe, request all text
that does not depend on its result. Only a probe reveals that a branch has ended. A branch that has
ended generates no more tokens and costs nothing more.

{methods}

Attributes:

- `episode.max_branches: int`: Maximum number of branches that can be opened.
{attributes}"""


def template(knob: bool = True) -> str:
    """Source text of the commented starting file."""
    return starting_file(Template.with_beta if knob else Template.without_beta, "controller")


# --- the task ------------------------------------------------------------------------------------


def task(*, knob: bool = True, diagnostics: bool = True, latency: Sequence[float] = (0.0,)) -> str:
    """The task: what a program is, how it is scored, and why programs are rejected.

    Args:
        knob: whether β must control spending.
        diagnostics: whether the feedback includes diagnoses and transcripts.
        latency: weights of latency in the score.
    """
    feedback = "its score, its curve over β, and the reason if it was rejected"
    if diagnostics:
        feedback += "; where its tokens went, and some of its episodes action by action"
    parts = [
        _TASK.format(
            call="solve(episode, beta)" if knob else "solve(episode)",
            feedback=feedback,
            betas=_enumerated(BETAS),
            cost="((1 − w) · tokens / C + w · sequential / L)" if any(latency) else "tokens / C",
            latency=(
                f"The weight w, `episode.latency_weight`, is {_enumerated(latency)} in turn."
                if any(latency)
                else "They are reported, but do not affect the score."
            ),
            prices=", ".join(f"{price_at(beta):.3g} at β = {beta:g}" for beta in BETAS),
        ),
        _KNOB.format(span=MIN_SPAN) if knob else _NO_KNOB,
        f"## The episode object\n\n{episode_protocol()}",
        f"## Why programs are rejected\n\n{rules(knob)}",
    ]
    return "\n\n".join(parts) + "\n"


def episode_protocol() -> str:
    """Methods and attributes of an episode, with their signatures and docstrings."""
    return _EPISODE.format(
        methods="\n".join(_members(inspect.isfunction)),
        attributes="\n".join(_members(lambda value: isinstance(value, property))),
    )


def _members(selected: Callable[[Any], bool]) -> Iterator[str]:
    for name, value in vars(Episode).items():
        if not selected(value) or name.startswith("_") or name in _HIDDEN:
            continue
        function: Any = value.fget if isinstance(value, property) else value
        text = _signature(function).replace("(self, ", "(", 1).replace("(self)", "()", 1)
        if isinstance(value, property):
            text = text.replace("() -> ", ": ", 1)
        yield f"- `episode.{text}"


def _signature(function: Callable[..., Any]) -> str:
    """Name and signature of a function, a closing backtick, and the summary of its docstring."""
    signature = str(inspect.signature(function)).replace("'", "")
    summary = _summary(inspect.getdoc(function) or "")
    return f"{function.__name__}{signature}`" + (f": {summary}" if summary else "")


def _summary(docstring: str) -> str:
    """The first paragraph of a docstring on one line, in Markdown."""
    first = " ".join(docstring.partition("\n\n")[0].split())
    return re.sub(r":\w+:`~?([^`]+)`", r"`\1`", first).replace("``", "`")


def rules(knob: bool) -> str:
    """The checks that a source text must pass before it is played."""
    call = "`solve(episode, beta)`" if knob else "`solve(episode)` or `solve(episode, beta)`"
    builtins = ", ".join(sorted(name for name in ALLOWED_BUILTINS if name.islower()))
    lines = [
        f"- a signature other than {call}: further parameters of `solve` would be further knobs;",
        "- top-level statements other than imports, constants (numbers, strings, tuples), "
        "NamedTuples and functions;",
        "- state that persists between episodes: `global`, module-level lists and arrays, "
        "assignments to attributes;",
        "- imports other than `math`, `numpy` (without its submodules and its file functions) and",
        *_allowed_imports(),
        "- random numbers, because results would not be reproducible;",
        "- access to files or to the environment of the process; names that contain two leading "
        "underscores; attributes with a leading underscore; built-in functions other than "
        f"{builtins};",
        "- decorators, generators, async functions;",
        f"- more than {MAX_SOURCE_SIZE} bytes.",
    ]
    if knob:
        lines.insert(1, "- a function `solve` that never uses `beta`;")
    numba = (
        "Programs that numba can compile run about a hundred times faster. numba supports numbers, "
        "tuples, NumPy arrays, lists of one element type, and helper functions in the file. It "
        "does not support classes other than NamedTuples, generator expressions, or module-level "
        "dictionaries."
    )
    return "\n".join(["A program is rejected if it contains", "", *lines, "", numba])


def _allowed_imports() -> Iterator[str]:
    """List items of the modules other than math and numpy that programs may import from."""
    for name, allowed in allowed_modules().items():
        if name in ("math", "numpy"):
            continue
        module = importlib.import_module(name)
        values = {part: getattr(module, part) for part in sorted(allowed)}
        functions = {part for part, value in values.items() if inspect.isfunction(value)}
        if functions != allowed or name == "typing":
            yield f"  - `from {name} import ...`: {', '.join(values)};"
            continue
        yield f"  - `from {name} import ...`, which provides"
        yield from (f"    - `{_signature(value)}" for value in values.values())


def _enumerated(values: Sequence[float]) -> str:
    *first, last = (f"{value:g}" for value in values)
    return f"{', '.join(first)} and {last}"


# --- feedback on candidates ----------------------------------------------------------------------


def best_candidate(history: Sequence[Candidate]) -> Candidate | None:
    """The candidate with the highest score, the first of equals.

    Rejected candidates are considered only if every candidate is rejected.
    """
    programs = [candidate for candidate in history if candidate.proposal.source]
    accepted = [candidate for candidate in programs if not candidate.evaluation.rejection]
    return max(accepted or programs, key=lambda c: _rank(c.evaluation.score), default=None)


def latest_candidate(history: Sequence[Candidate]) -> Candidate | None:
    """The latest candidate that has a program."""
    return next((candidate for candidate in reversed(history) if candidate.proposal.source), None)


def _rank(score: float) -> float:
    return -math.inf if math.isnan(score) else score


def result(candidate: Candidate) -> dict[str, Any]:
    """The result of a candidate as plain values, the content of ``result.json``."""
    proposal, evaluation = candidate.proposal, candidate.evaluation
    return {
        "name": proposal.name,
        "how": proposal.origin,
        "parents": list(proposal.parents),
        "score": evaluation.score if math.isfinite(evaluation.score) else None,
        "fault": evaluation.rejection,
        "trouble": proposal.error,
        "curve": evaluation.curve,
    }


def feedback(candidate: Candidate, *, diagnostics: bool = True) -> str:
    """Feedback on a candidate, the content of ``feedback.md``.

    Args:
        candidate: the candidate.
        diagnostics: include the diagnosis and the transcripts.
    """
    proposal, evaluation = candidate.proposal, candidate.evaluation
    parts = [f"# {proposal.name}"]
    parents = f", from {', '.join(proposal.parents)}" if proposal.parents else ""
    summary = f"Origin: {proposal.origin}{parents}.\n"
    if not proposal.source:
        reason = proposal.error or "the proposer returned none"
        return f"{parts[0]}\n\n{summary}\nThere is no program: {reason}.\n"
    summary += f"Score: {_format_score(evaluation.score)}.\n"
    summary += f"Rejected: {evaluation.rejection}" if evaluation.rejection else "Accepted."
    parts.append(summary)
    if evaluation.curve:
        parts.append(f"## Curve\n\n{curve_table(evaluation.curve)}")
    if diagnostics and evaluation.diagnosis:
        parts.append(f"## Diagnosis\n\n{evaluation.diagnosis.strip()}")
    if diagnostics and evaluation.transcripts:
        parts.append(f"## Episodes\n\n```text\n{evaluation.transcripts.rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


def curve_table(curve: dict[str, Any]) -> str:
    """A β sweep as a table.

    Args:
        curve: from :meth:`autotts_gym.discovery.objective.Curve.to_dict`.
    """
    columns = ("accuracy", "tokens", "sequential")
    lines = [
        "| beta | accuracy | tokens / C | sequential / L | accuracy, tokens / C by environment |",
        "| --- | --- | --- | --- | --- |",
    ]
    weights = curve.get("latency", [])
    for row, beta in enumerate(curve["beta"]):
        cells = [f"{beta:g}, latency weight {weights[row]:g}" if any(weights) else f"{beta:g}"]
        for name in columns:
            low, high = curve[f"{name}_interval"][row]
            cells.append(f"{curve[name][row]:.4f} [{low:.4f}, {high:.4f}]")
        pairs = zip(*(curve[f"{name}_by_environment"][row] for name in columns[:2]), strict=True)
        cells.append("; ".join(f"{accuracy:.3f}, {tokens:.3f}" for accuracy, tokens in pairs))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def history_table(history: Sequence[Candidate]) -> str:
    """All candidates as a table, in order, the content of ``results.md``."""
    lines = ["| name | origin | parents | score | rejected |", "| --- | --- | --- | --- | --- |"]
    for candidate in history:
        proposal, evaluation = candidate.proposal, candidate.evaluation
        rejection = evaluation.rejection if proposal.source else f"no program: {proposal.error}"
        score = _format_score(evaluation.score)
        cells = [proposal.name, proposal.origin, ", ".join(proposal.parents), score, rejection]
        lines.append(f"| {' | '.join(_cell(cell) for cell in cells)} |")
    return "\n".join(lines) + "\n"


def _format_score(score: float) -> str:
    return f"{score:.4f}" if math.isfinite(score) else "none"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
