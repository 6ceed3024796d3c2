"""Processor time of another process, on a machine that others use as well."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from autotts_gym.utils.cpu_time import OwnTime, is_asleep, process_cpu_time

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux clocks")

BURN = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ninput()"


def burning() -> subprocess.Popen[bytes]:
    """A process that computes for 0.3 s, prints a line, and waits for its input to end."""
    command = [sys.executable, "-S", "-c", BURN]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_work_counts_and_sleep_does_not() -> None:
    with burning() as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.05)  # until it waits
        used = process_cpu_time(process.pid)
        assert used is not None
        assert used >= 0.3
        time.sleep(0.5)
        assert process_cpu_time(process.pid) == used
        process.stdin.close()


def test_waiting_for_a_processor_is_no_sleep() -> None:
    """Two processes on one processor: one runs, one waits, and neither sleeps."""
    core = {min(os.sched_getaffinity(0))}
    command = [sys.executable, "-S", "-c", "while True: pass"]
    pinned = f"import os; os.sched_setaffinity(0, {core}); os.execv({command[0]!r}, {command})"
    processes = [subprocess.Popen([sys.executable, "-S", "-c", pinned]) for _ in range(2)]
    deadline = time.monotonic() + 60
    used = [0.0, 0.0]
    while min(used) < 0.2 and time.monotonic() < deadline:  # both have begun their loops
        time.sleep(0.05)
        used = [process_cpu_time(process.pid) or 0.0 for process in processes]
    asleep = [is_asleep(process.pid) for process in processes for _ in range(5)]
    for process in processes:
        process.kill()
        process.wait()
    assert asleep == [False] * 10


def test_no_such_process() -> None:
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    assert process_cpu_time(process.pid) is None
    assert is_asleep(process.pid) is None


def test_own_time_is_computing_and_sleeping() -> None:
    with burning() as process:
        assert process.stdin is not None
        assert process.stdout is not None
        own_time = OwnTime(process.pid, max_gap=60.0)
        process.stdout.readline()
        assert own_time.read() > 0.2
        time.sleep(0.05)  # until it waits
        own_time.reset()
        started = time.monotonic()
        for _ in range(30):
            time.sleep(0.01)
            own_time.read()
        assert 0.2 < own_time.read() <= time.monotonic() - started
        process.stdin.close()


def test_a_suspended_watcher_counts_one_gap_at_most() -> None:
    with subprocess.Popen(
        [sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        own_time = OwnTime(process.pid, max_gap=0.1)
        time.sleep(0.5)
        computed = process_cpu_time(process.pid)
        assert computed is not None
        assert own_time.read() <= 0.1 + computed
        process.communicate(b"\n")
