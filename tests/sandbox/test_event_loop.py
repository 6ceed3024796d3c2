"""The compiled event loop, with a test at the other ends of the pipes."""

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
from autotts_gym.sandbox import memory_layout
from autotts_gym.sandbox.answer_texts import encode_answers
from autotts_gym.sandbox.event_loop import (
    MESSAGES,
    NO_MESSAGE,
    REFUSED,
    WATCHED,
    EventLoop,
)
from autotts_gym.sandbox.memory_layout import Layout
from autotts_gym.sandbox.pipe_protocol import DONE, FAILED, MAX_FRAME_ACTIONS
from autotts_gym.sandbox.shared_memory import SlotMemory

sys.path.insert(0, str(Path(__file__).parent))
from programs import ORDERS, QUESTIONS, STORE, WIDTH

COUNT = 3
PROBE, EXTEND = (2 + block * WIDTH for block in (actions.PROBE, actions.CONTINUE))


class Harness:
    """Some episodes, and the programs' ends of their pipes."""

    def __init__(self) -> None:
        dataset, config = TraceDataset({"store": STORE}), EpisodeConfig(WIDTH)
        layout = Layout(WIDTH, dataset.depth, confidences=False, generation_confidences=False)
        self.memory = SlotMemory(layout, COUNT)
        self.batch = Batch(dataset, config, COUNT, 1, dataset.classes + 1, False, 0.0)
        self.loop = EventLoop(self.batch, self.memory, encode_answers(dataset))
        self.ends: list[int] = []
        self.pipes: list[tuple[int, int]] = []
        some = range(COUNT)
        self.batch.reset(some, [EpisodeStart(int(QUESTIONS[k]), 0.5, ORDERS[k]) for k in some])
        self.memory.begin(some, self.batch.ledger)
        self.loop.publish(some)
        for slot in some:
            guest_input, our_output = os.pipe()
            our_input, guest_output = os.pipe()
            os.set_blocking(our_output, False)
            self.ends += [guest_input, our_output, our_input, guest_output]
            self.pipes.append((guest_input, guest_output))
            self.loop.add(slot, our_input, our_output)

    def send(self, slot: int, *codes: int, text: bytes = b"") -> None:
        os.write(self.pipes[slot][1], struct.pack(f"={len(codes)}i", *codes) + text)

    def outcome(self, slot: int) -> int:
        return os.read(self.pipes[slot][0], 1)[0]

    def frame(self, slot: int) -> bytes:
        return self.loop.pipes.queues[slot].tobytes()[: self.loop.pipes.sizes[slot]]

    def close(self) -> None:
        self.memory.close()
        for end in self.ends:
            with contextlib.suppress(OSError):  # closed by the test
                os.close(end)


@pytest.fixture
def harness() -> Iterator[Harness]:
    harness = Harness()
    yield harness
    harness.close()


def test_actions_are_played_and_logged(harness: Harness) -> None:
    harness.send(0, actions.BRANCH, EXTEND)
    harness.send(2, actions.BRANCH + actions.BY_TOKENS)
    assert harness.loop.run(0.01) == 0
    assert harness.outcome(0) == harness.outcome(2) == 0
    assert harness.loop.log(0).tolist() == [actions.BRANCH, EXTEND]
    assert harness.loop.log(1).tolist() == []
    assert harness.loop.log(2).tolist() == [actions.BRANCH]
    assert harness.memory.attributes[:, memory_layout.SPENT].tolist() == [200, 0, 100]
    assert harness.batch.ledger["opened"].tolist() == [1, 0, 1]


def test_texts_of_new_answers_come_before_the_outcome(harness: Harness) -> None:
    memory, layout = harness.memory, harness.memory.layout
    harness.send(1, actions.BRANCH, PROBE)
    assert harness.loop.run(0.01) == 0
    assert harness.outcome(1) == 0
    text = harness.batch.answer_text(1, 0).encode()
    assert bytes(memory.texts[1, : len(text) + 1]) == text + b"\0"
    assert memory.words[1, layout.ends : layout.ends + 2].tolist() == [len(text), -1]
    assert memory.revealed.tolist() == [0, 1, 0]
    assert not memory.texts[[0, 2], :64].any()
    harness.send(1, actions.ANSWER)
    assert harness.loop.run(0.01) == 0
    assert harness.outcome(1) == TERMINATED


def test_a_watched_descriptor_ends_the_call(harness: Harness) -> None:
    reader, writer = os.pipe()
    harness.ends += [reader, writer]
    harness.loop.watch(reader)
    os.write(writer, b".")
    harness.send(0, actions.BRANCH)
    assert harness.loop.run(10.0) == WATCHED
    assert harness.outcome(0) == 0  # the episodes continue
    harness.loop.watch(-1)
    assert harness.loop.run(0.0) == 0


def test_messages_are_left_to_the_caller(harness: Harness) -> None:
    harness.send(0, FAILED, text=b"KeyError: 'x'")
    harness.send(1, DONE)
    harness.send(2, actions.BRANCH)
    assert harness.loop.run(1.0) == MESSAGES
    assert harness.loop.pipes.sizes.tolist() == [17, 4, NO_MESSAGE]
    assert harness.frame(0) == struct.pack("=i", FAILED) + b"KeyError: 'x'"
    assert harness.outcome(2) == 0  # other episodes continue


@pytest.mark.parametrize("action", [EXTEND, actions.count(WIDTH), 1 << 30])
def test_an_illegal_action_is_refused(harness: Harness, action: int) -> None:
    harness.send(0, actions.BRANCH, actions.BRANCH, actions.BRANCH if action == EXTEND else action)
    assert harness.loop.run(1.0) == MESSAGES
    assert harness.loop.pipes.sizes[0] == REFUSED
    assert harness.loop.pipes.counts[0] == 2
    assert harness.batch.outcomes[0] & ILLEGAL
    assert harness.loop.log(0).tolist() == [actions.BRANCH] * 2


def test_a_process_that_has_ended(harness: Harness) -> None:
    os.close(harness.pipes[1][1])
    assert harness.loop.run(1.0) == MESSAGES
    assert harness.loop.pipes.sizes.tolist() == [NO_MESSAGE, 0, NO_MESSAGE]
    harness.loop.remove(1)
    assert harness.loop.run(0.0) == 0  # the slot is no longer served


def test_a_process_that_does_not_read(harness: Harness) -> None:
    harness.send(0, actions.BRANCH)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(harness.ends[1], bytes(1 << 16))
    assert harness.loop.run(1.0) == MESSAGES
    assert harness.loop.pipes.sizes[0] == 0


def test_the_longest_frame(harness: Harness) -> None:
    """As many actions as a frame can hold; all after the first few are illegal."""
    harness.send(0, *[actions.BRANCH] * (MAX_FRAME_ACTIONS))
    assert harness.loop.run(1.0) == MESSAGES
    assert (harness.loop.pipes.counts[0], harness.loop.pipes.sizes[0]) == (WIDTH, REFUSED)


def test_timeout(harness: Harness) -> None:
    began = time.monotonic()
    assert harness.loop.run(0.2) == 0
    assert time.monotonic() - began >= 0.2
