"""Transcripts of a few episodes, action by action, for language models.

Actions that repeat over branches or rounds are written once. For example,
``extend x3+probe 0-7 x2: AABA-AAA AABAaAAA`` means: CONTINUE three times and PROBE each of the
branches 0 to 7, and all of that twice; the letters are the answers that the probes revealed.
Answers are letters, in the order in which the episode first revealed them.
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

from autotts_gym.discovery import error_analysis as ea
from autotts_gym.discovery.diagnosis import (
    CAUSE_LABELS,
    LINE_WIDTH,
    difficulty_index,
    truncate_line,
)
from autotts_gym.discovery.error_analysis import ErrorAnalysis
from autotts_gym.gym_envs.autotts_env import AutoTTSEnv
from autotts_gym.mdp import actions

#: Maximum number of lines for the actions of an episode.
MAX_ACTION_LINES: Final = 4
#: Characters for the tokens at the start of a line, and for the actions after them.
_MARGIN: Final = 11
_ACTIONS_WIDTH: Final = LINE_WIDTH - _MARGIN
#: Maximum number of characters of a set of branches; a longer one is abbreviated.
_BRANCHES_WIDTH: Final = 16

_LEGEND: Final = (
    "Visible tokens spent, then the actions up to there. Letters are answers of probes, lower case",
    "at the end of a branch; - (_ at an end): no answer; ?: an answer after the 26th.",
)
_NULL: Final = "-"
_OTHER: Final = "?"
#: Letters of answers at the end of a branch, where they are not ``_OTHER``.
_AT_END: Final = {_NULL: "_"} | {c: c.lower() for c in string.ascii_uppercase}
_WORDS: Final = {"BRANCH": "branch", "CONTINUE": "extend", "PROBE": "probe", "PRUNE": "prune"}


def format_transcripts(analyses: Sequence[ErrorAnalysis]) -> str:
    """An incorrect, an easy and a hard episode at the lowest, the middle and the highest β.

    The selection is deterministic. Each episode is the one with the median of tokens among

    - incorrect: the incorrect episodes of the most frequent avoidable cause, or all incorrect
      episodes if there is no avoidable one;
    - easy: the correct episodes on questions of the lowest difficulty among them;
    - hard: the episodes for which the vote of all branches is correct, on questions of the highest
      difficulty among them.

    Returns:
        At most 2 + 9 · (``MAX_ACTION_LINES`` + 2) lines of at most ``diagnosis.LINE_WIDTH``
        characters.
    """
    lines = list(_LEGEND)
    played = [analysis for analysis in analyses if len(analysis.cause)]
    betas = sorted({analysis.episodes.beta for analysis in played})
    for beta in sorted({*betas[:1], *betas[len(betas) // 2 :][:1], *betas[-1:]}):
        examples = _select([analysis for analysis in played if analysis.episodes.beta == beta])
        for kind, analysis, k in examples:
            lines += _transcript(kind, analysis, k)
    return "\n".join(map(truncate_line, lines))


# --- selection -----------------------------------------------------------------------------------


def _select(analyses: Sequence[ErrorAnalysis]) -> Iterator[tuple[str, ErrorAnalysis, int]]:
    """Kind of each example, its analysis and its index there; no episode twice."""
    places = [(analysis, k) for analysis in analyses for k in range(len(analysis.cause))]
    cause, tokens, full_vote_correct, correct_share = (
        np.concatenate([getattr(analysis, name) for analysis in analyses])
        for name in ("cause", "tokens", "full_vote_correct", "correct_share")
    )
    difficulty = difficulty_index(correct_share)
    unused = np.ones(len(places), np.bool_)

    def take_median(mask: NDArray[np.bool_]) -> int | None:
        rows = np.flatnonzero(mask & unused)
        if not len(rows):
            return None
        row = int(rows[np.argsort(tokens[rows], kind="stable")[len(rows) // 2]])
        unused[row] = False
        return row

    def with_difficulty(mask: NDArray[np.bool_], choose: Any) -> NDArray[np.bool_]:
        return mask & (difficulty == choose(difficulty[mask])) if mask.any() else mask

    incorrect = cause != ea.CORRECT
    avoidable = cause[np.isin(cause, ea.AVOIDABLE)]
    if len(avoidable):
        incorrect = cause == np.bincount(avoidable).argmax()
    masks = {
        "incorrect": incorrect,
        "easy": with_difficulty(cause == ea.CORRECT, np.min),
        "hard": with_difficulty(full_vote_correct, np.max),
    }
    for kind, mask in masks.items():
        if (row := take_median(mask)) is not None:
            yield kind, *places[row]


# --- an episode ----------------------------------------------------------------------------------


class _Step(NamedTuple):
    """An action other than ANSWER.

    Attributes:
        word: the action.
        branch: the branch.
        letter: letter of the answer that a probe revealed; empty for other actions.
        spent: visible tokens spent after the action.
    """

    word: str
    branch: int
    letter: str
    spent: int


class _ReplayedEpisode:
    """An episode that is replayed from its log.

    Attributes:
        steps: its actions.
        letters: letters of the answers that were revealed, by text.
        answer: text of the episode's answer; empty without one.
    """

    def __init__(self, analysis: ErrorAnalysis, k: int) -> None:
        episodes = analysis.episodes
        env = AutoTTSEnv(
            episodes.store, observation="compact", info_strings=True, **asdict(episodes.config)
        )
        question, order = int(episodes.questions[k]), episodes.orders[k]
        env.reset(options={"question": question, "branch_order": order})
        self.steps: list[_Step] = []
        self.letters: dict[str, str] = {}
        self.answer = ""
        opened = 0
        for action in episodes.logs[k].tolist():
            observation, *_, info = env.step(action)
            self.answer = info["answer"]
            name, branch = actions.decode(action, episodes.config.max_branches)
            if name not in _WORDS:
                break
            if branch is None:
                branch, opened = opened, opened + 1
            letter = ""
            if name == "PROBE":
                latest = int(observation["branch_latest"][branch])
                letter = self._letter(env.answer_text(latest), env.is_null(latest))
                if observation["branch_finished"][branch]:
                    letter = _AT_END.get(letter, letter)
            self.steps.append(_Step(_WORDS[name], branch, letter, env.spent))

    def _letter(self, text: str, null: bool) -> str:
        if text not in self.letters:
            used = sum(letter.isalpha() or letter == _OTHER for letter in self.letters.values())
            unused = string.ascii_uppercase[used : used + 1] or _OTHER
            self.letters[text] = _NULL if null else unused
        return self.letters[text]


def _transcript(kind: str, analysis: ErrorAnalysis, k: int) -> Iterator[str]:
    """The lines of an episode."""
    episodes = analysis.episodes
    replayed = _ReplayedEpisode(analysis, k)
    cause = "" if analysis.correct[k] else f", {CAUSE_LABELS[int(analysis.cause[k])]}"
    yield (
        f"β = {episodes.beta:g}, {kind}{cause} ({analysis.correct_share[k]:.0%} of all branches "
        f"correct): question {episodes.questions[k]} of {episodes.env}"
    )
    yield from _action_lines(replayed.steps)
    if analysis.cause[k] == ea.FAILED:
        message = episodes.failures.get(k, "no answer was given")
        yield f"  ended after {analysis.tokens[k]:,} tokens: {message}"
        return
    texts = episodes.store.tables.answers[int(episodes.questions[k])]

    def letter(code: int) -> str:
        return replayed.letters.get(texts[code], "not revealed") if code >= 0 else "not revealed"

    gold, full_vote = letter(int(analysis.gold[k])), letter(int(analysis.full_vote[k]))
    outcome = "correct" if analysis.correct[k] else f"incorrect (gold answer: {gold})"
    yield (
        f"  answered {replayed.letters.get(replayed.answer, 'nothing')} after "
        f"{analysis.tokens[k]:,} tokens: {outcome}; vote of all branches: {full_vote}, "
        f"{'correct' if analysis.full_vote_correct[k] else 'incorrect'}"
    )


# --- actions -------------------------------------------------------------------------------------


class _Group(NamedTuple):
    """The same actions on several branches, one or more times.

    Attributes:
        label: the actions, as ``extend x3+probe``.
        branches: the branches, in order.
        letters: letters of the probes in order, one string per repetition.
        times: number of repetitions.
        counts: number of actions by word.
        spent: visible tokens spent after the last action.
    """

    label: str
    branches: tuple[int, ...]
    letters: tuple[str, ...]
    times: int
    counts: Counter[str]
    spent: int

    @property
    def text(self) -> str:
        """The group as it is written in a transcript."""
        ranges = _ranges(self.branches)
        if len(ranges) > _BRANCHES_WIDTH:
            ranges = f"{len(self.branches)} of {self.branches[0]}-{self.branches[-1]}"
        times = f" x{self.times}" if self.times > 1 else ""
        if not any(self.letters):
            return f"{self.label} {ranges}{times}"
        space = " " if len(self.branches) > 1 else ""
        return f"{self.label} {ranges}{times}: {space.join(self.letters)}"


def _ranges(branches: Sequence[int]) -> str:
    """Ascending numbers as ``0-3,7``."""
    runs = [
        [branch for _, branch in run]
        for _, run in groupby(enumerate(branches), key=lambda pair: pair[1] - pair[0])
    ]
    return ",".join(f"{r[0]}-{r[-1]}" if len(r) > 1 else f"{r[0]}" for r in runs)


def _branch_runs(steps: Sequence[_Step]) -> Iterator[list[_Step]]:
    """Consecutive actions on one branch; a probe ends a run."""
    run: list[_Step] = []
    for step in steps:
        if run and (run[-1].branch != step.branch or run[-1].letter):
            yield run
            run = []
        run.append(step)
    if run:
        yield run


def _label(run: Sequence[_Step]) -> str:
    counts = [(word, len(list(same))) for word, same in groupby(step.word for step in run)]
    return "+".join(word if count == 1 else f"{word} x{count}" for word, count in counts)


def _single_groups(steps: Sequence[_Step]) -> Iterator[_Group]:
    """Groups of equal runs on ascending branches, not yet merged over repetitions."""
    runs: list[list[_Step]] = []
    label = ""
    for run in _branch_runs(steps):
        if runs and (_label(run) != label or run[0].branch <= runs[-1][0].branch):
            yield from _group(label, runs)
            runs = []
        label = _label(run)
        runs.append(run)
    if runs:
        yield from _group(label, runs)


def _group(label: str, runs: Sequence[list[_Step]]) -> Iterator[_Group]:
    """The group of some runs, halved until its letters fit into a line."""
    steps = [step for run in runs for step in run]
    group = _Group(
        label,
        tuple(run[0].branch for run in runs),
        ("".join(step.letter for step in steps),),
        1,
        Counter(step.word for step in steps),
        steps[-1].spent,
    )
    if len(group.text) <= _ACTIONS_WIDTH or len(runs) == 1:
        yield group
    else:
        half = len(runs) // 2
        yield from _group(label, runs[:half])
        yield from _group(label, runs[half:])


def _groups(steps: Sequence[_Step]) -> Iterator[_Group]:
    """Groups of actions, with repetitions merged."""
    last: _Group | None = None
    for group in _single_groups(steps):
        if last is not None:
            merged = group._replace(
                letters=last.letters + group.letters,
                times=last.times + 1,
                counts=last.counts + group.counts,
            )
            same = (group.label, group.branches) == (last.label, last.branches)
            if same and len(merged.text) <= _ACTIONS_WIDTH:
                last = merged
                continue
            yield last
        last = group
    if last is not None:
        yield last


def _action_lines(steps: Sequence[_Step]) -> Iterator[str]:
    """At most ``MAX_ACTION_LINES`` lines; those in the middle are replaced by counts of actions."""
    lines: list[list[_Group]] = []
    for group in _groups(steps):
        if lines and len("; ".join(g.text for g in [*lines[-1], group])) <= _ACTIONS_WIDTH:
            lines[-1].append(group)
        else:
            lines.append([group])
    texts = ["; ".join(group.text for group in line) for line in lines]
    if len(lines) > MAX_ACTION_LINES:
        first = MAX_ACTION_LINES - 2
        middle = [group for line in lines[first:-1] for group in line]
        counts = sum((group.counts for group in middle), Counter[str]())
        listed = ", ".join(f"{counts[word]} {word}" for word in _WORDS.values() if counts[word])
        texts = [*texts[:first], f"... {listed}", texts[-1]]
        lines = [*lines[:first], middle, lines[-1]]
    for line, text in zip(lines, texts, strict=True):
        yield f"{line[-1].spent:>{_MARGIN - 1},} {text}"
