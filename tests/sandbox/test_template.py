"""What an episode's process inherits is the same for all episodes."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from autotts_gym.mdp.batch import EpisodeStart
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.sandbox.lockdown import missing
from autotts_gym.sandbox.player import Sandbox

sys.path.insert(0, str(Path(__file__).parent))
from process_tree import episodes
from programs import ORDERS, QUESTIONS, STORE, WIDTH, program

pytestmark = [
    pytest.mark.skipif(bool(missing()), reason=f"this machine lacks {', '.join(missing())}"),
    pytest.mark.skipif(os.geteuid() != 0, reason="reads the memory of other processes"),
]

#: Waits for an outcome that never comes: the process stops at the same place in every episode.
STOPS = """
import functools, random, dataclasses

def solve(episode):
    type(episode).probe_all.__globals__["os"].sys.modules["posix"].read(3, 1)
"""


def image(pid: int) -> dict[str, bytes]:
    """All memory that a process can write, by address; and all its mappings, as empty entries."""
    parts = {}
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            addresses, rights = line.split()[:2]
            start, end = (int(part, 16) for part in addresses.split("-"))
            parts[f"{addresses} {rights}"] = b""
            if "w" in rights:
                memory.seek(start)
                parts[f"{addresses} {rights}"] = memory.read(end - start)
    return parts


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/syscall").read_text().split()[:2] == ["0", "0x3"]


def differences(one: dict[str, bytes], other: dict[str, bytes]) -> list[str]:
    """Descriptions of the words in which two images differ."""
    found = [f"mapping {name}" for name in set(one) ^ set(other)]
    for name in set(one) & set(other):
        a, b = one[name], other[name]
        start = int(name.split("-")[0], 16)
        if a != b:
            found += [
                f"{start + k:#x} {name}: {a[k : k + 8].hex()} {b[k : k + 8].hex()}"
                for k in range(0, len(a), 8)
                if a[k : k + 8] != b[k : k + 8]
            ]
    return found


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="knows its system calls")
def test_the_memory_says_nothing_of_earlier_episodes() -> None:
    """Of the 1st, the 2nd, the 30th and the 31st episode, all of the same question."""
    with Sandbox(program(STOPS), STORE, EpisodeConfig(WIDTH), parallel_episodes=2) as box:
        box.play(QUESTIONS[:0], ORDERS[:0], 0.5)
        launcher = box._launcher
        assert launcher is not None
        images = []
        for number in range(31):
            slot = number % 2
            box._batch.reset([slot], [EpisodeStart(3, 0.5, ORDERS[0])])
            box._memory.begin([slot], box._batch.ledger)
            box._event_loop.publish([slot])
            started, *pipes = launcher.start(box._memory.readers[slot])
            if number in (0, 1, 29, 30):
                while not (found := episodes(launcher.pid)) or not is_stopped(found[0]):
                    time.sleep(0.01)
                images.append(image(found[0]))
            launcher.end(started)
            for pipe in pipes:
                os.close(pipe)
    assert len(images[0]) > 20
    for other in images[1:]:
        found_differences = differences(images[0], other)
        assert not found_differences, f"{len(found_differences)}: {found_differences[:20]}"
