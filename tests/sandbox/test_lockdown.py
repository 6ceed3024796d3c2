"""What locks a process in, asked of the process itself."""

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

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

HANG = "def solve(episode):\n    while True: pass\n"


def test_what_is_said_to_be_on_is_on() -> None:
    """Read while an episode runs, from outside."""
    said = " ".join(protections())
    with Sandbox(program(HANG), STORE, EpisodeConfig(WIDTH), abreast=1, memory=1 << 28) as box:
        box.play(QUESTIONS[:0], ORDERS[:0], 0.0)
        assert box._zygote is not None
        zygote = box._zygote._process.pid
        pipes = box._zygote.start(0)
        child = None
        while child is None or status(child).get("Seccomp") != "2" * ("seccomp" in said):
            child = next((p for p in Path("/proc").iterdir() if of(p) == zygote), None)
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
        assert len(list((child / "fd").iterdir())) == 5  # nothing, thrice, and two pipes
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


def test_they_are_named() -> None:
    found = protections()
    assert found[:2] == ("a process for every episode", "resource limits")
    assert all(isinstance(one, str) for one in found)
