"""The benchmark: its grid, its cache, and recovery from interruptions."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_array_equal

import autotts_gym
from autotts_gym.controllers.agent import Agent
from autotts_gym.controllers.loader import load
from autotts_gym.evaluation import result_cache
from autotts_gym.evaluation.benchmark import run
from autotts_gym.evaluation.runs import EPISODE_COLUMNS, Run, write_episodes
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.branch_orders import Order, branch_order
from autotts_gym.rollout.rollout import Rollout
from autotts_gym.traces import registry
from autotts_gym.traces.store import Branch, Question, TraceStore
from autotts_gym.utils.files import write_atomically

TERMS = EpisodeConfig(max_branches=3)


def store(questions: int = 3, gold: str = "7") -> TraceStore:
    """Branches of one to four intervals; their answers identify branches and questions."""
    return TraceStore.from_branches(
        [
            Question(
                "?",
                gold,
                [Branch(["7"] * b, 400 * b + 150 + q, "7" if b > q else str(b)) for b in range(4)],
            )
            for q in range(questions)
        ],
        500,
    )


STORE = store()


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of episodes of every call of ``Rollout.play``."""
    calls: list[int] = []
    play = Rollout.play

    def counted(self: Rollout, questions: Any, orders: Any, beta: float) -> Any:
        calls.append(len(questions))
        return play(self, questions, orders, beta)

    monkeypatch.setattr(Rollout, "play", counted)
    return calls


def bench(
    folder: Path,
    agents: Sequence[str | Agent] = ("self_consistency",),
    stores: dict[str, TraceStore] | None = None,
    betas: Sequence[float] = (0.5,),
    seeds: Sequence[int] = (0, 1),
    **more: Any,
) -> list[Run]:
    loaded = [load(agent) if isinstance(agent, str) else agent for agent in agents]
    rows = run(loaded, stores or {"e": STORE}, betas, seeds, folder, **{"config": TERMS, **more})
    return [row for row in rows if isinstance(row, Run)]


def cells(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "cells").iterdir())


def write(runs: list[Run], folder: Path) -> bytes:
    write_episodes(runs, folder / "episodes.parquet")
    return (folder / "episodes.parquet").read_bytes()


# --- the grid ------------------------------------------------------------------------------------


def test_rows_and_episodes(tmp_path: Path) -> None:
    stores = {"a": STORE, "b": store(2)}
    runs = bench(tmp_path, ["self_consistency", "cmc"], stores, (0.0, 1.0), range(3))
    assert [(row.agent, row.beta, row.env) for row in runs] == [
        ("self_consistency", None, "a"),  # once, since it has no β
        ("self_consistency", None, "b"),
        ("cmc", 0.0, "a"),
        ("cmc", 1.0, "a"),
        ("cmc", 0.0, "b"),
        ("cmc", 1.0, "b"),
    ]
    for row in runs:
        questions = stores[row.env].card.questions
        assert row.episodes["seed"].tolist() == np.repeat(range(3), questions).tolist()
        assert row.episodes["question"].tolist() == [*range(questions)] * 3
        assert (row.path, row.reason, row.failures) == ("compiled", "", {})
        assert row.rate > 0
        assert not row.synthetic


def test_columns_and_types(tmp_path: Path) -> None:
    runs = bench(tmp_path, ["self_consistency", "cmc"], betas=(0.0, 0.25))
    write(runs, tmp_path)
    table = pq.read_table(tmp_path / "episodes.parquet")
    types = [str(field.type) for field in table.schema]
    facts = {"agent": "string", "beta": "double", "env": "string"}
    expected = facts | {
        name: kind for name, kind in EPISODE_COLUMNS.items() if name != "settled_tokens"
    }
    assert dict(zip(table.column_names, types, strict=True)) == expected
    rows = table.to_pylist()
    assert len(rows) == 3 * 2 * 3
    assert [row["beta"] for row in rows] == [None] * 6 + [0.0] * 6 + [0.25] * 6
    assert all(None not in {**row, "beta": 0}.values() for row in rows)
    for row, k in zip(rows[:6], range(6), strict=True):
        for name in list(EPISODE_COLUMNS)[2:-1]:
            assert row[name] == runs[0].episodes[name][k]


def test_a_group_of_environments(tmp_path: Path) -> None:
    for name in ("x/deep", "x/er/deeper"):
        STORE.save(tmp_path / "group" / name)
    stores = registry.open_stores(tmp_path / "group")
    runs = bench(tmp_path / "out", stores=stores)
    assert [row.env for row in runs] == [
        (tmp_path / "group" / name).as_posix() for name in ("x/deep", "x/er/deeper")
    ]
    assert len(cells(tmp_path / "out")) == 1  # the same traces under two names


def test_branch_orders() -> None:
    published = [branch_order("published", seed, q, 128) for seed in (3, 4) for q in (0, 1)]
    assert_array_equal(published[0], published[1])  # the same for all questions of a seed
    assert (published[0] != published[2]).any()
    drawn = [tuple(branch_order("random", seed, q, 128)) for seed in (3, 4) for q in (0, 1)]
    assert len(set(drawn)) == 4
    assert drawn[0] == tuple(branch_order("random", 3, 0, 128))
    for order in (*published, *drawn):
        assert sorted(order) == list(range(128))


def test_branch_orders_are_applied(tmp_path: Path, controller: Callable[..., Agent]) -> None:
    """The first branch that opens is the first of the question's order."""
    first = controller(
        "def solve(episode):\n"
        "    episode.branch()\n"
        "    while episode.can_extend(0): episode.extend(0)\n"
        "    episode.probe(0)\n"
        "    episode.answer()\n"
    )
    orders: tuple[Order, ...] = ("published", "random")
    for order in orders:
        (row,) = bench(tmp_path, [first], seeds=range(12), order=order)
        opened = [(int(tokens) - 150) // 400 for tokens in row.episodes["tokens"]]
        expected = [branch_order(order, seed, q, 4)[0] for seed in range(12) for q in range(3)]
        assert opened == expected
    assert len(cells(tmp_path)) == 2 * 2  # seeds 0-9 and 10-11, by order


@pytest.mark.parametrize("beta", [-0.1, 1.5, float("nan"), float("inf")])
def test_beta_outside(beta: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"beta must be within \[0, 1\], got"):
        bench(tmp_path, ["cmc"], betas=(0.5, beta))
    assert not (tmp_path / "cells").exists()


def test_too_few_branches(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has 4 branches; pass max_branches=4 or fewer"):
        bench(tmp_path, config=EpisodeConfig(max_branches=5))


def test_agents_with_the_same_name_are_rejected(tmp_path: Path) -> None:
    texts = ["def solve(episode): episode.answer()\n", "def solve(episode): return\n"]
    for folder, text in zip("ab", texts, strict=True):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.py").write_text(text, "utf-8")
    paths = [str(tmp_path / folder / "same.py") for folder in "ab"]
    with pytest.raises(
        ValueError, match=r"a/same\.py and .*b/same\.py would both be called 'same'"
    ):
        bench(tmp_path, paths)


def test_duplicates_are_played_once(tmp_path: Path, played: list[int]) -> None:
    runs = bench(tmp_path, ["cmc", "cmc"], betas=(0.5, 0.5), seeds=(1, 0, 1))
    assert played == [6]
    assert len(runs) == 1
    assert runs[0].episodes["seed"].tolist() == [0, 0, 0, 1, 1, 1]


# --- the cache ---------------------------------------------------------------------------------


def test_cached_episodes_are_not_played_again(tmp_path: Path, played: list[int]) -> None:
    grid: dict[str, Any] = {"agents": ["self_consistency", "cmc"], "betas": (0, 1)}
    first = bench(tmp_path, **grid)
    assert sum(played) == 3 * 6
    content = write(first, tmp_path)
    times = {name: (tmp_path / "cells" / name).stat().st_mtime_ns for name in cells(tmp_path)}
    again = bench(tmp_path, **{**grid, "betas": (0.0, 1.0)})  # the same as floats
    assert sum(played) == 3 * 6
    assert {row.path for row in again} == {"kept"}
    assert all(np.isnan(row.rate) for row in again)
    assert write(again, tmp_path) == content
    assert {n: (tmp_path / "cells" / n).stat().st_mtime_ns for n in cells(tmp_path)} == times


def test_additional_seeds(tmp_path: Path, played: list[int]) -> None:
    bench(tmp_path, seeds=[0, 1, 5])
    assert played == [9]
    (grown,) = bench(tmp_path, seeds=range(23))
    assert played == [9, 21, 30, 9]  # the other 7 of the first ten; 10-19; 20-22
    assert grown.path == "compiled"
    (fewer,) = bench(tmp_path, seeds=[5, 21])
    assert sum(played) == 3 * 23
    assert fewer.episodes["seed"].tolist() == [5, 5, 5, 21, 21, 21]
    (whole,) = bench(tmp_path / "apart", seeds=range(23))
    for name in grown.episodes:
        assert_array_equal(grown.episodes[name], whole.episodes[name])


def test_additional_betas_and_agents(tmp_path: Path, played: list[int]) -> None:
    bench(tmp_path, ["cmc"], betas=(0.5,))
    bench(tmp_path, ["cmc", "self_consistency"], betas=(0.25, 0.5))
    assert played == [6, 6, 6]


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({}, False),
        ({"config": EpisodeConfig(np.int64(3))}, False),  # type: ignore[arg-type]
        ({"interpret": True}, False),  # does not change the episodes
        ({"stores": {"renamed": STORE}}, False),
        ({"config": EpisodeConfig(2)}, True),
        ({"config": EpisodeConfig(3, billing="interval")}, True),
        ({"config": EpisodeConfig(3, budget=1000)}, True),
        ({"config": EpisodeConfig(3, probe_tokens=1)}, True),
        ({"order": "published"}, True),
        ({"stores": {"e": store(gold="8")}}, True),
        ({"betas": (0.75,)}, True),
    ],
    ids=str,
)
def test_cells_depend_on_everything_that_affects_episodes(
    change: dict[str, Any], again: bool, tmp_path: Path, played: list[int]
) -> None:
    bench(tmp_path, ["cmc"])
    bench(tmp_path, ["cmc"], **change)
    assert len(played) == 1 + again


@pytest.mark.parametrize("what", ["version", "rules"])
def test_another_version_plays_again(
    what: str, tmp_path: Path, played: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench(tmp_path)
    if what == "version":
        monkeypatch.setattr(autotts_gym, "__version__", "0.0.0")
    else:
        monkeypatch.setattr(result_cache, "sources_key", lambda: "edited")
    bench(tmp_path)
    assert len(played) == 2


def test_an_edited_agent_plays_again(
    tmp_path: Path, played: list[int], controller: Callable[..., Agent]
) -> None:
    text = "def solve(episode):\n    episode.branch()\n    episode.answer()\n"
    (first,) = bench(tmp_path, [controller(text)])
    (edited,) = bench(
        tmp_path, [controller(text.replace("branch()", "branch(); episode.branch()"))]
    )
    assert len(played) == 2
    assert (edited.episodes["actions"] == first.episodes["actions"] + 1).all()
    bench(tmp_path, [controller(text)])  # the original text
    assert len(played) == 2


def test_long_names(tmp_path: Path, played: list[int], controller: Callable[..., Agent]) -> None:
    agent = controller("def solve(episode): episode.answer()\n", "a" * 250)
    for _ in range(2):
        (row,) = bench(tmp_path, [agent])
        assert row.agent == "a" * 250
    assert len(played) == 1


def test_names_with_glob_characters(
    tmp_path: Path, played: list[int], controller: Callable[..., Agent]
) -> None:
    agent = controller("def solve(episode): episode.answer()\n", "a[1]*beta=1?")
    for _ in range(2):
        (row,) = bench(tmp_path / "beta=1", [agent])
        assert row.agent == "a[1]*beta=1?"
    assert len(played) == 1


@pytest.mark.parametrize("content", [b"", b"PAR1 truncated"])
def test_a_damaged_cell_is_played_again(content: bytes, tmp_path: Path, played: list[int]) -> None:
    before = write(bench(tmp_path, seeds=range(12)), tmp_path)
    first, _ = cells(tmp_path)
    (tmp_path / "cells" / first).write_bytes(content)
    assert write(bench(tmp_path, seeds=range(12)), tmp_path) == before
    assert len(played) == 3
    bench(tmp_path, seeds=range(12))
    assert len(played) == 3


def test_concurrent_benchmarks_do_not_duplicate_episodes(tmp_path: Path) -> None:
    """Two benchmarks may have played the same seeds."""
    (alone,) = bench(tmp_path, seeds=range(10))
    bench(tmp_path / "other", seeds=range(5, 8))
    for cell in (tmp_path / "other" / "cells").iterdir():
        cell.rename(tmp_path / "cells" / cell.name)
    (both,) = bench(tmp_path, seeds=range(10))
    assert both.path == "kept"
    for name in alone.episodes:
        assert_array_equal(both.episodes[name], alone.episodes[name])


def test_failures_are_reported_and_cached(tmp_path: Path, controller: Callable[..., Agent]) -> None:
    agent = controller(
        "def solve(episode):\n"
        "    i = episode.branch()\n"
        "    answer, finished = episode.probe(i)\n"
        "    if finished: raise ValueError('so [short]')\n"
        "    episode.answer()\n"
    )
    (first,) = bench(tmp_path, [agent], seeds=range(4))
    (cached,) = bench(tmp_path, [agent], seeds=range(4))
    assert cached.path == "kept"
    assert cached.failures == first.failures
    # Branch 0 is the only one that ends within its first interval.
    short = [(s, q) for s in range(4) for q in range(3) if branch_order("random", s, q, 4)[0] == 0]
    assert list(first.failures) == short
    assert set(first.failures.values()) == {"ValueError: so [short]"}
    failed = np.array([answer == "" for answer in first.episodes["answer"]])
    assert failed.sum() == len(short)
    assert not first.episodes["correct"][failed].any()


@pytest.mark.parametrize("runs", [1, 2])  # cached episodes count as well
def test_progress_adds_up(runs: int, tmp_path: Path) -> None:
    reports: list[tuple[str, int]] = []
    for _ in range(runs):
        reports.clear()
        bench(
            tmp_path,
            ["cmc", "self_consistency"],
            betas=(0.0, 0.5),
            seeds=range(12),
            progress=lambda label, episodes: reports.append((label, episodes)),
        )
    assert sum(episodes for _, episodes in reports) == 3 * 12 * 3
    labels = list(dict.fromkeys(label for label, _ in reports))
    assert labels == ["cmc β=0 on e", "cmc β=0.5 on e", "self_consistency on e"]


# --- interruptions --------------------------------------------------------------------------

# Plays as plain Python, slowly if SLOW is set, and logs every episode.
SLOW = """
import os
import time

def solve(episode):
    time.sleep(float(os.environ.get("SLOW", "0")))
    with open(os.environ["LOG"], "a") as log:
        log.write("episode\\n")
    episode.branch()
    episode.probe(0)
    episode.answer()
"""


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an agent, a store, and the results of an uninterrupted benchmark."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    (folder / "slow.py").write_text(SLOW, "utf-8")
    STORE.save(folder / "store")
    assert start(folder, folder / "out", 0).wait() == 0
    return folder


def start(folder: Path, out: Path, slow: float) -> subprocess.Popen[bytes]:
    """``autotts benchmark`` of 40 seeds of three questions on two processes."""
    arguments = [
        *("benchmark", str(folder / "slow.py"), "self_consistency"),
        *("--env", str(folder / "store"), "--seeds", "0-39", "--max-branches", "3"),
        *("--workers", "2", "--out", str(out)),
    ]
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "autotts_gym", *arguments],
        env={**os.environ, "SLOW": str(slow), "LOG": str(out) + ".log"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def finished(out: Path) -> dict[Path, bytes]:
    """Content of the cells that are completely written."""
    paths = (out / "cells").iterdir() if (out / "cells").is_dir() else []
    return {path: path.read_bytes() for path in paths if not path.name.startswith(".")}


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(10))
def test_killed_at_a_random_moment(moment: int, uninterrupted: Path, tmp_path: Path) -> None:
    out, log = tmp_path / "out", tmp_path / "out.log"
    with start(uninterrupted, out, 0.04) as process:  # takes 2.4 s on two cores after starting
        if moment % 2:  # at any time, even before the first episode
            time.sleep(random.Random(moment).uniform(0, 4))
        else:  # while it writes cells
            while len(finished(out)) <= moment // 2 and process.poll() is None:
                time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    cached = finished(out)
    log.unlink(missing_ok=True)
    assert start(uninterrupted, out, 0).wait() == 0
    played = len(log.read_text().splitlines()) if log.exists() else 0
    slow = [path for path in cached if path.name.startswith("slow")]
    assert played == 120 - 30 * len(slow)  # only the episodes that were not cached
    for name in ("episodes.parquet", "summary.csv", "benchmark.json", "latency.png"):
        assert (out / name).read_bytes() == (uninterrupted / "out" / name).read_bytes()
    assert {path: path.read_bytes() for path in cached} == cached
    # Apart from hidden temporary files of killed writes, the same files.
    names = {p.name for p in out.iterdir() if not p.name.startswith(".")}
    assert names == {path.name for path in (uninterrupted / "out").iterdir()}


def test_temporary_files_of_a_killed_write_are_ignored(tmp_path: Path, played: list[int]) -> None:
    before = write(bench(tmp_path), tmp_path)
    (cell,) = cells(tmp_path)
    (tmp_path / "cells" / f".{cell[:-8]}-k2x9.parquet").write_bytes(b"PAR1")
    assert write(bench(tmp_path), tmp_path) == before
    assert len(played) == 1


def test_interrupt_keeps_finished_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the first ten seeds are cached."""
    play = Rollout.play

    def interrupted(self: Rollout, questions: Any, orders: Any, beta: float) -> Any:
        if (tmp_path / "cells").is_dir() and cells(tmp_path):
            raise KeyboardInterrupt
        return play(self, questions, orders, beta)

    monkeypatch.setattr(Rollout, "play", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bench(tmp_path, seeds=range(20))
    assert len(cells(tmp_path)) == 1


def test_a_failed_write_names_the_file(tmp_path: Path) -> None:
    def fail(temporary: Path) -> None:
        raise OSError(errno.ENOSPC, "Detail: no space")  # pyarrow's error has no path

    with pytest.raises(OSError, match=r"No space left on device: '.*table\.csv'"):
        write_atomically(tmp_path / "table.csv", fail)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failed_write_leaves_the_old_file(error: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "table.csv"

    def fail(temporary: Path) -> None:
        temporary.write_text("half", "utf-8")
        raise error

    write_atomically(path, lambda temporary: temporary.write_bytes(b"whole"))
    with pytest.raises(error):
        write_atomically(path, fail)
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]
    assert path.read_bytes() == b"whole"
    assert path.stat().st_mode & 0o777 == 0o644
