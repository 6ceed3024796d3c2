"""Protections of a running episode's process, as the kernel reports them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.sandbox import namespaces
from autotts_gym.sandbox.lockdown import MissingProtectionError, missing, protections
from autotts_gym.sandbox.player import Sandbox

sys.path.insert(0, str(Path(__file__).parent))
from process_tree import episodes, status
from programs import HONEST, ORDERS, QUESTIONS, STORE, WIDTH, program

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
        _, *pipes = box._launcher.start(box._memory.readers[0])
        while not (found := episodes(box._launcher.pid)):
            pass
        child = Path(f"/proc/{found[0]}")
        facts = status(found[0])
        own = {name: (Path("/proc/self/ns") / name).readlink() for name in ("pid", "net", "ipc")}
        if "namespaces" in reported:
            assert all((child / "ns" / name).readlink() != own[name] for name in own)
            assert facts["NSpid"].split()[0] == str(found[0])
            assert int(facts["NSpid"].split()[1]) < 10
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
        assert limits["Max cpu time"] == "15"
        assert int(limits["Max address space"]) < 1 << 30
        assert len(list((child / "fd").iterdir())) == 5  # stdin, stdout, stderr, and two pipes
        assert (child / "cwd").readlink().name.endswith(" (deleted)")
        assert sorted((child / "environ").read_bytes().split(b"\0")) == [
            *(b"", b"GLIBC_TUNABLES=glibc.pthread.rseq=0", b"LD_BIND_NOW=1"),
            *(b"OPENBLAS_NUM_THREADS=1", b"PYTHONHASHSEED=0"),
        ]
        for pipe in pipes:
            os.close(pipe)


def test_names_of_protections() -> None:
    found = protections()
    assert found[:2] == ("a process for every episode", "resource limits")
    assert all(isinstance(one, str) for one in found)


def test_a_machine_that_lacks_a_protection_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespaces, "are_available", lambda: False)
    assert missing() == ("namespaces",)
    with pytest.raises(MissingProtectionError, match=r"lacks namespaces: .* pass --weaker-sandbox"):
        Sandbox(program(HONEST), STORE, EpisodeConfig(WIDTH))
    with Sandbox(program(HONEST), STORE, EpisodeConfig(WIDTH), weaker_sandbox=True) as box:
        assert box.play(QUESTIONS, ORDERS, 0.0).correct.all()


@pytest.mark.skipif(os.geteuid() != 0, reason="changes its user")
def test_namespaces_without_root() -> None:
    """Another user creates them in a user namespace, and keeps no rights in it."""
    done = subprocess.run(
        [sys.executable, "-S", "-c", AS_ANOTHER_USER.format(path=namespaces.__file__)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    if done.stdout.startswith("the system"):
        pytest.skip(done.stdout)
    assert done.stdout.split() == ["1", "1234", "1234", f"{0:016x}"]


AS_ANOTHER_USER = """
import importlib.util, os
spec = importlib.util.spec_from_file_location("namespaces", {path!r})
namespaces = importlib.util.module_from_spec(spec)
spec.loader.exec_module(namespaces)
os.setgroups([])
os.setgid(1234)
os.setuid(1234)
namespaces.ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # readable to itself, as a user's processes are
if not namespaces.enter():
    print("the system does not allow it")
elif os.fork():
    os.wait()
else:
    namespaces.drop_capabilities()
    facts = dict(line.split(":", 1) for line in open("/proc/self/status"))
    print(os.getpid(), os.getuid(), os.getgid(), facts["CapEff"].strip(), flush=True)
"""
