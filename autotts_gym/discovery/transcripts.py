"""A few episodes of a program, action by action, short enough for a language model to read.

Actions that repeat themselves from branch to branch and from round to round are written once:
``extend x3+probe 0-7 x2: AABA-AAA AABAaAAA`` is three times CONTINUE, then PROBE, of one branch
after the other, and all of that once more; the letters are the answers that the looks showed.
Answers are told by letters alone, in the order in which an episode saw them.
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from autotts_gym.discovery import error_analysis as h
from autotts_gym.discovery.diagnosis import WIDTH, WORDS, cut, difficulty
from autotts_gym.discovery.error_analysis import EpisodeDiagnosis
from autotts_gym.gym_envs.autotts_env import AutoTTSEnv
from autotts_gym.mdp import actions

#: Lines that the actions of an episode have at most.
BODY: Final = 4
#: Characters before the actions of a line, and after them.
_MARGIN: Final = 11
_ROOM: Final = WIDTH - _MARGIN
#: Characters of a set of branches at most; of a longer one, its size and its ends are told.
_SET: Final = 16

_LEGEND: Final = (
    "Tokens spent, as the program sees them, then what it did by then. Letters: the answers that",
    "looks showed, a small one where the branch had ended; - (_ at an end): none; ?: yet another.",
)
_NONE: Final = "-"
_OTHER: Final = "?"
#: Letters as they are where a branch has ended.
_AT_END: Final = {_NONE: "_"} | {c: c.lower() for c in string.ascii_uppercase}
_WORDS: Final = {"BRANCH": "branch", "CONTINUE": "extend", "PROBE": "probe", "PRUNE": "prune"}


def traces(parts: Sequence[EpisodeDiagnosis]) -> str:
    """An easy, a hard and a lost episode at the lowest, the middle and the highest β.

    Which ones is decided by the figures alone: each is the one with the median of tokens. The lost
    one is of the most frequent cause for which the program itself is to blame, else of all that
    came out wrong; the easy one of those that came out right, on questions of the least difficulty
    that there is among them; the hard one of those that reading all branches gets right, on
    questions of the greatest difficulty, whatever came of it.

    Returns:
        At most 2 + 9 · (``BODY`` + 2) lines of at most ``diagnosis.WIDTH`` characters.
    """
    lines = list(_LEGEND)
    played = [part for part in parts if len(part.cause)]
    betas = sorted({part.logged.beta for part in played})
    for beta in sorted({*betas[:1], *betas[len(betas) // 2 :][:1], *betas[-1:]}):
        for kind, part, k in _chosen([part for part in played if part.logged.beta == beta]):
            lines += _episode(kind, part, k)
    return "\n".join(map(cut, lines))


# --- which ---------------------------------------------------------------------------------------


def _chosen(parts: Sequence[EpisodeDiagnosis]) -> Iterator[tuple[str, EpisodeDiagnosis, int]]:
    """What each is an example of, its part and its index there; no episode twice."""
    places = [(part, k) for part in parts for k in range(len(part.cause))]
    cause, tokens, all_right, share = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("cause", "tokens", "all_right", "share")
    )
    grade = difficulty(share)
    free = np.ones(len(places), np.bool_)

    def median(of: NDArray[np.bool_]) -> int | None:
        rows = np.flatnonzero(of & free)
        if not len(rows):
            return None
        found = int(rows[np.argsort(tokens[rows], kind="stable")[len(rows) // 2]])
        free[found] = False
        return found

    def graded(of: NDArray[np.bool_], pick: Any) -> NDArray[np.bool_]:
        return of & (grade == pick(grade[of])) if of.any() else of

    lost = cause != h.RIGHT
    by_program = cause[np.isin(cause, h.BY_PROGRAM)]
    if len(by_program):
        lost = cause == np.bincount(by_program).argmax()
    examples = {
        "lost": lost,
        "easy": graded(cause == h.RIGHT, np.min),
        "hard": graded(all_right, np.max),
    }
    for kind, of in examples.items():
        if (e := median(of)) is not None:
            yield kind, *places[e]


# --- an episode ----------------------------------------------------------------------------------


class _Step(NamedTuple):
    """An action but the answer: its word, its branch, what a look showed, visible spent after."""

    word: str
    branch: int
    shown: str
    spent: int


class _Played:
    """An episode that is played once more.

    Attributes:
        steps: its actions.
        letters: of the answers that it saw, by text.
        answered: the text of its answer; empty where it gave none.
    """

    def __init__(self, part: EpisodeDiagnosis, k: int) -> None:
        logged = part.logged
        env = AutoTTSEnv(logged.store, observation="compact", **asdict(logged.terms))
        question, order = int(logged.questions[k]), logged.orders[k]
        env.reset(options={"question": question, "branch_order": order})
        self.steps: list[_Step] = []
        self.letters: dict[str, str] = {}
        self.answered = ""
        opened = 0
        for action in logged.logs[k].tolist():
            seen, *_, info = env.step(action)
            self.answered = info.get("answer", "")
            name, branch = actions.decode(action, logged.terms.max_branches)
            if name not in _WORDS:
                break
            if branch is None:
                branch, opened = opened, opened + 1
            shown = ""
            if name == "PROBE":
                latest = int(seen["branch_latest"][branch])
                letter = self._letter(env.answer_text(latest), env.is_null(latest))
                shown = _AT_END.get(letter, letter) if seen["branch_finished"][branch] else letter
            self.steps.append(_Step(_WORDS[name], branch, shown, env.spent))

    def _letter(self, text: str, null: bool) -> str:
        if text not in self.letters:
            known = sum(letter.isalpha() or letter == _OTHER for letter in self.letters.values())
            others = string.ascii_uppercase[known : known + 1] or _OTHER
            self.letters[text] = _NONE if null else others
        return self.letters[text]


def _episode(kind: str, part: EpisodeDiagnosis, k: int) -> Iterator[str]:
    logged = part.logged
    played = _Played(part, k)
    why = "" if part.right[k] else f", {WORDS[int(part.cause[k])]}"
    yield (
        f"β = {logged.beta:g}, {kind}{why} ({part.share[k]:.0%} of all branches right): "
        f"question {logged.questions[k]} of {logged.env}"
    )
    yield from _body(played.steps)
    if part.cause[k] == h.FAILED:
        message = logged.failures.get(k, "it gave no answer")
        yield f"  ended after {part.tokens[k]:,} tokens: {message}"
        return
    texts = logged.store.tables.answers[int(logged.questions[k])]

    def told(code: int) -> str:
        return played.letters.get(texts[code], "unseen") if code >= 0 else "unseen"

    came = "right" if part.right[k] else f"wrong (right: {told(int(part.gold[k]))})"
    yield (
        f"  answered {played.letters.get(played.answered, 'nothing')} after {part.tokens[k]:,} "
        f"tokens: {came}; reading all: {told(int(part.all_read[k]))}, "
        f"{'right' if part.all_right[k] else 'wrong'}"
    )


# --- its actions ---------------------------------------------------------------------------------


class _Group(NamedTuple):
    """Actions that are written as one: ``times`` over, what is done on each of some branches.

    Attributes:
        done: in words, as ``extend x3+probe``.
        branches: in order.
        shown: letters of the looks, in order, pass after pass.
        times: how often.
        counts: actions by word.
        spent: visible spent after the last, tokens.
    """

    done: str
    branches: tuple[int, ...]
    shown: tuple[str, ...]
    times: int
    counts: Counter[str]
    spent: int

    @property
    def text(self) -> str:
        ranges = _ranges(self.branches)
        if len(ranges) > _SET:
            ranges = f"{len(self.branches)} of {self.branches[0]}-{self.branches[-1]}"
        times = f" x{self.times}" if self.times > 1 else ""
        if not any(self.shown):
            return f"{self.done} {ranges}{times}"
        space = " " if len(self.branches) > 1 else ""
        return f"{self.done} {ranges}{times}: {space.join(self.shown)}"


def _ranges(branches: Sequence[int]) -> str:
    """Rising numbers as ``0-3,7``."""
    runs = [
        [branch for _, branch in some]
        for _, some in groupby(enumerate(branches), key=lambda pair: pair[1] - pair[0])
    ]
    return ",".join(f"{r[0]}-{r[-1]}" if len(r) > 1 else f"{r[0]}" for r in runs)


def _units(steps: Sequence[_Step]) -> Iterator[list[_Step]]:
    """What is done on one branch in a row, a look at the end."""
    unit: list[_Step] = []
    for step in steps:
        if unit and (unit[-1].branch != step.branch or unit[-1].shown):
            yield unit
            unit = []
        unit.append(step)
    if unit:
        yield unit


def _done(unit: Sequence[_Step]) -> str:
    counts = [(word, len(list(some))) for word, some in groupby(step.word for step in unit)]
    return "+".join(word if count == 1 else f"{word} x{count}" for word, count in counts)


def _passes(steps: Sequence[_Step]) -> Iterator[_Group]:
    """The same done on rising branches."""
    units: list[list[_Step]] = []
    done = ""

    def group(some: Sequence[list[_Step]]) -> Iterator[_Group]:
        flat = [step for unit in some for step in unit]
        found = _Group(
            done,
            tuple(unit[0].branch for unit in some),
            ("".join(step.shown for step in flat),),
            1,
            Counter(step.word for step in flat),
            flat[-1].spent,
        )
        if len(found.text) <= _ROOM or len(some) == 1:
            yield found
        else:  # so many letters that they do not fit a line
            half = len(some) // 2
            yield from group(some[:half])
            yield from group(some[half:])

    for unit in _units(steps):
        if units and (_done(unit) != done or unit[0].branch <= units[-1][0].branch):
            yield from group(units)
            units = []
        done = _done(unit)
        units.append(unit)
    if units:
        yield from group(units)


def _groups(steps: Sequence[_Step]) -> Iterator[_Group]:
    """Passes, those that repeat themselves as one."""
    last: _Group | None = None
    for found in _passes(steps):
        if last is not None:
            both = found._replace(
                shown=last.shown + found.shown,
                times=last.times + 1,
                counts=last.counts + found.counts,
            )
            same = (found.done, found.branches) == (last.done, last.branches)
            if same and len(both.text) <= _ROOM:
                last = both
                continue
            yield last
        last = found
    if last is not None:
        yield last


def _body(steps: Sequence[_Step]) -> Iterator[str]:
    """The lines of the actions, ``BODY`` at most: what lies between is counted by words."""
    lines: list[list[_Group]] = []
    for group in _groups(steps):
        if lines and len("; ".join(g.text for g in [*lines[-1], group])) <= _ROOM:
            lines[-1].append(group)
        else:
            lines.append([group])
    texts = ["; ".join(group.text for group in line) for line in lines]
    if len(lines) > BODY:
        between = [group for line in lines[BODY - 2 : -1] for group in line]
        counts = sum((group.counts for group in between), Counter[str]())
        told = ", ".join(f"{counts[word]} {word}" for word in _WORDS.values() if counts[word])
        texts = [*texts[: BODY - 2], f"... {told}", texts[-1]]
        lines = [*lines[: BODY - 2], between, lines[-1]]
    for line, text in zip(lines, texts, strict=True):
        yield f"{line[-1].spent:>{_MARGIN - 1},} {text}"
