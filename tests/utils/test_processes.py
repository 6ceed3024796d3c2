"""Where processes cannot be started, the reason is named."""

from __future__ import annotations

import subprocess
import sys

import pytest

DAEMON = """
import multiprocessing

def work(pipe):
    try:
        {call}
    except RuntimeError as error:
        pipe.send(str(error))

if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs,), daemon=True)
    process.start()
    print(ours.recv())
    process.join()
"""

MERGE = (
    "from autotts_gym.inference.comparison_pool import merge_in_processes; "
    "list(merge_in_processes([], [], 1, 1.0))"
)
BENCHMARK = (
    "from autotts_gym.evaluation.backends.subprocess_worker import SubprocessWorker; "
    "SubprocessWorker()"
)


def run(source: str, *, from_stdin: bool) -> str:
    command = [sys.executable, "-"] if from_stdin else [sys.executable, "-c", source]
    done = subprocess.run(
        command, input=source, capture_output=True, text=True, timeout=120, check=False
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("call", [MERGE, BENCHMARK])
def test_in_a_daemon_process(call: str) -> None:
    assert "this is a daemon process" in run(DAEMON.format(call=call), from_stdin=False)


@pytest.mark.parametrize("call", [MERGE, BENCHMARK])
def test_in_a_script_from_standard_input(call: str) -> None:
    assert "came from standard input: save it as a file" in run(call, from_stdin=True)
    assert "standard input" not in run(call, from_stdin=False)
