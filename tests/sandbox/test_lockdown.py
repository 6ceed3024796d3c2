"""Protections of a running episode's process, as the kernel reports them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.sandbox.lockdown import protections
from autotts_gym.sandbox.player import Sandbox

sys.path.insert(0, str(Path(__file__).parent))
from programs import ORDERS, QUESTIONS, STORE, WIDTH, program

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

HANG = "def solve(episode):\n    while True: pass\n"


def test_reported_protections_are_active() -> None:
    """Read from another process while an episode runs."""
    reported = " ".join(protections())
    with Sandbox(
        program(HANG), STORE, EpisodeConfig(WIDTH), parallel_episodes=1, memory=1 << 28
    ) as box:
        box.play(QUESTIONS[:0], ORDERS[:0], 0.0)
        assert box._launcher is not None
        forkserver = box._launcher.pid
        pipes = box._launcher.start(0)
        child = None
        while child is None or status(child).get("Seccomp") != "2" * ("seccomp" in reported):
            child = next((p for p in Path("/proc").iterdir() if of(p) == forkserver), None)
        facts = status(child)
        assert facts["NoNewPrivs"] == "1"
        assert facts["Uid"].split()[0] != "0"
        assert facts["Gid"].split()[0] != "0"
        assert facts["CapEff"].strip("0") == ""
        assert facts["Threads"] == "1"
        limits = {
            line[:26].strip(): line[26:].split()[0]
            for line in (child / "limits").read_text().splitlines()
        }
        assert limits["Max file size"] == "0"
        assert limits["Max processes"] == "0"
        assert limits["Max cpu time"] == "11"
        assert int(limits["Max address space"]) < 1 << 30
        assert len(list((child / "fd").iterdir())) == 5  # stdin, stdout, stderr, and two pipes
        assert (child / "cwd").readlink().name.endswith(" (deleted)")
        assert (child / "environ").read_bytes() == b"OPENBLAS_NUM_THREADS=1\0"
        for pipe in pipes:
            os.close(pipe)


def of(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return -1


def status(process: Path) -> dict[str, str]:
    lines = (process / "status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_names_of_protections() -> None:
    found = protections()
    assert found[:2] == ("a process for every episode", "resource limits")
    assert all(isinstance(one, str) for one in found)
