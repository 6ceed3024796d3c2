"""Processor time of another process, on a machine that others use as well."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from autotts_gym.utils.cpu_time import process_cpu_time, waited_for_cpu

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux clocks")

BURN = "import time\nwhile time.process_time() < {seconds}: pass\nprint(flush=True)\ninput()"


def test_work_counts_and_sleep_does_not() -> None:
    with subprocess.Popen(
        [sys.executable, "-S", "-c", BURN.format(seconds=0.3)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
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


def test_waiting_for_a_processor_is_told_from_sleep() -> None:
    """Two processes on one processor: what one waits is what the other works."""
    core = {min(os.sched_getaffinity(0))}
    command = [sys.executable, "-S", "-c", BURN.format(seconds=0.4)]
    pinned = f"import os; os.sched_setaffinity(0, {core}); os.execv({command[0]!r}, {command})"
    processes = [
        subprocess.Popen(
            [sys.executable, "-S", "-c", pinned], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    waited = [waited_for_cpu(process.pid) for process in processes]
    for process in processes:
        process.communicate()
    if None in waited:
        pytest.skip("the kernel does not record it")
    assert max(one for one in waited if one is not None) > 0.2


def test_no_such_process() -> None:
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    assert process_cpu_time(process.pid) is None
    assert waited_for_cpu(process.pid) is None
