"""Workers: the same episodes whoever plays them, and programs that never end."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

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

#: Long enough for a busy machine to play a healthy episode.
LIMIT = 3.0

#: One branch each: 100 tokens and as many more as the question's row.
STORE = TraceStore.from_branches(
    [Question("?", "7", [Branch([], 100 + row, "7")]) for row in range(4)], 500
)
TERMS = EpisodeConfig(max_branches=1)


def job(agent: Agent, seeds: tuple[int, ...] = (0, 1), interpret: bool = True) -> Job:
    """JobResult as plain Python unless it matters: compiling takes longer than all the rest."""
    return Job(agent, 0.0, STORE, TERMS, "random", seeds, interpret)


def program(trouble: str, where: str = "episode.spent == 102", before: str = "") -> str:
    """A controller that gets into trouble at question 2, unless told otherwise."""
    return (
        f"{before}\n"
        "def solve(episode):\n"
        "    episode.branch()\n"
        "    episode.probe(0)\n"
        f"    if {where}:\n"
        f"        {trouble}\n"
        "    return episode.answer(0)\n"
    )


def same(a: EpisodeResults, b: EpisodeResults, but: tuple[int, ...] = ()) -> None:
    rest = np.setdiff1d(np.arange(len(a.tokens)), but)
    for name in ("correct", "tokens", "sequential_tokens", "actions", "probes"):
        assert_array_equal(getattr(a, name)[rest], getattr(b, name)[rest])
    assert [a.answers[k] for k in rest] == [b.answers[k] for k in rest]


@pytest.fixture
def worker() -> Iterator[SubprocessWorker]:
    made = SubprocessWorker(LIMIT)
    yield made
    made.close()


ENDLESS = {
    "compiled": program("while True: episode.can_branch()"),
    "python": program("while True: episode.facts.beta"),
    # Neither compiled nor ever back in the interpreter, where a thread could end it.
    "holding the lock": program("sum(iter(int, 1))"),
}


@pytest.mark.parametrize("case", ENDLESS)
def test_an_endless_episode_fails_alone(
    case: str, worker: SubprocessWorker, controller: Callable[..., Agent]
) -> None:
    healthy = InProcessWorker().play(job(controller(program("pass"), "healthy")))
    played = worker.play(job(controller(ENDLESS[case]), interpret=case != "compiled"))
    assert played.path == ("compiled" if case == "compiled" else "python")
    message = f"TimeLimitError: no end after {LIMIT:g} s"
    assert played.episodes.failures == {2: message, 6: message}
    assert not played.reproducible
    same(played.episodes, healthy.episodes, but=(2, 6))
    for k in (2, 6):  # wrong, at what it had cost
        assert not played.episodes.correct[k]
        assert played.episodes.answers[k] == ""
        assert played.episodes.tokens[k] == 102
        assert played.episodes.sequential_tokens[k] == 102
        assert played.episodes.actions[k] == 2
        assert played.episodes.probes[k] == 1


@pytest.mark.parametrize(
    ("trouble", "how"),
    [("os._exit(3)", "exit code 3"), ("os.kill(os.getpid(), 9)", "signal 9")],
)
def test_an_episode_that_ends_its_process_fails_alone(
    trouble: str, how: str, worker: SubprocessWorker, controller: Callable[..., Agent]
) -> None:
    healthy = InProcessWorker().play(job(controller(program("pass"), "healthy")))
    played = worker.play(job(controller(program(trouble, before="import os"))))
    message = f"ProcessError: the process of the episode ended with {how}"
    assert played.episodes.failures == {2: message, 6: message}
    same(played.episodes, healthy.episodes, but=(2, 6))
    assert not played.reproducible


def test_errors_come_with_their_episodes(
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
    same(here.episodes, there.episodes)
    assert there.reproducible


def test_given_up_after_three_in_a_row(
    worker: SubprocessWorker, controller: Callable[..., Agent]
) -> None:
    agent = controller(program("os._exit(1)", "episode.spent > 100", "import os"))
    with pytest.raises(GivenUpError, match=r"exit code 1 \(question 3, seed 0, 3 times"):
        worker.play(job(agent))
    assert worker.play(job(load("self_consistency"))).reproducible  # and the worker goes on


def test_an_agent_that_cannot_be_loaded_there_is_given_up(
    worker: SubprocessWorker, controller: Callable[..., Agent]
) -> None:
    alone = "import multiprocessing\nassert not multiprocessing.parent_process(), 'only there'"
    with pytest.raises(GivenUpError, match=r"agent\.py: cannot be loaded: AssertionError: only"):
        worker.play(job(controller(program("pass", before=alone))))
    assert worker.play(job(load("self_consistency"))).reproducible


def test_a_process_that_ends_between_episodes_harms_none(
    worker: SubprocessWorker, controller: Callable[..., Agent]
) -> None:
    agent = controller(program("pass"))
    healthy = worker.play(job(agent))
    worker._process.kill()  # as the system may, where memory is short
    again = worker.play(job(agent))
    # Cut off from its parent after the very last episode, before it could say that it is done.
    last = program("os.closerange(3, 200)", "episode.spent == 103", "import os")
    cut_off = worker.play(job(controller(last), (0,)))
    assert again.reproducible
    assert cut_off.reproducible
    assert not again.episodes.failures
    assert not cut_off.episodes.failures
    same(again.episodes, healthy.episodes)
    assert_array_equal(cut_off.episodes.tokens, healthy.episodes.tokens[:4])


def test_a_process_that_closes_its_connection(
    worker: SubprocessWorker, controller: Callable[..., Agent]
) -> None:
    trouble = "os.closerange(3, 200); sum(iter(int, 1))"
    played = worker.play(job(controller(program(trouble, before="import os")), (0,)))
    assert played.episodes.failures == {
        2: "ProcessError: the process of the episode closed its connection"
    }


def test_what_programs_print_goes_to_the_error_stream(
    worker: SubprocessWorker, controller: Callable[..., Agent], capfd: pytest.CaptureFixture[str]
) -> None:
    worker.play(job(controller(program("print('I was here', flush=True)")), (0,)))
    worker.close()
    assert capfd.readouterr() == ("", "I was here\n")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc to see processes")
def test_what_programs_start_ends_with_them(
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


def test_mistakes_of_the_caller_are_raised(
    worker: SubprocessWorker, controller: Callable[..., Agent]
) -> None:
    wide = Job(
        controller(program("pass")), 0.0, STORE, EpisodeConfig(max_branches=2), "random", (0,)
    )
    with pytest.raises(ValueError, match="max_branches=2, but question 0"):
        worker.play(wide)


def test_more_episodes_than_the_shared_memory_holds(
    worker: SubprocessWorker, monkeypatch: pytest.MonkeyPatch, controller: Callable[..., Agent]
) -> None:
    agent = controller(program("raise ValueError('so')"))
    seeds = tuple(range(300))
    assert job(agent, seeds).count > worker_process.CHUNK
    same(
        InProcessWorker().play(job(agent, seeds)).episodes, worker.play(job(agent, seeds)).episodes
    )
    # A chunk in which one episode ends its process, and one after it.
    crash = controller(program("os._exit(1)", before="import os"), "crash")
    played = worker.play(job(crash, (0, 1, 2)))
    assert sorted(played.episodes.failures) == [2, 6, 10]


def test_an_agent_is_pickled_as_its_text(controller: Callable[..., Agent]) -> None:
    agent = controller(program("pass"))
    text = agent.path.read_text("utf-8")
    agent.path.write_text(program("raise ValueError"), "utf-8")
    copy = pickle.loads(pickle.dumps(agent))
    assert copy == agent
    assert copy.source.decode() == text
    assert not InProcessWorker().play(job(copy)).episodes.failures


# --- teams ---------------------------------------------------------------------------------------


STORES = {"a": STORE, "b": TraceStore.from_tables(STORE.tables, 400)}


def bench(folder: Path, agents: list[Agent], pool: WorkerPool | None) -> list[Run | IncompleteRun]:
    rows = run(
        agents, STORES, (0.0, 1.0), range(25), folder, config=TERMS, pool=pool, interpret=True
    )
    return list(rows)


def written(rows: list[Run | IncompleteRun], path: Path) -> bytes:
    write_episodes([row for row in rows if isinstance(row, Run)], path)
    return path.read_bytes()


def test_the_same_bytes_whoever_plays(tmp_path: Path, controller: Callable[..., Agent]) -> None:
    agents = [load("cmc"), controller(program("raise ValueError('so')")), load("self_consistency")]
    expected = written(bench(tmp_path / "here", agents, None), tmp_path / "here.parquet")
    for count in (1, 3):
        rows = bench(tmp_path / str(count), agents, backends.local_pool(count))
        assert [row.agent for row in rows][::4] == ["cmc", "agent"]
        assert written(rows, tmp_path / f"{count}.parquet") == expected


def test_who_is_given_up_leaves_the_others_unharmed(
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


@pytest.mark.parametrize(
    ("interval", "given_up"),
    [(500, ["a", "b", "c"]), (400, ["b"])],  # the very first job stands for all of its agent
)
def test_the_same_is_given_up_whoever_plays(
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


def test_what_was_ended_from_outside_is_not_kept(
    tmp_path: Path, controller: Callable[..., Agent]
) -> None:
    """It depends on the moment: the next call plays it again."""
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


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc to see processes")
@pytest.mark.parametrize(
    "endless",
    [
        "while True: pass",
        pytest.param(
            "sum(iter(int, 1))",
            marks=pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends these"),
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
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_team_of_one_plays_in_turn() -> None:
    pool = WorkerPool([InProcessWorker()])
    jobs = [job(load("self_consistency"), (seed,)) for seed in range(3)]
    played = list(pool.play(jobs))
    assert [made for made, _ in played] == jobs
    assert all(isinstance(result, JobResult) for _, result in played)


# --- Ray -----------------------------------------------------------------------------------------


def test_a_ray_cluster_plays_the_same(tmp_path: Path, controller: Callable[..., Agent]) -> None:
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
