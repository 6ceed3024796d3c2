"""What a proposer is told: the task, the episode handle, and what came of other programs.

The texts are made of the things themselves (signatures, docstrings, the constants of the score), so
that they say what is so.
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
from autotts_gym.discovery.objective import BETAS, PRICES, SPAN
from autotts_gym.discovery.proposal import Tried
from autotts_gym.discovery.source_checks import BUILTINS, LARGEST, modules

#: Attributes of a handle that no program may use, see :mod:`autotts_gym.discovery.source_checks`.
_HIDDEN: Final = frozenset({"facts", "info", "log", "notes"})


def template(knob: bool = True) -> str:
    """A program to start from."""
    return starting_file(Template.with_beta if knob else Template.without_beta, "controller")


# --- the task ------------------------------------------------------------------------------------


def task(*, knob: bool = True, traces: bool = True) -> str:
    """The task in Markdown: what a program is, how it is scored, and what gets it rejected.

    Args:
        knob: whether a program must have the knob β and nothing else.
        traces: whether diagnoses and traces of programs are told as well.
    """
    call = "solve(episode, beta)" if knob else "solve(episode)"
    told = "its score, its curve over β, why it was rejected"
    told += ", where its tokens went and some of its episodes, action by action" if traces else ""
    prices = ", ".join(f"{1 / PRICES.beta(beta) - 1:.3g} at β = {beta:g}" for beta in BETAS)
    parts = [
        f"""# The task

Write a controller: a Python file with a function `{call}` that decides how
inference is spent on one question. A language model samples reasoning branches for the question;
each grows by intervals of tokens, can be made to answer early, and can be dropped. The controller
opens branches, reads them on, looks at their answers, and ends the episode with one. Episodes are
replayed from recorded traces: what a controller sees is what a live server would have shown it.

The aim is to answer as many questions rightly with as few tokens as can be. Of every program that
was tried you are told {told}.

## How it is scored

Every program plays the same questions in the same branch orders at β = {_listed(BETAS)}.
Its score is the mean over these of

    right answers − price · tokens / C

with both per question, and C the tokens of reading all branches of a question whole (a mean over
the environment). The price of C, in right answers, is {prices}. Branches that
are read side by side take no longer than the longest: sequential tokens are told beside the score,
and do not count.

An episode that raises, returns without `episode.answer()`, or takes too long counts as wrong, at
what it had cost by then."""
    ]
    if knob:
        parts.append(f"""## One knob

β in [0, 1] is the only knob: 0 spends least, 1 most. Every other constant is fixed or a function
of β. Tokens must rise with β from each of the scored values to the next, and the last must spend
at least {SPAN:g} times the tokens of the first: a program whose tokens fall, or hardly rise, is
rejected.""")
    else:
        parts.append("""## No knob is needed

`solve(episode)` plays the same whatever β is; `solve(episode, beta)` is played as well.""")
    parts += [f"## The handle\n\n{handle()}", f"## What gets rejected\n\n{rules(knob)}"]
    return "\n\n".join(parts) + "\n"


def handle() -> str:
    """The protocol in Markdown: everything that a program may ask of an episode, or do."""
    calls = "\n".join(_of_handle(inspect.isfunction))
    seen = "\n".join(_of_handle(lambda value: isinstance(value, property)))
    most = "- `episode.max_branches: int`: The most branches that can be opened."
    return f"""Branches are numbered from 0, in the order in which they were opened. Depths are in
intervals, costs in tokens. Answers are numbers by first appearance in the episode, -1 for none; the
plurality is that of the latest answers of active branches. What is not legal raises, so ask first.

Generating does not block, looking does: request everything that does not depend on a look before
the first look. Past its end, which nobody knows before a probe has shown it, a branch generates
nothing and costs nothing.

{calls}

Attributes:

{most}
{seen}"""


def _of_handle(wanted: Callable[[Any], bool]) -> Iterator[str]:
    for name, value in vars(Episode).items():
        if not wanted(value) or name.startswith("_") or name in _HIDDEN:
            continue
        function: Any = value.fget if isinstance(value, property) else value
        told = _described(function).replace("(self, ", "(", 1).replace("(self)", "()", 1)
        if isinstance(value, property):
            told = told.replace("() -> ", ": ", 1)
        yield f"- `episode.{told}"


def _described(function: Callable[..., Any]) -> str:
    """A function's name and signature, a closing backtick, and what it does."""
    signature = str(inspect.signature(function)).replace("'", "")
    meaning = _plain(inspect.getdoc(function) or "")
    return f"{function.__name__}{signature}`" + (f": {meaning}" if meaning else "")


def _plain(docstring: str) -> str:
    """The first paragraph of a docstring on one line, in Markdown."""
    first = " ".join(docstring.partition("\n\n")[0].split())
    return re.sub(r":\w+:`~?([^`]+)`", r"`\1`", first).replace("``", "`")


def rules(knob: bool) -> str:
    """The checks before a program runs, in Markdown."""
    call = "`solve(episode, beta)`" if knob else "`solve(episode)` or `solve(episode, beta)`"
    offers = []
    for name, offered in modules().items():
        if name in ("math", "numpy"):
            continue
        module = importlib.import_module(name)
        values = {part: getattr(module, part) for part in sorted(offered)}
        functions = {part for part, value in values.items() if inspect.isfunction(value)}
        if functions != offered or name == "typing":
            offers.append(f"  - `from {name} import ...`: {', '.join(values)};")
            continue
        offers.append(f"  - `from {name} import ...`, with")
        offers += [f"    - `{_described(value)}" for value in values.values()]
    lines = [
        f"- anything but {call}: further parameters of `solve` are further knobs;",
        "- anything at the top of the file but imports, constants (numbers, texts, tuples), "
        "NamedTuples and functions;",
        "- anything that is kept from one episode to the next: `global`, lists and arrays among "
        "the file's variables, attributes that are set;",
        "- imports other than `math`, `numpy` (without its submodules and its files) and",
        *offers,
        "- random numbers: results would not repeat;",
        "- files, the environment of the process, names with two leading underscores, attributes "
        "with a leading underscore, and built-in functions other than "
        f"{', '.join(sorted(name for name in BUILTINS if name.islower()))};",
        "- decorators, generators, async;",
        f"- more than {LARGEST} bytes.",
    ]
    if knob:
        lines.insert(1, "- a `solve` that never uses `beta`;")
    numba = (
        "What numba can compile runs some hundred times faster than what it cannot: numbers, "
        "tuples, NumPy arrays, lists of one type, helper functions of the file; no classes but "
        "NamedTuples, no generator expressions, no dictionaries among the file's variables."
    )
    return "\n".join(lines) + f"\n\n{numba}"


def _listed(values: Sequence[float]) -> str:
    *most, last = (f"{value:g}" for value in values)
    return f"{', '.join(most)} and {last}"


# --- what came of others -------------------------------------------------------------------------


def best(history: Sequence[Tried]) -> Tried | None:
    """The best program: of those that were not rejected, if there are any; the first of equals."""
    programs = [tried for tried in history if tried.proposal.source]
    sound = [tried for tried in programs if not tried.verdict.fault]
    return max(sound or programs, key=lambda tried: _rank(tried.verdict.score), default=None)


def last(history: Sequence[Tried]) -> Tried | None:
    """The latest program."""
    return next((tried for tried in reversed(history) if tried.proposal.source), None)


def _rank(score: float) -> float:
    return -math.inf if math.isnan(score) else score


def result(tried: Tried) -> dict[str, Any]:
    """What came of a program, as plain values: ``result.json``."""
    proposal, verdict = tried.proposal, tried.verdict
    return {
        "name": proposal.name,
        "how": proposal.how,
        "parents": list(proposal.parents),
        "score": verdict.score if math.isfinite(verdict.score) else None,
        "fault": verdict.fault,
        "trouble": proposal.trouble,
        "curve": verdict.curve,
    }


def feedback(tried: Tried, *, traces: bool = True) -> str:
    """What came of a program, in Markdown: ``feedback.md``.

    Args:
        traces: whether the diagnosis and the traces are told.
    """
    proposal, verdict = tried.proposal, tried.verdict
    parts = [f"# {proposal.name}"]
    made = f", from {', '.join(proposal.parents)}" if proposal.parents else ""
    facts = f"How it came about: {proposal.how}{made}.\n"
    if not proposal.source:
        return f"{parts[0]}\n\n{facts}\nThere is no program: {proposal.trouble or 'none came'}.\n"
    facts += f"Score: {_score(verdict.score)}.\n"
    facts += f"Rejected: {verdict.fault}" if verdict.fault else "Not rejected."
    parts.append(facts)
    if verdict.curve:
        parts.append(f"## Curve\n\n{curve(verdict.curve)}")
    if traces and verdict.diagnosis:
        parts.append(f"## Diagnosis\n\n{verdict.diagnosis.strip()}")
    if traces and verdict.traces:
        parts.append(f"## Episodes\n\n```text\n{verdict.traces.rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


def curve(facts: dict[str, Any]) -> str:
    """A β sweep as a table in Markdown, from :meth:`autotts_gym.discovery.objective.Curve.facts`."""
    columns = ("accuracy", "tokens", "sequential")
    lines = [
        "| beta | accuracy | tokens / C | sequential / C | accuracy, tokens / C by environment |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row, beta in enumerate(facts["beta"]):
        cells = [f"{beta:g}"]
        for name in columns:
            low, high = facts[f"{name}_interval"][row]
            cells.append(f"{facts[name][row]:.4f} [{low:.4f}, {high:.4f}]")
        pairs = zip(*(facts[f"{name}_by_environment"][row] for name in columns[:2]), strict=True)
        cells.append("; ".join(f"{right:.3f}, {tokens:.3f}" for right, tokens in pairs))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def standing(history: Sequence[Tried]) -> str:
    """Everything that was tried as a table in Markdown, in order."""
    lines = ["| name | how | from | score | rejected |", "| --- | --- | --- | --- | --- |"]
    for tried in history:
        proposal, verdict = tried.proposal, tried.verdict
        fault = verdict.fault if proposal.source else f"no program: {proposal.trouble}"
        cells = [proposal.name, proposal.how, ", ".join(proposal.parents), _score(verdict.score)]
        cells.append(fault)
        lines.append(f"| {' | '.join(_cell(cell) for cell in cells)} |")
    return "\n".join(lines) + "\n"


def _score(score: float) -> str:
    return f"{score:.4f}" if math.isfinite(score) else "none"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
