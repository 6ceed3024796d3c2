"""Error analysis, diagnosis and transcripts, on a tiny store with known results and at random."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import random_action, random_config, random_store

from autotts_gym.controllers.agent import Agent
from autotts_gym.discovery import error_analysis as ea
from autotts_gym.discovery.diagnosis import LINE_WIDTH, diagnose
from autotts_gym.discovery.error_analysis import CAUSES, EpisodeLogs, ErrorAnalysis, analyze_errors
from autotts_gym.discovery.objective import SearchSet
from autotts_gym.discovery.transcripts import MAX_ACTION_LINES, format_transcripts
from autotts_gym.discovery.tree_rollout import TreeRollout
from autotts_gym.discovery.variation import seed_programs
from autotts_gym.mdp import actions
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.branch_orders import branch_orders
from autotts_gym.rollout.rollout import Rollout
from autotts_gym.traces.store import Branch, Question, TraceStore
from autotts_gym.traces.synthetic_traces import generate

# Δ = 100 tokens. The plurality of the first question is correct, the gold answer of the second is
# outvoted, and no branch of the third ends with the gold answer.
STORE = TraceStore.from_branches(
    [
        Question(
            "?",
            "7",
            [Branch(["8", "7"], 250, "7"), Branch(["8"], 150, "8"), Branch(["7", "7"], 250, "7")],
        ),
        Question("?", "1", [Branch([], 50, "y"), Branch([], 50, "1"), Branch([], 50, "y")]),
        Question("?", "2", [Branch(["w"], 150, "z"), Branch([], 50, "z"), Branch([], 50, "x")]),
    ],
    100,
)

# Actions, question, branch order, and expected results: cause, tokens, settled tokens.
EXAMPLES = {
    "read whole": ("b(); x(0); x(0); p(0); a()", 0, (0, 1, 2), (ea.CORRECT, 250, 250)),
    "late": ("b(); x(0); p(0); b(); x(1); p(1); b(); a()", 0, (0, 1, 2), (ea.CORRECT, 450, 200)),
    "raised": ("b(); raise ValueError('so')", 0, (0, 1, 2), (ea.FAILED, 100, 100)),
    "after its answer": ("b(); x(0); p(0); a(); a()", 0, (0, 1, 2), (ea.FAILED, 200, 200)),
    "no answer": ("b()", 1, (0, 1, 2), (ea.FAILED, 50, 50)),
    "overruled": ("b(); x(0); p(0); b(); p(1); a(1)", 0, (0, 1, 2), (ea.OVERRULED, 300, 300)),
    "early": ("b(); p(0); a()", 0, (0, 1, 2), (ea.EARLY, 100, 100)),
    "unread": ("b(); a()", 0, (0, 1, 2), (ea.EARLY, 100, 0)),
    "pruned": ("b(); b(); p(1); q(0); a()", 0, (0, 1, 2), (ea.PRUNED, 200, 200)),
    "narrow": ("b(); p(0); a()", 0, (1, 0, 2), (ea.NARROW, 100, 100)),
    "outvoted": ("b(); p(0); a()", 1, (0, 1, 2), (ea.OUTVOTED, 50, 50)),
    "absent": ("b(); p(0); a()", 2, (0, 1, 2), (ea.ABSENT, 100, 100)),
    "nothing at all": ("a()", 2, (0, 1, 2), (ea.ABSENT, 0, 0)),
}
LONG = {"b": "branch", "x": "extend", "p": "probe", "q": "prune", "a": "answer"}
PROGRAM = "def solve(episode, beta):\n    case = round(100 * beta)\n" + "".join(
    f"    if case == {k}: {re.sub('[bxpqa](?=[(])', lambda m: 'episode.' + LONG[m[0]], text)}\n"
    for k, (text, *_) in enumerate(EXAMPLES.values())
)


@pytest.fixture
def examples(controller: Callable[..., Agent]) -> ErrorAnalysis:
    """All examples as the episodes of one program."""
    rollout = Rollout(controller(PROGRAM), STORE, EpisodeConfig(3), interpret=True, logs=True)
    logs, failures = [], {}
    questions = np.array([question for _, question, *_ in EXAMPLES.values()])
    orders = np.array([order for *_, order, _ in EXAMPLES.values()])
    for k in range(len(EXAMPLES)):
        played = rollout.play(questions[k : k + 1], orders[k : k + 1], k / 100)
        logs += played.logs
        if 0 in played.failures:
            failures[k] = played.failures[0]
    return analyze_errors(
        EpisodeLogs("tiny", STORE, EpisodeConfig(3), 0.5, questions, orders, logs, failures)
    )


def test_causes_of_examples(examples: ErrorAnalysis) -> None:
    results = zip(
        [CAUSES[c] for c in examples.cause],
        examples.tokens.tolist(),
        examples.settled.tolist(),
        strict=True,
    )
    expected = {
        name: (CAUSES[cause], tokens, settled)
        for name, (*_, (cause, tokens, settled)) in EXAMPLES.items()
    }
    assert dict(zip(EXAMPLES, results, strict=True)) == expected
    unread_tokens = dict(zip(EXAMPLES, examples.unread_tokens.tolist(), strict=True))
    assert {name: n for name, n in unread_tokens.items() if n} == {"early": 150, "unread": 150}
    at = list(EXAMPLES).index("pruned")
    assert (examples.opened[at], examples.opened_correct[at]) == (2, 1)
    assert (examples.pruned[at], examples.pruned_correct[at]) == (1, 1)
    assert (examples.unread[at], examples.unread_correct[at]) == (1, 0)
    assert examples.correct_share.tolist() == [
        {0: 2 / 3, 1: 1 / 3, 2: 0.0}[q] for q in examples.episodes.questions.tolist()
    ]


def test_diagnosis_of_examples(examples: ErrorAnalysis) -> None:
    diagnosis = diagnose([examples])
    (row,) = diagnosis.rows
    assert (row.beta, row.episodes, row.accuracy) == (0.5, 13, 2 / 13)
    assert row.tokens == pytest.approx(2000 / 13)
    assert row.full_vote == 9 / 13
    assert row.counts == {
        "correct": 2,
        "failed": 3,
        "overruled": 1,
        "early": 2,
        "pruned": 1,
        "narrow": 1,
        "outvoted": 1,
        "absent": 2,
    }
    tokens = {name: round(share * 2000) for name, share in row.shares.items()}
    assert tokens == {
        "correct": 700,
        "failed": 350,
        "overruled": 300,
        "early": 200,
        "pruned": 200,
        "narrow": 100,
        "outvoted": 50,
        "absent": 100,
    }
    assert row.unread_tokens == 150
    assert row.settled == pytest.approx(450 / 700)
    assert (row.late, row.late_tokens) == (1, 250)
    assert [(d.name, d.questions) for d in row.difficulties] == [("medium", 2), ("hard", 1)]
    medium, hard = row.difficulties
    assert (medium.accuracy, medium.full_vote) == (2 / 11, 9 / 11)
    assert (hard.accuracy, hard.full_vote) == (0, 0)
    assert hard.tokens == pytest.approx(100 / 2000)
    assert diagnosis.errors.keys() == set(examples.episodes.failures.values())
    assert sum(diagnosis.errors.values()) == 3
    assert "ValueError: so" in diagnosis.errors
    assert diagnosis.to_dict()["rows"][0]["counts"] == row.counts


def test_diagnosis_text(examples: ErrorAnalysis) -> None:
    text = diagnose([examples]).text()
    first, second, *_ = text.split("\n")
    assert first == (
        "β = 0.5: accuracy 0.154 in 13 episodes, 154 tokens per episode; "
        "vote of all branches: 0.692"
    )
    assert second.startswith("  tokens: 35% in correct episodes, ")
    assert "gold answer outvoted 1 (2%), no correct branch 2 (5%)" in text
    assert "error in 1 episodes: ValueError: so" in text


def test_transcripts_of_examples(examples: ErrorAnalysis) -> None:
    text = format_transcripts([examples])
    # Failures are the most frequent cause; the one with the median of tokens is shown.
    assert (
        "β = 0.5, incorrect, failed (67% of all branches correct): question 0 of tiny\n"
        "       100 branch 0\n"
        "  ended after 100 tokens: ValueError: so\n"
    ) in text
    only = format_transcripts([analyze_one(examples.episodes, list(EXAMPLES).index("late"))])
    assert only.splitlines()[2:] == [
        "β = 0.5, easy (67% of all branches correct): question 0 of tiny",
        "       450 branch+extend+probe 0-1: Ab; branch 2",
        "  answered A after 450 tokens: correct; vote of all branches: A, correct",
    ]


def analyze_one(episodes: EpisodeLogs, k: int) -> ErrorAnalysis:
    """The analysis of a single episode."""
    return analyze_errors(
        replace(
            episodes,
            questions=episodes.questions[k : k + 1],
            orders=episodes.orders[k : k + 1],
            logs=episodes.logs[k : k + 1],
            failures={0: episodes.failures[k]} if k in episodes.failures else {},
        )
    )


# --- random episodes ------------------------------------------------------------------------------


def random_logs(random: Random) -> EpisodeLogs:
    store = random_store(random, costs=random.random() < 0.5)
    setting = random_config(random, [store])
    names = ("max_branches", "billing", "budget", "probe_tokens")
    config = EpisodeConfig(**{name: setting[name] for name in names})
    game = reference.Config([store], **{name: setting[name] for name in names})
    questions, orders, logs, failures = [], [], [], {}
    for k in range(random.randint(1, 5)):
        row = random.randrange(store.card.questions)
        count = len(game.questions[0][row].branches)
        order = random.sample(range(count), game.max_branches)
        episode = reference.Episode(game, 0, row, order, 0.0)
        log: list[int] = []
        for _ in range(random.randint(0, 80)):
            action = random_action(random, episode.mask)
            if not episode.done and episode.legal(action):
                episode.step(action)
                log.append(action)
        if not episode.done and random.random() < 0.8:
            episode.step(actions.ANSWER)
            log.append(actions.ANSWER)
        if not episode.done or random.random() < 0.1:
            failures[k] = random.choice(["SomeError: \x1b[1m\n" + "long " * 50, "Other"])
        questions.append(row)
        orders.append(order)
        logs.append(np.array(log, np.int32))
    return EpisodeLogs(
        "random", store, config, 0.25, np.array(questions), np.array(orders), logs, failures
    )


def reference_cause(episodes: EpisodeLogs, k: int) -> str:
    """The cause by playing the reference implementation and counting votes."""
    config, row, order = episodes.config, int(episodes.questions[k]), episodes.orders[k].tolist()
    question = episodes.store.question(row)
    ends = [question.branches[b].final for b in order]
    game = reference.Config(
        [episodes.store],
        max_branches=config.max_branches,
        billing=config.billing,
        budget=config.budget,
        probe_tokens=config.probe_tokens,
    )

    def replay(log: list[int]) -> dict[str, Any]:
        episode, info = reference.Episode(game, 0, row, order, 0.0), dict[str, Any]()
        for action in log:
            *_, info = episode.step(action)
        return info if episode.done else {}

    def wins(answers: list[str]) -> bool:
        counts = Counter(answers)
        return bool(answers) and max(counts, key=counts.__getitem__) == question.gold

    log = episodes.logs[k].tolist()
    info = replay(log)
    if not info or k in episodes.failures:
        return "failed"
    if info["correct"]:
        return "correct"
    if replay([*log[:-1], actions.ANSWER])["correct"]:
        return "overruled"
    done = [actions.decode(action, config.max_branches) for action in log]
    opened = range(sum(action.name == "BRANCH" for action in done))
    pruned = {action.branch for action in done if action.name == "PRUNE"}
    if wins([ends[i] for i in opened if i not in pruned]):
        return "early"
    if wins(ends[: len(opened)]):
        return "pruned"
    if wins(ends):
        return "narrow"
    return "outvoted" if question.gold in ends else "absent"


@settings(max_examples=150, deadline=None)
@given(st.randoms(use_true_random=False))
def test_random_episodes(random: Random) -> None:
    episodes = random_logs(random)
    analysis = analyze_errors(episodes)
    assert [CAUSES[c] for c in analysis.cause] == [
        reference_cause(episodes, k) for k in range(len(episodes.logs))
    ]
    diagnosis = diagnose([analysis])
    (row,) = diagnosis.rows
    assert sum(row.counts.values()) == row.episodes == len(episodes.logs)
    assert sum(row.shares.values()) == pytest.approx(1.0 if analysis.tokens.any() else 0.0)
    assert sum(d.tokens for d in row.difficulties) == pytest.approx(sum(row.shares.values()))
    assert sum(diagnosis.errors.values()) == len(episodes.failures)
    assert (analysis.settled <= analysis.tokens).all()
    assert_bounded(diagnosis.text())
    check_transcripts(format_transcripts([analysis]), [analysis])


def assert_bounded(text: str) -> None:
    for line in text.split("\n"):
        assert len(line) <= LINE_WIDTH
        assert line.isprintable()


def actions_in(line: str) -> Counter[str]:
    """The actions of a line of a transcript, by word."""
    text = line.split(None, 1)[1]
    if text.startswith("... "):
        pairs = (item.split() for item in text[4:].split(", "))
        return Counter({word: int(count) for count, word in pairs})
    counts: Counter[str] = Counter()
    for group in text.split("; "):
        done, branches, times, shown = re.fullmatch(
            r"((?:[a-z]+(?: x\d+)?\+?)+) ([\d,-]+|\d+ of \d+-\d+)(?: x(\d+))?(?:: (.+))?", group
        ).groups()  # type: ignore[union-attr]
        if " of " in branches:
            size = int(branches.split()[0])
        else:
            ends = [part.split("-") for part in branches.split(",")]
            size = sum(int(end[-1]) - int(end[0]) + 1 for end in ends)
        for part in done.split("+"):
            word, _, count = part.partition(" x")
            counts[word] += size * int(count or 1) * int(times or 1)
        letters = (shown or "").replace(" ", "")
        assert len(letters) == size * int(times or 1) * done.count("probe")
        assert re.fullmatch(r"[A-Za-z?_-]*", letters)
    return counts


def check_transcripts(text: str, analyses: list[ErrorAnalysis]) -> None:
    """The actions counted from the lines of an episode are those of its log."""
    assert_bounded(text)
    _, _, *lines = text.split("\n")
    assert len(lines) <= 9 * (MAX_ACTION_LINES + 2)
    logs = {
        tuple(sorted(Counter(actions.decode(a, n).name for a in log.tolist()).items()))
        for analysis in analyses
        for n in [analysis.episodes.config.max_branches]
        for log in analysis.episodes.logs
    }
    words = {"branch": "BRANCH", "extend": "CONTINUE", "probe": "PROBE", "prune": "PRUNE"}
    counts: Counter[str] = Counter()
    for line in lines:
        if line.startswith("β"):
            counts = Counter()
        elif line.startswith(("  answered", "  ended")):
            counted = {words[word]: count for word, count in counts.items()}
            endings = [tuple(sorted((counted | end).items())) for end in ({"ANSWER": 1}, {})]
            assert any(ending in logs for ending in endings)
        else:
            counts += actions_in(line)


# --- programs -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def played() -> list[ErrorAnalysis]:
    """A program on two environments at three β, whose transcripts need to be shortened."""
    analyses = []
    for seed in range(2):
        store = generate(questions=6, branches=64, seed=seed)
        rollout = TreeRollout(SearchSet({"made": store}), logs=True)
        questions = np.repeat(np.arange(6), 2)
        orders = branch_orders("random", np.tile(np.arange(2), 6), questions, store, 64)
        for beta in (0.0, 0.5, 1.0):
            result = rollout.play(seed_programs()["probing"], 0, questions, orders, beta)
            episodes = EpisodeLogs(
                f"made-{seed}",
                store,
                EpisodeConfig(),
                beta,
                questions,
                orders,
                result.logs,
                result.failures,
            )
            analysis = analyze_errors(episodes)
            assert np.array_equal(analysis.correct, result.correct)
            assert np.array_equal(analysis.tokens, result.tokens)
            analyses.append(analysis)
    return analyses


def test_diagnosis_of_a_program(played: list[ErrorAnalysis]) -> None:
    diagnosis = diagnose(played)
    assert [row.beta for row in diagnosis.rows] == [0.0, 0.5, 1.0]
    assert {row.episodes for row in diagnosis.rows} == {24}
    assert {sum(d.questions for d in row.difficulties) for row in diagnosis.rows} == {12}
    assert_bounded(diagnosis.text())
    text = format_transcripts(played)
    check_transcripts(text, played)
    assert format_transcripts(played) == text
    assert "..." in text
    # Letters replace answers: no text of an answer appears.
    body = "\n".join(line for line in text.split("\n") if not line.startswith("β"))
    for analysis in played:
        for answers in analysis.episodes.store.tables.answers:
            assert not [
                a for a in answers if len(a) > 3 and re.search(rf"\b{re.escape(a)}\b", body)
            ]


# Probes many branches in a row, so that their letters do not fit into a line.
WIDE = """
def solve(episode, beta):
    while episode.can_branch():
        episode.branch()
    for _ in range(2):
        episode.extend_all()
        episode.extend_all()
        episode.probe_all()
    for i in range(0, episode.opened, 3):
        episode.prune(i)
    episode.extend_all()
    for i in range(episode.opened - 1, 100, -1):
        if episode.can_probe(i):
            episode.probe(i)
    for _ in range(200):
        if episode.can_extend(1):
            episode.extend(1)
            episode.probe(1)
    episode.answer()
"""


def test_transcripts_of_a_wide_program(controller: Callable[..., Agent]) -> None:
    store, questions = generate(questions=2, branches=128, seed=3), np.arange(2)
    orders = branch_orders("random", np.zeros(2, np.int64), questions, store, 128)
    rollout = Rollout(controller(WIDE), store, EpisodeConfig(128), interpret=True, logs=True)
    result = rollout.play(questions, orders, 0.0)
    analysis = analyze_errors(
        EpisodeLogs("made", store, EpisodeConfig(128), 0.0, questions, orders, result.logs)
    )
    text = format_transcripts([analysis])
    check_transcripts(text, [analysis])
    assert "branch 0-127; extend x2 0-127" not in text  # in the order in which it was done
    assert "branch 0-127; extend 0-127 x2" in text


def test_no_episodes() -> None:
    with pytest.raises(ValueError, match="there are no episodes to diagnose"):
        diagnose([])
    nothing = EpisodeLogs(
        "tiny", STORE, EpisodeConfig(3), 0.0, np.empty(0, np.int64), np.empty((0, 3), np.int64), []
    )
    with pytest.raises(ValueError, match="there are no episodes to diagnose"):
        diagnose([analyze_errors(nothing)])
    assert len(format_transcripts([analyze_errors(nothing)]).split("\n")) == 2


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"logs": []}, "there are 0 logs for 1 episodes"),
        ({"orders": np.zeros((1, 2), np.int64)}, r"the shape \(1, 3\), got \(1, 2\)"),
        ({"questions": np.array([3])}, r"questions must be within 0\.\.2"),
        ({"orders": np.array([[0, 1, 3]])}, "only branches of their questions"),
        ({"failures": {1: "so"}}, "failures contains episode 1 of 1 episodes"),
        ({"logs": [np.array([1, -1], np.int32)]}, r"episode 0 has action -1, .* 0\.\.13"),
        ({"logs": [np.array([1, 14], np.int32)]}, r"episode 0 has action 14, .* 0\.\.13"),
        ({"logs": [np.ones(4, np.int32)]}, "the log of episode 0 opens 4 branches of 3"),
    ],
)
def test_inconsistent_logs_are_rejected(changed: dict[str, Any], message: str) -> None:
    episodes = EpisodeLogs(
        "tiny",
        STORE,
        EpisodeConfig(3),
        0.0,
        np.array([0]),
        np.array([[0, 1, 2]]),
        [np.array([1, 0], np.int32)],
    )
    with pytest.raises(ValueError, match=message):
        replace(episodes, **changed)
