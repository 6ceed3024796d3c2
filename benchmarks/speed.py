"""The speed figures of the README, each as a ratio taken in one run on one core.

Machines differ and shared ones are noisy: what is compared is measured in turn, several times,
and the median of the pairs' ratios is what counts. ``make bench`` prints the table; with
``AUTOTTS_PUBLISHED`` set to the folder of the published traces, their figures are added.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

if hasattr(os, "sched_setaffinity"):  # before the libraries count the cores
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import gymnasium as gym
import numpy as np
from rich.console import Console
from rich.table import Table

import autotts_gym
from autotts_gym.controllers.loading import load
from autotts_gym.evaluation.benchmark import branch_order
from autotts_gym.evaluation.rollout import Rollout
from autotts_gym.mdp.replay import Terms
from autotts_gym.traces import registry
from autotts_gym.traces.store import TraceStore
from autotts_gym.traces.synthetic import generate

ROUNDS = 5
PUBLISHED = Path(
    os.environ.get("AUTOTTS_PUBLISHED", Path(__file__).parents[2] / "shared/data/autotts_release")
)

Rate = Callable[[], float]
Row = tuple[str, str, str, str, str]


def pairs(a: Rate, b: Rate) -> tuple[float, float, float]:
    """Medians of two rates measured in turn, and of the ratios a / b of the turns."""
    a(), b()
    turns = [(a(), b()) for _ in range(ROUNDS)]
    ratio = statistics.median(x / y for x, y in turns)
    return statistics.median(x for x, _ in turns), statistics.median(y for _, y in turns), ratio


def single_steps(env: gym.Env, plan: list[int], count: int) -> Rate:
    """Steps a second of one environment, resets included; ``plan`` is played over and over."""

    def rate() -> float:
        env.reset(seed=0)
        started = time.perf_counter()
        for k in range(count):
            _, _, terminated, truncated, _ = env.step(plan[k % len(plan)])
            if terminated or truncated:
                env.reset()
        return count / (time.perf_counter() - started)

    return rate


def vector_steps(envs: gym.vector.VectorEnv, plan: np.ndarray) -> Rate:
    """Actions a second of a vector environment; ``plan`` is int64[steps, num_envs]."""

    def rate() -> float:
        envs.reset(seed=0)
        started = time.perf_counter()
        for actions in plan:
            envs.step(actions)
        return plan.size / (time.perf_counter() - started)

    return rate


def round_robin(width: int, rounds: int) -> list[int]:
    """Open all branches; then, round after round, continue all and probe all; answer."""
    grow = [2 + i for i in range(width)] + [2 + width + i for i in range(width)]
    return [1] * width + grow * rounds + [0]


def stepping() -> Iterator[Row]:
    """``step`` through ``gym.make`` and through ``gym.make_vec``, beside CartPole's."""
    rng = np.random.default_rng(0)
    coin = [int(a) for a in rng.integers(0, 2, 60_000)]
    env = gym.make("AutoTTS-v0")
    plan = round_robin(64, 8)  # hardly a branch ends that early: the actions are legal
    ours, theirs, ratio = pairs(
        single_steps(env, plan, 60_000), single_steps(gym.make("CartPole-v1"), coin, 60_000)
    )
    yield (
        "step, full observation, 64 branches",
        f"{ours:,.0f} actions/s",
        f"CartPole-v1 {theirs:,.0f}",
        f"{ratio:.2f}",
        "at least 1",
    )
    width = 1024
    mode = "vector_entry_point"
    envs = gym.make_vec(
        "AutoTTS-v0", num_envs=width, vectorization_mode=mode, observation="compact"
    )
    steps = 1000
    # Every sub-environment acts on another branch, as it does in training.
    blocks, branches = np.divmod(np.array(plan[64:-1]) - 2, 64)
    turned = 2 + 64 * blocks[:, None] + (branches[:, None] + np.arange(width)) % 64
    actions = np.concatenate([np.full((64, width), 1), turned])[:steps]
    carts = gym.make_vec("CartPole-v1", num_envs=width, vectorization_mode=mode)
    ours, theirs, ratio = pairs(
        vector_steps(envs, actions), vector_steps(carts, rng.integers(0, 2, (steps, width)))
    )
    yield (
        "vector env, 1,024 environments, compact",
        f"{ours / 1e6:.1f} M actions/s",
        f"CartPole-v1 {theirs / 1e6:.1f} M",
        f"{ratio:.2f}",
        "at least 5 M",
    )


def bulk() -> Iterator[Row]:
    """Controllers in bulk, beside the same episodes through ``step``."""
    (store,) = registry.open_stores(registry.DEFAULT).values()
    terms = Terms(billing="interval")
    count = store.card.questions
    questions = np.tile(np.arange(count), 10)
    orders = np.array(
        [branch_order("random", s, q, 128)[:64] for s in range(10) for q in range(count)]
    )
    for agent, beta, goal in (
        ("cmc", 0.5, "at least 20,000/s"),
        ("self_consistency", 0.0, ""),
    ):

        def rate(rollout: Rollout, episodes: int, beta: float = beta) -> Rate:
            def run() -> float:
                started = time.perf_counter()
                rollout.play(questions[:episodes], orders[:episodes], beta)
                return episodes / (time.perf_counter() - started)

            return run

        fast, slow = (Rollout(load(agent), store, terms, interpret=i) for i in (False, True))
        ours, theirs, ratio = pairs(rate(fast, len(questions)), rate(slow, 30))
        actions = fast.play(questions, orders, beta).actions.mean()
        yield (
            f"{agent} in bulk" + (f", β = {beta}" if beta else ""),
            f"{ours:,.0f} episodes/s ({1e9 / ours / actions:.0f} ns an action)",
            f"through step {theirs:,.0f}",
            f"{ratio:,.0f}",
            goal,
        )


_START = """
import time
started = time.perf_counter()
import autotts_gym
imported = time.perf_counter() - started
def resident():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024
before = resident() if {memory} else 0
started = time.perf_counter()
import gymnasium
gymnasium.make("AutoTTS-v0", env={env!r}).reset(seed=0)
print(imported, time.perf_counter() - started, resident() - before if {memory} else 0)
"""


def start(env: str) -> tuple[float, float, float]:
    """Seconds of the cold import and of the first reset, and MB above the bare import."""
    memory = Path("/proc/self/status").exists()
    script = _START.format(env=env, memory=memory)
    runs = []
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", script], check=True, capture_output=True, text=True
        )
        runs.append([float(figure) for figure in done.stdout.split()])
    imported, reset, size = (statistics.median(column) for column in zip(*runs, strict=True))
    return imported, reset, size


def loading(folder: Path) -> Iterator[Row]:
    """Starting up, loading stores, and stores of size."""
    imported, reset, _ = start(registry.DEFAULT)
    yield ("import autotts_gym", f"{imported:.2f} s", "", "", "under 1 s")
    yield ("gym.make and first reset, compiled code kept", f"{reset:.2f} s", "", "", "under 5 s")
    if PUBLISHED.is_dir():
        from autotts_gym.traces.published import import_published

        stores = import_published(PUBLISHED, "published", folder)
        _, _, size = start(str(folder / "published"))
        what = f"{len(stores)} published files loaded and played"
        yield (what, f"{size:.0f} MB above the bare import", "", "", "under 200 MB")
        name, store = max(stores.items(), key=lambda item: item[1].card.probes)
        source = PUBLISHED / f"{name.removeprefix('published/')}.json"

        def read_store() -> float:
            started = time.perf_counter()
            _ = TraceStore.open(str(store.path)).tables
            return 1 / (time.perf_counter() - started)

        def read_json() -> float:
            started = time.perf_counter()
            json.loads(source.read_text("utf-8"))
            return 1 / (time.perf_counter() - started)

        ours, theirs, ratio = pairs(read_store, read_json)
        yield (
            "load an imported published cell",
            f"{1000 / ours:.1f} ms",
            f"json.load of the file {1000 / theirs:.1f} ms",
            f"{ratio:.1f}",
            "at least 1",
        )
    large = generate(questions=10_000, branches=128, seed=0)
    probes = large.card.probes
    path = large.save(folder / "large").path
    del large
    started = time.perf_counter()
    TraceStore.open(str(path))
    opened = time.perf_counter() - started
    script = (
        "import resource, autotts_gym, gymnasium\n"
        f"env = gymnasium.make('AutoTTS-v0', env={str(path)!r}); env.reset(seed=0); env.step(1)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    what = f"10,000 × 128 branches ({probes / 1e6:.0f} M probes)"
    yield (f"{what}: open", f"{1000 * opened:.1f} ms", "", "", "under 100 ms")
    yield (f"{what}: play", f"{float(done.stdout):,.0f} MB at most", "", "", "under 1,024 MB")


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    title = f"autotts_gym {autotts_gym.__version__}, one core"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("what")
    for heading in ("measured", "beside", "ratio", "goal"):
        table.add_column(heading, justify="right")
    console = Console(width=140)
    with tempfile.TemporaryDirectory() as folder, console.status("measuring"):
        for part in (stepping(), bulk(), loading(Path(folder))):
            for row in part:
                table.add_row(*row)
    console.print(table)


if __name__ == "__main__":
    main()
