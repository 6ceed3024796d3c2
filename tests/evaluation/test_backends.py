"""Execution backends: equal results, and programs that hang or crash."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from autotts_gym.controllers.agent import Agent
from autotts_gym.controllers.errors import GivenUpError
from autotts_gym.controllers.loader import load
from autotts_gym.evaluation import backends
from autotts_gym.evaluation.backends import (
    InProcessWorker,
    Job,
    JobResult,
    SubprocessWorker,
    WorkerPool,
    worker_process,
)
from autotts_gym.evaluation.benchmark import run
from autotts_gym.evaluation.runs import IncompleteRun, Run, write_episodes
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.episode_results import EpisodeResults
from autotts_gym.traces.store import Branch, Question, TraceStore

#: Long enough for a normal episode on a busy machine.
LIMIT = 3.0

#: One branch per question, of 100 tokens plus the row of the question.
STORE = TraceStore.from_branches(
    [Question("?", "7", [Branch([], 100 + row, "7")]) for row in range(4)], 500
)
TERMS = EpisodeConfig(max_branches=1)


def job(agent: Agent, seeds: tuple[int, ...] = (0, 1), interpret: bool = True) -> Job:
    """A job that runs as plain Python by default, since compiling takes longer."""
    return Job(agent, 0.0, STORE, TERMS, "random", seeds, interpret)


def program(fault: str, where: str = "episode.spent == 102", before: str = "") -> str:
    """A controller that executes ``fault`` on question 2, or where ``where`` is true."""
    return (
        f"{before}\n"
        "def solve(episode):\n"
        "    episode.branch()\n"
        "    episode.probe(0)\n"
        f"    if {where}:\n"
        f"        {fault}\n"
        "    return episode.answer(0)\n"
    )


def assert_equal_results(
    a: EpisodeResults, b: EpisodeResults, except_for: tuple[int, ...] = ()
) -> None:
    rest = np.setdiff1d(np.arange(len(a.tokens)), except_for)
    for name in ("correct", "tokens", "sequential_tokens", "actions", "probes"):
        assert_array_equal(getattr(a, name)[rest], getattr(b, name)[rest])
    assert [a.answers[k] for k in rest] == [b.answers[k] for k in rest]


@pytest.fixture
def worker() -> Iterator[SubprocessWorker]:
    subprocess_worker = SubprocessWorker(LIMIT)
    yield subprocess_worker
    subprocess_worker.close()


ENDLESS = {
    "compiled": program("while True: episode.can_branch()"),
    "python": program("while True: episode.facts.beta"),
    # Plain Python that never returns to the interpreter, where a thread could interrupt it.
    "holding the lock": program("sum(iter(int, 1))"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", ENDLESS)
def test_only_the_endless_episode_fails(
    case: str, worker: SubprocessWorker, controller: Callable[..., Agent]
) -> None:
    healthy = InProcessWorker().play(job(controller(program("pass"), "healthy")))
    played = worker.play(job(controller(ENDLESS[case]), interpret=case != "compiled"))
    assert played.path == ("compiled" if case == "compiled" else "python")
    message = f"TimeLimitError: no end after {LIMIT:g} s"
    assert played.episodes.failures == {2: message, 6: message}
    assert not played.reproducible
    assert_equal_results(played.episodes, healthy.episodes, except_for=(2, 6))
    for k in (2, 6):  # wrong, at its cost so far
        assert not played.episodes.correct[k]
        assert played.episodes.answers[k] == ""
        assert played.episodes.tokens[k] == 102
        assert played.episodes.sequential_tokens[k] == 102
        assert played.episodes.actions[k] == 2
        assert played.episodes.probes[k] == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "how"),
    [("os._exit(3)", "exit code 3"), ("os.kill(os.getpid(), 9)", "signal 9")],
)
def test_only_the_episode_that_crashes_its_process_fails(
    fault: str, how: str, worker: SubprocessWorker, controller: Callable[..., Agent]
) -> None:
    healthy = InProcessWorker().play(job(controller(program("pass"), "healthy")))
    played = worker.play(job(controller(program(fault, before="import os"))))
    message = f"ProcessError: the process of the episode ended with {how}"
    assert played.episodes.failures == {2: message, 6: message}
    assert_equal_results(played.episodes, healthy.episodes, except_for=(2, 6))
    assert not played.reproducible


@pytest.fixture
def eight_busy_loops() -> Iterator[None]:
    """Eight processes that keep every core busy, a worker's included."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(8)]
    yield
    for loop in loops:
        loop.kill()
        loop.wait()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the platform does not tell own time")
@pytest.mark.usefixtures("eight_busy_loops")
def test_waiting_for_a_processor_does_not_count(controller: Callable[..., Agent]) -> None:
    """Every episode computes for less than its limit, which takes longer than its limit here."""
    code = "end = time.process_time() + 0.4\n        while time.process_time() < end: pass"
    agent = controller(program(code, where="True", before="import time"))
    worker = SubprocessWorker(0.8)
    try:
        started = time.monotonic()
        played = worker.play(job(agent, seeds=(0,)))
    finally:
        worker.close()
    assert played.episodes.failures == {}
    assert played.reproducible
    assert time.monotonic() - started > 4 * 0.8


@pytest.mark.slow
def test_sleeping_counts(controller: Callable[..., Agent]) -> None:
    naps = "for _ in range(10_000): time.sleep(0.01)"
    agent = controller(program(naps, before="import time"))
    worker = SubprocessWorker(1.0)
    try:
        played = worker.play(job(agent, seeds=(0,)))
    finally:
        worker.close()
    assert played.episodes.failures == {2: "TimeLimitError: no end after 1 s"}


class SlowPlayer:
    """Plays a policy's batches after sleeping for 1.5 s."""

    def __init__(self, player: Any) -> None:
        self.max_episodes: int = player.max_episodes
        self._player = player

    def play(self, *arguments: Any) -> Any:
        time.sleep(1.5)
        return self._player.play(*arguments)


class SlowPolicy(Agent):
    """A bundled policy that :class:`SlowPlayer` plays."""

    def __call__(self, episode: Any, beta: float) -> None:
        raise AssertionError("a policy plays in batches")

    def player(self, *arguments: Any) -> Any:
        return SlowPlayer(load("ppo/chain").player(*arguments))


@pytest.mark.slow
def test_a_batch_has_the_time_of_all_of_its_episodes() -> None:
    agent = SlowPolicy("slow", Path(__file__), takes_beta=True, digest="slow")
    worker = SubprocessWorker(1.0)
    try:
        played = worker.play(job(agent, seeds=(0,), interpret=False))
    finally:
        worker.close()
    assert played.path == "policy"
    assert played.episodes.failures == {}


def test_errors_are_reported_with_their_episodes(
    worker: SubprocessWorker, controller: Callable[..., Agent]
) -> None:
    agent = controller(program("raise ValueError('so')"))
    here, there = InProcessWorker().play(job(agent)), worker.play(job(agent))
    assert (
        here.episodes.failures
        == there.episodes.failures
        == {
            2: "ValueError: so",
            6: "ValueError: so",
        }
    )
    assert_equal_results(here.episodes, there.episodes)
    assert there.reproducible


@pytest.mark.slow
def test_agents_are_given_up_after_three_kills_in_a_row(
    worker: SubprocessWorker, controller: Callable[..., Agent]
) -> None:
    agent = controller(program("os._exit(1)", "episode.spent > 100", "import os"))
    with pytest.raises(GivenUpError, match=r"exit code 1 \(question 3, seed 0, 3 times"):
        worker.play(job(agent))
    assert worker.play(job(load("self_consistency"))).reproducible  # the worker can be used again


def test_agents_that_cannot_be_loaded_in_the_subprocess_are_given_up(
    worker: SubprocessWorker, controller: Callable[..., Agent]
) -> None:
    check = "import multiprocessing\nassert not multiprocessing.parent_process(), 'only here'"
    with pytest.raises(GivenUpError, match=r"agent\.py: cannot be loaded: AssertionError: only"):
        worker.play(job(controller(program("pass", before=check))))
    assert worker.play(job(load("self_consistency"))).reproducible


@pytest.mark.slow
def test_a_process_that_dies_between_episodes_affects_none(
    worker: SubprocessWorker, controller: Callable[..., Agent]
) -> None:
    agent = controller(program("pass"))
    healthy = worker.play(job(agent))
    worker._process.kill()  # as the out-of-memory killer may
    again = worker.play(job(agent))
    # Closes the pipe after the last episode, before the process can report the end.
    closing = program("os.closerange(3, 200)", "episode.spent == 103", "import os")
    closed = worker.play(job(controller(closing), (0,)))
    assert again.reproducible
    assert closed.reproducible
    assert not again.episodes.failures
    assert not closed.episodes.failures
    assert_equal_results(again.episodes, healthy.episodes)
    assert_array_equal(closed.episodes.tokens, healthy.episodes.tokens[:4])


@pytest.mark.slow
def test_a_process_that_closes_its_connection(
    worker: SubprocessWorker, controller: Callable[..., Agent]
) -> None:
    fault = "os.closerange(3, 200); sum(iter(int, 1))"
    played = worker.play(job(controller(program(fault, before="import os")), (0,)))
    assert played.episodes.failures == {
        2: "ProcessError: the process of the episode closed its connection"
    }


def test_output_of_programs_goes_to_stderr(
    worker: SubprocessWorker, controller: Callable[..., Agent], capfd: pytest.CaptureFixture[str]
) -> None:
    worker.play(job(controller(program("print('I was here', flush=True)")), (0,)))
    worker.close()
    assert capfd.readouterr() == ("", "I was here\n")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc to see processes")
def test_processes_of_programs_are_killed(
    worker: SubprocessWorker, controller: Callable[..., Agent], tmp_path: Path
) -> None:
    pid = tmp_path / "pid"
    start = (
        "import subprocess, sys\n"
        "def start():\n"
        "    child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)'])\n"
        f"    open({str(pid)!r}, 'w').write(str(child.pid))\n"
    )
    worker.play(job(controller(program("start()", before=start)), (0,)))
    child = int(pid.read_text())
    assert alive(child)
    worker.close()
    until(lambda: not alive(child))


def test_invalid_jobs_raise(worker: SubprocessWorker, controller: Callable[..., Agent]) -> None:
    wide = Job(
        controller(program("pass")), 0.0, STORE, EpisodeConfig(max_branches=2), "random", (0,)
    )
    with pytest.raises(ValueError, match="max_branches=2, but question 0"):
        worker.play(wide)


@pytest.mark.slow
def test_jobs_larger_than_a_chunk(
    worker: SubprocessWorker, monkeypatch: pytest.MonkeyPatch, controller: Callable[..., Agent]
) -> None:
    agent = controller(program("raise ValueError('so')"))
    seeds = tuple(range(300))
    assert job(agent, seeds).count > worker_process.CHUNK
    assert_equal_results(
        InProcessWorker().play(job(agent, seeds)).episodes, worker.play(job(agent, seeds)).episodes
    )
    # A chunk is continued after each of several crashes.
    crash = controller(program("os._exit(1)", before="import os"), "crash")
    played = worker.play(job(crash, (0, 1, 2)))
    assert sorted(played.episodes.failures) == [2, 6, 10]


def test_agents_are_pickled_with_their_text(controller: Callable[..., Agent]) -> None:
    agent = controller(program("pass"))
    text = agent.path.read_text("utf-8")
    agent.path.write_text(program("raise ValueError"), "utf-8")
    copy = pickle.loads(pickle.dumps(agent))
    assert copy == agent
    assert copy.source.decode() == text
    assert not InProcessWorker().play(job(copy)).episodes.failures


# --- pools ---------------------------------------------------------------------------------------


STORES = {"a": STORE, "b": TraceStore.from_tables(STORE.tables, 400)}


def bench(folder: Path, agents: list[Agent], pool: WorkerPool | None) -> list[Run | IncompleteRun]:
    rows = run(
        agents, STORES, (0.0, 1.0), range(25), folder, config=TERMS, pool=pool, interpret=True
    )
    return list(rows)


def written(rows: list[Run | IncompleteRun], path: Path) -> bytes:
    write_episodes([row for row in rows if isinstance(row, Run)], path)
    return path.read_bytes()


@pytest.mark.slow
def test_all_backends_write_the_same_bytes(
    tmp_path: Path, controller: Callable[..., Agent]
) -> None:
    agents = [load("cmc"), controller(program("raise ValueError('so')")), load("self_consistency")]
    expected = written(bench(tmp_path / "here", agents, None), tmp_path / "here.parquet")
    for count in (1, 3):
        rows = bench(tmp_path / str(count), agents, backends.local_pool(count))
        assert [row.agent for row in rows][::4] == ["cmc", "agent"]
        assert written(rows, tmp_path / f"{count}.parquet") == expected


@pytest.mark.slow
def test_given_up_agents_do_not_affect_others(
    tmp_path: Path, controller: Callable[..., Agent]
) -> None:
    bad = controller(program("os._exit(1)", "True", "import os"), "bad")
    expected = bench(tmp_path / "here", [load("cmc")], None)
    rows = bench(tmp_path / "there", [bad, load("cmc")], backends.local_pool(2))
    assert [type(row) for row in rows] == [IncompleteRun] * 2 + [Run] * 4
    assert {row.agent for row in rows if isinstance(row, IncompleteRun)} == {"bad"}
    for one, other in zip(expected, rows[2:], strict=True):
        assert isinstance(one, Run)
        assert isinstance(other, Run)
        assert_array_equal(one.episodes["tokens"], other.episodes["tokens"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("interval", "given_up"),
    [(500, ["a", "b", "c"]), (400, ["b"])],  # the first job of an agent decides for all
)
def test_given_up_jobs_do_not_depend_on_the_number_of_workers(
    interval: int, given_up: list[str], tmp_path: Path, controller: Callable[..., Agent]
) -> None:
    stores = STORES | {"c": TraceStore.from_tables(STORE.tables, 300)}
    where = f"episode.interval == {interval}"
    bad = controller(program("os._exit(1)", where, "import os"), "bad")
    for count in (1, 3):
        folder, pool = tmp_path / str(count), backends.local_pool(count)
        rows = list(
            run([bad], stores, (), range(25), folder, config=TERMS, pool=pool, interpret=True)
        )
        incomplete = [row for row in rows if isinstance(row, IncompleteRun)]
        assert [row.env for row in incomplete] == given_up
        for row in incomplete:
            assert "(question 2, seed 0, 3 times in a row)" in row.message


@pytest.mark.slow
def test_killed_episodes_are_not_cached(tmp_path: Path, controller: Callable[..., Agent]) -> None:
    """They depend on machine load, so the next call plays them again."""
    agent = controller(program("os._exit(1)", before="import os"))
    pool = backends.local_pool(1)
    (row,) = run([agent], {"a": STORE}, (), (0,), tmp_path, config=TERMS, pool=pool, interpret=True)
    assert isinstance(row, Run)
    assert list(row.failures) == [(0, 2)]
    assert not list((tmp_path / "cells").iterdir())


CRASHED = """
import sys
from pathlib import Path
from autotts_gym.controllers.loader import load
from autotts_gym.evaluation.backends import local_pool
from autotts_gym.evaluation.benchmark import run
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.traces.store import TraceStore

if __name__ == "__main__":
    store = TraceStore.open(sys.argv[1])
    for _ in run([load(sys.argv[2])], {"a": store}, (), (0,), Path(sys.argv[3]),
                 config=EpisodeConfig(max_branches=1), pool=local_pool(2, 600), interpret=True):
        pass
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc to see processes")
@pytest.mark.parametrize(
    "endless",
    [
        "while True: pass",
        pytest.param(
            "sum(iter(int, 1))",
            marks=pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills these"),
        ),
    ],
)
def test_workers_end_with_their_parent(endless: str, tmp_path: Path) -> None:
    agent = tmp_path / "endless.py"
    pid = tmp_path / "pid"
    agent.write_text(
        f"import os\ndef solve(episode):\n    open({str(pid)!r}, 'w').write(str(os.getpid()))\n"
        f"    {endless}\n"
    )
    STORE.save(tmp_path / "store")
    script = tmp_path / "script.py"
    script.write_text(CRASHED)
    arguments = [str(tmp_path / "store"), str(agent), str(tmp_path / "out")]
    with subprocess.Popen([sys.executable, str(script), *arguments]) as parent:
        try:
            until(lambda: pid.exists() and pid.read_text() != "")
        finally:
            parent.send_signal(signal.SIGKILL)
    child = int(pid.read_text())
    assert child != parent.pid
    until(lambda: not alive(child))


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition was not met in time"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_pool_of_one_plays_in_order() -> None:
    pool = WorkerPool([InProcessWorker()])
    jobs = [job(load("self_consistency"), (seed,)) for seed in range(3)]
    played = list(pool.play(jobs))
    assert [played_job for played_job, _ in played] == jobs
    assert all(isinstance(result, JobResult) for _, result in played)


# --- Ray -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_ray_cluster_gives_the_same_results(
    tmp_path: Path, controller: Callable[..., Agent]
) -> None:
    """Two nodes of one core each, on this machine."""
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    import ray

    here = bench(tmp_path / "here", [load("cmc")], None)
    crash = controller(program("os._exit(1)", before="import os"), "crash")
    cluster = cluster_utils.Cluster()
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        pool = backends.ray_pool(cluster.address, time_limit=60)
        assert len(pool.workers) == 2
        there = bench(tmp_path / "ray", [load("cmc")], pool)
        pool = backends.ray_pool(cluster.address)
        (failed,) = run(
            [crash], {"a": STORE}, (), (0,), tmp_path, config=TERMS, pool=pool, interpret=True
        )
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert written(there, tmp_path / "ray.parquet") == written(here, tmp_path / "here.parquet")
    assert isinstance(failed, Run)
    assert list(failed.failures) == [(0, 2)]


def test_no_ray_cluster() -> None:
    pytest.importorskip("ray")
    with pytest.raises(ValueError, match=r"there is no Ray cluster at '127\.0\.0\.1:1'"):
        backends.ray_pool("127.0.0.1:1")
