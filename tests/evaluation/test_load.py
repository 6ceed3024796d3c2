"""A benchmark on a busy machine writes the same files as on an idle one."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

#: Plain Python, since compiled code has no functions as values.
PLAIN = """
def solve(episode, beta):
    rules = [lambda votes: votes >= 3]
    while episode.can_branch():
        i = episode.branch()
        while not episode.probe(i)[1]:
            episode.extend(i)
        if any(rule(episode.opened) for rule in rules):
            break
    episode.answer()
"""


@contextlib.contextmanager
def busy_loops(count: int) -> Iterator[None]:
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def written(folder: Path, *arguments: str) -> dict[str, bytes]:
    """The files that a benchmark writes, without plots and cached cells."""
    command = [sys.executable, "-m", "autotts_gym", "benchmark", *arguments, "--out", str(folder)]
    command += ["--env", "tinylm/medium/chain", "--beta", "0.25,0.75", "--seeds", "0-1"]
    # Each episode takes a few milliseconds, and each batch of the policy more than the limit.
    subprocess.run([*command, "--time-limit", "1"], check=True, capture_output=True)
    names = ("episodes.parquet", "summary.csv", "benchmark.json")
    return {name: (folder / name).read_bytes() for name in names}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the platform does not tell own time")
@pytest.mark.parametrize(
    "arguments", [("cmc", "ppo/chain", "plain.py"), ("plain.py", "--untrusted")], ids=" ".join
)
def test_load_does_not_change_results(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plain.py").write_text(PLAIN, "utf-8")
    alone = written(tmp_path / "alone", *arguments)
    with busy_loops(4):
        beside = written(tmp_path / "beside", *arguments)
    assert beside == alone
