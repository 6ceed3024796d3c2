"""What an episode can learn of others, of their order, of the load, and before it looks."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autotts_gym.controllers.errors import AgentError
from autotts_gym.mdp.batch import EpisodeStart
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.sandbox import own_time_limits
from autotts_gym.sandbox.lockdown import missing
from autotts_gym.sandbox.player import Sandbox
from autotts_gym.sandbox.untrusted_agent import untrusted_from_source
from autotts_gym.traces.store import Branch, Question, TraceStore

sys.path.insert(0, str(Path(__file__).parent))
from programs import HONEST, ORDERS, QUESTIONS, STORE, WIDTH, program

needs_all = pytest.mark.skipif(bool(missing()), reason=f"this machine lacks {missing()}")


# --- the order of episodes ----------------------------------------------------------------------


def test_episodes_start_in_a_random_order() -> None:
    questions, orders = np.tile(QUESTIONS, 10), np.tile(ORDERS, (10, 1))
    with Sandbox(program(HONEST), STORE, EpisodeConfig(WIDTH), parallel_episodes=3) as box:
        started: list[list[int]] = []
        reset = box._batch.reset

        def record(slots: Sequence[int], starts: Sequence[EpisodeStart]) -> None:
            started[-1] += [start.question for start in starts]
            reset(slots, starts)

        box._batch.reset = record  # type: ignore[method-assign]
        for _ in range(2):
            started.append([])
            played = box.play(questions, orders, 0.0)
            assert played.probes.tolist() == (questions + 1).tolist()
    assert sorted(started[0]) == sorted(started[1]) == sorted(questions)
    assert started[0] != started[1]
    assert started[0] != questions.tolist()


# --- what can be read before the first action ---------------------------------------------------

#: All that a process has been given: sizes of memory, and the content of its slot.
FACTS = """
def solve(episode):
    env = episode._env
    slot = bytes(env._slot)
    facts = len(slot), hash(slot), repr(env._layout), episode.depth_limit
    raise ValueError(repr(facts))
"""


def store(answers: Sequence[str], gold: str) -> TraceStore:
    """Of one question, with branches of the same lengths, other answers and other confidences."""
    branches = [
        Branch(
            [answer] * 3,
            350,
            answer,
            confidence_sums=[100.0 * len(answer)] * 4,
            confidence_tokens=[len(answer)] * 4 if len(answer) < 50 else [100, 100, 100, 50],
        )
        for answer in answers
    ]
    return TraceStore.from_branches([Question("q", gold, branches)], 100)


def test_nothing_differs_before_the_first_action() -> None:
    stores = store(["7"] * 6, "7"), store([f"{k}" * 500 for k in range(6)], "8")
    found = []
    for one in stores:
        with Sandbox(program(FACTS), one, EpisodeConfig(6)) as box:
            found.append(box.play(np.zeros(1, np.int64), np.arange(6)[None], 0.0).failures[0])
    assert found[0].startswith("ValueError: (")
    assert found[0] == found[1]


# --- time ---------------------------------------------------------------------------------------


def steps_of(seconds: float) -> int:
    """Number of steps of an empty loop in that much processor time."""
    steps, started = 1_000_000, time.process_time()
    for _ in range(steps):
        pass
    return int(seconds * steps / (time.process_time() - started))


@pytest.mark.slow
def test_waiting_for_a_processor_does_not_count() -> None:
    """Twelve episodes on these processors take longer than the limit, but none alone does."""
    parallel = 12 * (os.cpu_count() or 1)
    text = (
        f"def solve(episode):\n    for _ in range({steps_of(0.25)}): pass\n    episode.answer()\n"
    )
    questions, orders = np.zeros(parallel, np.int64), np.tile(ORDERS[:1], (parallel, 1))
    with Sandbox(
        program(text), STORE, EpisodeConfig(WIDTH), parallel_episodes=parallel, time_limit=1.5
    ) as box:
        started = time.monotonic()
        assert not box.play(questions, orders, 0.0).failures
        assert time.monotonic() - started > 1.5


def test_the_limit_is_for_the_whole_episode() -> None:
    """Work between actions adds up."""
    work = f"for _ in range({steps_of(0.2)}): pass"
    text = f"""
def solve(episode):
    for i in range(2):
        episode.branch()
        while not episode.probe(i)[1]:
            episode.extend(i)
            {work}
    episode.answer()
"""
    deep = TraceStore.from_branches([Question("q", "1", [Branch(["1"] * 60, 6050, "1")] * 2)], 100)
    with Sandbox(program(text), deep, EpisodeConfig(WIDTH), time_limit=1.0) as box:
        played = box.play(np.zeros(1, np.int64), ORDERS[:1], 0.0)
    assert played.failures[0] == "TimeLimitError: no end after 1 s"
    assert played.probes[0] < 25  # about 5 of 0.2 s, on a machine that is not much slower now


@pytest.mark.slow
@needs_all
def test_an_episode_that_waits_for_nothing_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads an outcome without having acted, the only way to sleep that is left."""
    monkeypatch.setattr(own_time_limits, "_STUCK", 1.0)
    text = """
def solve(episode):
    type(episode).probe_all.__globals__["os"].sys.modules["posix"].read(3, 1)
"""
    with Sandbox(program(text), STORE, EpisodeConfig(WIDTH)) as box:
        played = box.play(QUESTIONS[:1], ORDERS[:1], 0.0)
    assert played.failures[0].startswith("TimeLimitError")


@needs_all
@pytest.mark.parametrize(
    "reading",
    ["monotonic()", "perf_counter()", "time()", "process_time()", "clock_gettime(6)"],
)
def test_programs_have_no_clock(reading: str) -> None:
    """Not even the pages that the kernel maps, from which the C library reads without a call."""
    text = f"""
def solve(episode):
    time = type(episode).probe_all.__globals__["os"].sys.modules["builtins"].__import__("time")
    before = time.{reading}
    for _ in range({steps_of(0.1)}): pass
    raise ValueError(repr(time.{reading} - before))
"""
    with Sandbox(program(text), STORE, EpisodeConfig(WIDTH)) as box:
        failure = box.play(QUESTIONS[:1], ORDERS[:1], 0.0).failures[0]
    assert re.fullmatch(r"ValueError: 0(\.0)?|(PermissionError|OSError|RuntimeError): .*", failure)


# --- chance -------------------------------------------------------------------------------------


def test_sets_have_the_same_order_in_every_sandbox() -> None:
    text = 'def solve(episode):\n    raise ValueError("".join({str(k) for k in range(50)}))\n'

    def order() -> Any:
        with Sandbox(program(text), STORE, EpisodeConfig(WIDTH)) as box:
            return box.play(QUESTIONS[:2], ORDERS[:2], 0.0).failures

    assert order() == order()


# --- the text that runs -------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-7", "latin-1", "rot13", "unicode_escape"])
def test_another_encoding_is_refused(encoding: str) -> None:
    """In UTF-7, ``+AAo-`` is a line break: the comment would contain a second program."""
    text = f"# coding: {encoding}\n# +AAo-import os\n{HONEST}"
    with pytest.raises(AgentError, match=r"encoding|UTF-8"):
        untrusted_from_source(Path("program.py"), text.encode())


@pytest.mark.parametrize("source", [b"\xef\xbb\xbf", b"# coding: utf8\n", b"# coding: UTF-8\n"])
def test_utf_8_is_played(source: bytes) -> None:
    agent = untrusted_from_source(Path("program.py"), source + HONEST.encode())
    with Sandbox(agent, STORE, EpisodeConfig(WIDTH)) as box:
        assert box.play(QUESTIONS, ORDERS, 0.0).correct.all()
