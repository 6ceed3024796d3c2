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


def test_in_a_daemon_process() -> None:
    assert "this is a daemon process" in run(DAEMON.format(call=BENCHMARK), from_stdin=False)


def test_in_a_script_from_standard_input() -> None:
    assert "came from standard input: save it as a file" in run(BENCHMARK, from_stdin=True)
    assert "standard input" not in run(BENCHMARK, from_stdin=False)


@pytest.mark.slow
def test_answers_are_compared_in_any_process() -> None:
    """Those that math-verify compares need a child process, which any process can start."""
    call = "from autotts_gym import grade; verdict = grade(r'\\sum_{{k=1}}^{{3}} k', '6'); {use}"
    daemon = DAEMON.format(call=call.format(use="pipe.send(str(verdict))"))
    assert run(daemon, from_stdin=False).strip() == "True"
    assert run(call.format(use="print(verdict)"), from_stdin=True).strip() == "True"
