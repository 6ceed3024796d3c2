"""The compiled loop, with pipes that the test writes and reads itself."""

from __future__ import annotations

import contextlib
import os
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from autotts_gym.mdp import actions
from autotts_gym.mdp.batch import ILLEGAL, TERMINATED, Batch, EpisodeStart
from autotts_gym.mdp.trace_dataset import EpisodeConfig, TraceDataset
from autotts_gym.sandbox import guest, memory_layout
from autotts_gym.sandbox.event_loop import ANSWERS, NEWS, NOTHING, REFUSED, Service
from autotts_gym.sandbox.memory_layout import Layout
from autotts_gym.sandbox.shared_memory import Memory

sys.path.insert(0, str(Path(__file__).parent))
from programs import ORDERS, QUESTIONS, STORE, WIDTH

COUNT = 3
PROBE, EXTEND = (2 + block * WIDTH for block in (actions.PROBE, actions.CONTINUE))


class Served:
    """Some episodes, and the ends of their pipes that a program would have."""

    def __init__(self) -> None:
        replay, terms = TraceDataset({"store": STORE}), EpisodeConfig(WIDTH)
        layout = Layout(WIDTH, replay.classes, 100, confidences=False)
        self.memory = Memory(layout, COUNT)
        self.batch = Batch(
            replay, terms, COUNT, 1, layout.classes + 1, False, 0.0, self.memory.view
        )
        self.service = Service(self.batch, self.memory)
        self.ends: list[int] = []
        self.pipes: list[tuple[int, int]] = []
        some = range(COUNT)
        self.batch.reset(some, [EpisodeStart(int(QUESTIONS[k]), 0.5, ORDERS[k]) for k in some])
        self.memory.begin(some, self.batch.ledger)
        for slot in some:
            listening, telling = os.pipe()
            hearing, speaking = os.pipe()
            os.set_blocking(telling, False)
            self.ends += [listening, telling, hearing, speaking]
            self.pipes.append((listening, speaking))
            self.service.begin(slot, hearing, telling)

    def say(self, slot: int, *words: int, text: bytes = b"") -> None:
        os.write(self.pipes[slot][1], struct.pack(f"={len(words)}i", *words) + text)

    def told(self, slot: int) -> int:
        return os.read(self.pipes[slot][0], 1)[0]

    def frame(self, slot: int) -> bytes:
        return self.service.traffic.queues[slot].tobytes()[: self.service.traffic.sizes[slot]]

    def close(self) -> None:
        self.memory.close()
        for end in self.ends:
            with contextlib.suppress(OSError):  # a test has closed it
                os.close(end)


@pytest.fixture
def served() -> Iterator[Served]:
    one = Served()
    yield one
    one.close()


def test_actions_are_played_shown_told_and_written_down(served: Served) -> None:
    served.say(0, actions.BRANCH, EXTEND)
    served.say(2, actions.BRANCH + actions.BY_TOKENS)
    assert served.service.serve(0.01) == 0
    assert served.told(0) == served.told(2) == 0
    assert served.service.log(0).tolist() == [actions.BRANCH, EXTEND]
    assert served.service.log(1).tolist() == []
    assert served.service.log(2).tolist() == [actions.BRANCH]
    assert served.memory.facts[:, memory_layout.SPENT].tolist() == [200, 0, 100]
    assert served.batch.ledger["opened"].tolist() == [1, 0, 1]


def test_an_answer_that_is_new_is_told_after_its_text(served: Served) -> None:
    served.say(1, actions.BRANCH, PROBE)
    assert served.service.serve(1.0) == ANSWERS
    os.set_blocking(served.pipes[1][0], False)
    with pytest.raises(BlockingIOError):
        served.told(1)
    served.memory.reveal(served.batch)
    assert served.service.serve(0.0) == 0
    assert served.told(1) == 0
    served.say(1, actions.ANSWER)
    assert served.service.serve(0.01) == 0  # its text is there: nothing to wait for
    assert served.told(1) == TERMINATED


def test_what_is_no_action_is_left_to_the_caller(served: Served) -> None:
    served.say(0, guest.FAILED, text=b"KeyError: 'x'")
    served.say(1, guest.DONE)
    served.say(2, actions.BRANCH)
    assert served.service.serve(1.0) == NEWS
    assert served.service.traffic.sizes.tolist() == [17, 4, NOTHING]
    assert served.frame(0) == struct.pack("=i", guest.FAILED) + b"KeyError: 'x'"
    assert served.told(2) == 0  # others do not wait for it


@pytest.mark.parametrize("action", [EXTEND, actions.count(WIDTH), 1 << 30])
def test_an_illegal_action_is_refused(served: Served, action: int) -> None:
    served.say(0, actions.BRANCH, actions.BRANCH, actions.BRANCH if action == EXTEND else action)
    assert served.service.serve(1.0) == NEWS
    assert served.service.traffic.sizes[0] == REFUSED
    assert served.service.traffic.counts[0] == 2
    assert served.batch.outcomes[0] & ILLEGAL
    assert served.service.log(0).tolist() == [actions.BRANCH] * 2


def test_a_process_that_is_gone(served: Served) -> None:
    os.close(served.pipes[1][1])
    assert served.service.serve(1.0) == NEWS
    assert served.service.traffic.sizes.tolist() == [NOTHING, 0, NOTHING]
    served.service.leave(1)
    assert served.service.serve(0.0) == 0  # nobody listens there any more


def test_who_does_not_read_is_not_waited_for(served: Served) -> None:
    served.say(0, actions.BRANCH)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(served.ends[1], bytes(1 << 16))
    assert served.service.serve(1.0) == NEWS
    assert served.service.traffic.sizes[0] == 0


def test_the_longest_frame(served: Served) -> None:
    """As many actions as a pipe takes at once, most of them one too many."""
    served.say(0, *[actions.BRANCH] * (guest.FRAME // 4))
    assert served.service.serve(1.0) == NEWS
    assert (served.service.traffic.counts[0], served.service.traffic.sizes[0]) == (WIDTH, REFUSED)


def test_it_comes_back_when_nothing_comes(served: Served) -> None:
    began = time.monotonic()
    assert served.service.serve(0.2) == 0
    assert time.monotonic() - began >= 0.2
