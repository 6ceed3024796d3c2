"""Speed benchmarks, each with a baseline measured in the same run on one core.

Machines differ and shared machines are noisy. Benchmark and baseline are therefore measured
alternately several times, and the ratio is the median of the ratios of the pairs. ``make bench``
prints the table; ``--only`` chooses groups of rows. If ``AUTOTTS_PUBLISHED`` is the folder of the
published traces, their benchmarks are added. What cannot be measured leaves a note in the table.
Threads, the training, the published protocol and the sandbox use two cores.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

if hasattr(os, "sched_setaffinity"):  # before the libraries count the cores
    CORES = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, CORES[:1])
else:
    CORES = []

import gymnasium as gym
import numpy as np
import pyarrow.parquet as pq
import reference_python
import torch
from rich.console import Console
from rich.table import Table

import autotts_gym
from autotts_gym.controllers.loader import find, load
from autotts_gym.controllers.policy_agent import MAX_EPISODES, PolicyAgent, PolicyPlayer
from autotts_gym.discovery.code_generation import generate_source
from autotts_gym.discovery.objective import BETAS, SearchSet
from autotts_gym.discovery.tree_rollout import TreeRollout
from autotts_gym.discovery.variation import seed_programs
from autotts_gym.mdp.trace_dataset import EpisodeConfig, TraceDataset
from autotts_gym.rollout.branch_orders import branch_order, branch_orders
from autotts_gym.rollout.rollout import Rollout
from autotts_gym.sandbox.player import Sandbox
from autotts_gym.sandbox.untrusted_agent import load_untrusted
from autotts_gym.traces import registry
from autotts_gym.traces.published_import import import_published
from autotts_gym.traces.store import TraceStore
from autotts_gym.traces.synthetic_traces import generate

ROUNDS = 5
#: Sub-environments and steps of the benchmarks of vector environments.
WIDTH, STEPS = 1024, 1000
#: A bundled environment as deep as the published traces, so that its timings are comparable.
BUNDLED = "synthetic-aime24"
PUBLISHED = Path(
    os.environ.get("AUTOTTS_PUBLISHED", Path(__file__).parents[2] / "shared/data/autotts_release")
)

Rate = Callable[[], float]
Row = tuple[str, str, str, str, str]
Stores = dict[str, TraceStore]


def measure_pair(a: Rate, b: Rate) -> tuple[float, float, float]:
    """Measure two rates alternately; medians of both, and of their ratios a / b."""
    a(), b()
    rounds = [(a(), b()) for _ in range(ROUNDS)]
    ratio = statistics.median(x / y for x, y in rounds)
    return statistics.median(x for x, _ in rounds), statistics.median(y for _, y in rounds), ratio


def single_steps(env: gym.Env, plan: list[int], count: int) -> Rate:
    """Steps per second of one environment that repeats the actions of ``plan``, with resets."""

    def rate() -> float:
        env.reset(seed=0)
        started = time.perf_counter()
        for k in range(count):
            _, _, terminated, truncated, _ = env.step(plan[k % len(plan)])
            if terminated or truncated:
                env.reset()
        return count / (time.perf_counter() - started)

    return rate


def resets(env: gym.Env, count: int) -> Rate:
    """Resets per second of one environment."""

    def rate() -> float:
        env.reset(seed=0)
        started = time.perf_counter()
        for _ in range(count):
            env.reset()
        return count / (time.perf_counter() - started)

    return rate


def legal_plan(env: gym.Env, steps: int) -> list[int]:
    """Random legal actions of one environment that is reset with seed 0; none answers early."""
    rng = np.random.default_rng(0)
    _, info = env.reset(seed=0)
    plan = []
    for _ in range(steps):
        legal = np.flatnonzero(info["action_mask"])
        growing = legal[(legal > 0) & (legal < 2 + 3 * env.unwrapped.max_branches)]
        plan.append(int(rng.choice(growing)) if growing.size else 0)
        _, _, terminated, _, info = env.step(plan[-1])
        if terminated:
            _, info = env.reset()
    return plan


def legal_actions(
    envs: gym.vector.VectorEnv, steps: int, answers: float | None = None
) -> tuple[np.ndarray, float]:
    """Random legal actions of a vector environment that is reset with seed 0.

    Args:
        envs: the environment.
        steps: number of steps.
        answers: how often ANSWER is chosen; as often as any other legal action by default.

    Returns:
        int64[steps, num_envs], and the mean number of actions of an episode.
    """
    rng = np.random.default_rng(0)
    observations, _ = envs.reset(seed=0)
    plan, ended = [], 0
    for _ in range(steps):
        noise = rng.random(observations["action_mask"].shape) * observations["action_mask"]
        if answers is not None:
            noise[:, 0] = 2 * (noise[:, 0] < answers) - 1
            noise[:, -((noise.shape[1] - 2) // 4) :] = 0  # ANSWER(i)
        plan.append(noise.argmax(axis=1))
        observations, _, terminated, *_ = envs.step(plan[-1])
        ended += int(terminated.sum())
    return np.array(plan), steps * envs.num_envs / max(ended, 1)


def in_rounds(num_envs: int, max_branches: int, steps: int) -> np.ndarray:
    """Episodes in rounds, as CMC's, int64[steps, num_envs]; each has 337 actions.

    16 branches are opened, and in each of ten rounds continued and probed. Each sub-environment is
    at another place of its episode.
    """
    grow = [base + i for base in (2, 2 + max_branches) for i in range(16)]
    episode = np.array([1] * 16 + grow * 10 + [0])
    places = np.arange(steps)[:, None] + np.arange(num_envs) * len(episode) // num_envs
    return episode[places % len(episode)]


def vector_steps(envs: gym.vector.VectorEnv, plan: np.ndarray) -> Rate:
    """Actions per second of a vector environment; ``plan`` is int64[steps, num_envs]."""

    def rate() -> float:
        envs.reset(seed=0)
        started = time.perf_counter()
        for actions in plan:
            envs.step(actions)
        return plan.size / (time.perf_counter() - started)

    return rate


def round_robin(width: int, rounds: int) -> list[int]:
    """Actions that open all branches, extend and probe all of them in each round, and answer."""
    grow = [2 + i for i in range(width)] + [2 + width + i for i in range(width)]
    return [1] * width + grow * rounds + [0]


def stepping() -> Iterator[Row]:
    """``step`` of ``gym.make`` and ``gym.make_vec`` environments; baseline CartPole-v1."""
    rng = np.random.default_rng(0)
    coin = [int(a) for a in rng.integers(0, 2, 60_000)]
    env = gym.make("AutoTTS-v0", env=BUNDLED)
    plan = round_robin(64, 8)  # legal, since almost no branch ends that early
    measured, baseline, ratio = measure_pair(
        single_steps(env, plan, 60_000), single_steps(gym.make("CartPole-v1"), coin, 60_000)
    )
    yield (
        "step, full observation, 64 branches",
        f"{measured:,.0f} actions/s",
        f"CartPole-v1 {baseline:,.0f}",
        f"{ratio:.2f}",
        "at least 1",
    )
    default = gym.make("AutoTTS-v0")
    measured, baseline, ratio = measure_pair(
        resets(default, 5_000), resets(gym.make("CartPole-v1"), 5_000)
    )
    yield (
        "reset, full observation, default environment",
        f"{1e6 / measured:.1f} µs",
        f"CartPole-v1 {1e6 / baseline:.1f} µs",
        f"{ratio:.2f}",
        "under 20 µs",
    )
    legal = legal_plan(default, 20_000)
    measured, baseline, ratio = measure_pair(
        single_steps(default, legal, 20_000), single_steps(gym.make("CartPole-v1"), coin, 20_000)
    )
    yield (
        "step, random legal actions, default environment",
        f"{measured:,.0f} actions/s",
        f"CartPole-v1 {baseline:,.0f}",
        f"{ratio:.2f}",
        "at least 1.3",
    )


def vectors() -> Iterator[Row]:
    """``step`` of the vector environment; baseline that of CartPole-v1."""
    envs = _vector_env()
    # Sub-environments act on different branches, as in training.
    blocks, branches = np.divmod(np.array(round_robin(64, 8)[64:-1]) - 2, 64)
    turned = 2 + 64 * blocks[:, None] + (branches[:, None] + np.arange(WIDTH)) % 64
    actions = np.concatenate([np.full((64, WIDTH), 1), turned])[:STEPS]
    yield _vector_row("vector env, 1,024 environments, compact", envs, actions, "at least 5 M")
    rounds = in_rounds(WIDTH, 64, STEPS)
    yield _vector_row("the same, episodes of 337 actions", envs, rounds, "at least 5 M")
    for answers in (0.02, None):
        plan, length = legal_actions(envs, STEPS // 2, answers)
        what = f"the same, random legal actions, {length:.0f} an episode"
        yield _vector_row(what, envs, plan, "at least 5 M" if answers else "")


def threads() -> Iterator[Row]:
    """The vector environment with two threads on two cores; baseline CartPole-v1 on one of them."""
    rounds = in_rounds(WIDTH, 64, STEPS)
    with cores(2) as used:
        envs = _vector_env(threads=2)
        for what, plan in (
            ("episodes of 337 actions", rounds),
            ("random legal actions", legal_actions(envs, STEPS // 2, 0.02)[0]),
        ):
            yield _vector_row(f"threads=2, {used} cores, {what}", envs, plan, "at least 0.8")
        envs.close()


def _vector_env(**options: Any) -> gym.vector.VectorEnv:
    return gym.make_vec(
        "AutoTTS-v0",
        WIDTH,
        vectorization_mode="vector_entry_point",
        env=BUNDLED,
        observation="compact",
        **options,
    )


def _vector_row(what: str, envs: gym.vector.VectorEnv, plan: np.ndarray, goal: str) -> Row:
    carts = gym.make_vec("CartPole-v1", WIDTH, vectorization_mode="vector_entry_point")
    coins = np.random.default_rng(0).integers(0, 2, (STEPS, WIDTH))
    measured, baseline, ratio = measure_pair(vector_steps(envs, plan), vector_steps(carts, coins))
    rate, reference = f"{measured / 1e6:.1f} M actions/s", f"CartPole-v1 {baseline / 1e6:.1f} M"
    return (what, rate, reference, f"{ratio:.2f}", goal)


def adapter() -> Iterator[Row]:
    """``Sb3VecEnv`` over the compiled vector environment; baseline ``DummyVecEnv``.

    Both play the same: all branches in turn, then random legal macro-actions. In the benchmark of
    learning, the work of the algorithm is the same on both sides.
    """
    from sb3_contrib import MaskablePPO
    from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

    from autotts_gym.gym_envs.macro_env import MacroVectorEnv
    from autotts_gym.gym_envs.vector_env import AutoTTSVectorEnv
    from autotts_gym.learning.sb3 import Sb3VecEnv

    width = 64

    def dummy(name: str) -> VecEnv:
        make = functools.partial(gym.make, name, env=BUNDLED, observation="compact")
        return DummyVecEnv([make] * width)

    def steps(envs: VecEnv, plan: np.ndarray | None, count: int) -> Rate:
        def rate() -> float:
            envs.seed(0)
            envs.reset()
            rng = np.random.default_rng(0)
            started = time.perf_counter()
            for k in range(count):
                if plan is not None:
                    actions = plan[k % len(plan)]
                else:
                    masks = np.stack(envs.env_method("action_masks"))
                    actions = (masks * rng.random(masks.shape)).argmax(axis=1)
                envs.step(actions)
            return count * width / (time.perf_counter() - started)

        return rate

    plan = np.repeat(np.array(round_robin(64, 8))[:, None], width, axis=1)
    single = AutoTTSVectorEnv(width, BUNDLED, observation="compact")
    decisions = MacroVectorEnv(width, BUNDLED)
    for what, envs, name, played, count in (
        ("actions", Sb3VecEnv(single), "AutoTTS-v0", plan, len(plan)),
        ("decisions", Sb3VecEnv(decisions), "AutoTTS-Decisions-v0", None, 100),
    ):
        measured, baseline, ratio = measure_pair(
            steps(envs, played, count), steps(dummy(name), played, max(1, count // 4))
        )
        yield (
            f"Sb3VecEnv, {width} environments, {what}",
            f"{measured:,.0f} {what}/s",
            f"DummyVecEnv {baseline:,.0f}",
            f"{ratio:.1f}",
            "at least 5",
        )

    def learning(envs: VecEnv) -> Rate:
        model = MaskablePPO("MultiInputPolicy", envs, n_steps=32, batch_size=512, n_epochs=3)
        return per_second(lambda: model.learn(32 * width), 32 * width)

    measured, baseline, ratio = measure_pair(
        learning(Sb3VecEnv(MacroVectorEnv(width, BUNDLED))),
        learning(dummy("AutoTTS-Decisions-v0")),
    )
    yield (
        "MaskablePPO learning by decisions",
        f"{measured:,.0f} decisions/s",
        f"DummyVecEnv {baseline:,.0f}",
        f"{ratio:.1f}",
        "",
    )


def decisions() -> Iterator[Row]:
    """Random macro-actions that widen, deepen and prune; with legal answers as often as others."""
    from autotts_gym.gym_envs.macro_env import MacroVectorEnv
    from autotts_gym.mdp.macro_actions import WIDEN_1

    steps = 60
    envs = MacroVectorEnv(WIDTH, BUNDLED)
    for what, answers in (("no early answers", False), ("answers at random", True)):
        opened = 0.0

        def rate(answers: bool = answers) -> float:
            nonlocal opened
            envs.reset(seed=0)
            rng = np.random.default_rng(0)
            taken = opened = 0.0
            for _ in range(steps):
                masks = envs.batch.mask * rng.random(envs.batch.mask.shape)
                masks[:, :WIDEN_1] *= answers
                actions = masks.argmax(axis=1)
                started = time.perf_counter()
                envs.step(actions)
                taken += time.perf_counter() - started
                opened += envs.batch.ledger["opened"].mean() / steps
            return steps * WIDTH / taken

        rate()
        measured = statistics.median(rate() for _ in range(ROUNDS))
        yield (
            f"decisions, {WIDTH:,} environments, {opened:.0f} open branches, {what}",
            f"{measured:,.0f} decisions/s",
            "",
            "",
            "at least 1 M",
        )


#: Updates that the benchmark of training measures, after one that is not counted; and the number of
#: timesteps of ``ppo/chain``, whose time is extrapolated.
UPDATES, TIMESTEPS = 7, 3_276_800


def training(folder: Path) -> Iterator[Row]:
    """The first updates of the training of ``ppo/chain``, on one core and on two."""
    from autotts_gym.learning.ppo import PPOTrainer
    from autotts_gym.learning.training_config import TrainingConfig

    names = [f"tinylm/{size}/chain" for size in ("small", "medium", "large")]
    stores = {name: registry.open_store(name) for name in names}
    plain = TrainingConfig()
    config = TrainingConfig((UPDATES + 1) * plain.batch_size, checkpoint_interval=UPDATES + 1)
    for count, goal in ((1, ""), (2, "under 120 s")):
        with cores(count) as used:
            torch.set_num_threads(used)
            trainer = PPOTrainer(stores, None, config, folder / f"training-{count}")
            rates: list[float] = []
            trainer.run(lambda progress, rates=rates: rates.append(progress.timesteps_per_second))
        torch.set_num_threads(1)
        rate = statistics.median(rates[1:])
        yield (
            f"training of ppo/chain, threads={count}, {used} core{'s' * (used > 1)}",
            f"{TIMESTEPS / rate:.0f} s",
            f"{rate:,.0f} timesteps/s",
            "",
            goal,
        )


def episodes(stores: Stores, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Questions and branch orders of ``count`` episodes of each store, all questions in turn."""
    (questions,) = {store.card.questions for store in stores.values()}
    seeds, rows = np.divmod(np.arange(count), questions)
    orders = [branch_order("random", s, q, 128) for s, q in zip(seeds, rows, strict=True)]
    return rows, np.array(orders)


def traces(stores: Stores) -> str:
    """Name of the stores in the table."""
    return "bundled" if list(stores) == [BUNDLED] else "published AIME24"


def per_second(play: Callable[[], object], count: int) -> Rate:
    """Rate per second of something that ``play`` does ``count`` times."""

    def rate() -> float:
        started = time.perf_counter()
        play()
        return count / (time.perf_counter() - started)

    return rate


def bulk(bundled: Stores) -> Iterator[Row]:
    """Controllers in bulk; baseline the same episodes through ``step``."""
    (store,) = bundled.values()
    terms = EpisodeConfig(billing="interval")
    rows, orders = episodes(bundled, 10 * store.card.questions)
    orders = orders[:, :64]
    for agent, beta, goal in (
        ("cmc", 0.5, "at least 20,000/s"),
        ("self_consistency", 0.0, ""),
    ):

        def rate(rollout: Rollout, count: int, beta: float = beta) -> Rate:
            return per_second(lambda: rollout.play(rows[:count], orders[:count], beta), count)

        fast, slow = (Rollout(load(agent), store, terms, interpret=i) for i in (False, True))
        measured, baseline, ratio = measure_pair(rate(fast, len(rows)), rate(slow, 30))
        actions = fast.play(rows, orders, beta).actions.mean()
        yield (
            f"{agent} in bulk" + (f", β = {beta}" if beta else ""),
            f"{measured:,.0f} episodes/s ({1e9 / measured / actions:.0f} ns an action)",
            f"through step {baseline:,.0f}",
            f"{ratio:,.0f}",
            goal,
        )


def policies() -> Iterator[Row]:
    """Trained policies whose networks are compiled; baseline the same episodes through torch."""
    torch.set_num_threads(1)
    for name, env, goal in (
        ("ppo/aime24", BUNDLED, "at least 5,000/s"),
        ("ppo/chain", "tinylm/medium/chain", "at least 1,500/s"),
    ):
        agent, store = load(name), registry.open_store(env)
        assert isinstance(agent, PolicyAgent)
        rows = np.arange(MAX_EPISODES) % store.card.questions
        orders = branch_orders("random", np.arange(len(rows)), rows, store, 64)
        arguments = agent.policy, agent.prices, TraceDataset({env: store}), EpisodeConfig()

        def rate(player: PolicyPlayer, asked: tuple[np.ndarray, ...] = (rows, orders)) -> Rate:
            return per_second(lambda: player.play(*asked, 0.5), len(asked[0]))

        compiled, by_torch = (
            PolicyPlayer(*arguments, keep_actions=False, compiles=compiles)
            for compiles in (True, False)
        )
        measured, baseline, ratio = measure_pair(rate(compiled), rate(by_torch))
        yield (
            f"{name} in bulk, β = 0.5, {env}",
            f"{measured:,.0f} episodes/s",
            f"through torch {baseline:,.0f}",
            f"{ratio:.1f}",
            goal,
        )


def against_reference(stores: Stores) -> Iterator[Row]:
    """Bulk evaluation; baseline optimised plain Python on the same episodes of all stores."""
    lists = [reference_python.questions(store) for store in stores.values()]
    rows, orders = episodes(stores, 300)
    orders = orders[:, :64]
    plain = list(zip(rows.tolist(), orders.tolist(), strict=True))
    for agent, beta, play, goal in (
        ("cmc", 0.5, reference_python.cmc(0.5), "at least 6"),
        ("parallel_probe", None, reference_python.parallel_probe, "at least 10"),
        ("self_consistency", None, reference_python.self_consistency, "at least 2"),
    ):
        # The published table bills self-consistency by generated tokens.
        billing = "tokens" if agent == "self_consistency" else "interval"
        terms = EpisodeConfig(billing=billing)
        rollouts = [Rollout(load(agent), store, terms) for store in stores.values()]

        def compiled(rollouts: list[Rollout] = rollouts, beta: float = beta or 0.0) -> None:
            for rollout in rollouts:
                rollout.play(rows, orders, beta)

        def plain_python(play: reference_python.Controller = play) -> None:
            for questions in lists:
                for row, order in plain:
                    play(questions[row], order)

        count = len(lists) * len(plain)
        measured, baseline, ratio = measure_pair(
            per_second(compiled, count), per_second(plain_python, count)
        )
        yield (
            f"{agent}{'' if beta is None else f', β = {beta}'}, {traces(stores)}",
            f"{measured:,.0f} episodes/s",
            f"plain Python {baseline:,.0f}",
            f"{ratio:.1f}",
            goal,
        )


ALL_IN_STEP = """
def solve(episode):
    while episode.can_branch():
        episode.branch()
    while episode.probe_all() + episode.extend_all() > 0:
        pass
    episode.answer()
"""

ALL_TO_THE_END = """
def solve(episode):
    while episode.can_branch():
        episode.extend_fully(episode.branch())
    episode.probe_all()
    episode.answer()
"""


def growth(bundled: Stores, folder: Path) -> Iterator[Row]:
    """Time per episode in bulk by number of episodes and by width.

    There is no baseline, so the time is the fastest of several rounds.
    """
    (store,) = bundled.values()
    counts = (100, 10_000, 1_000_000)
    rows, orders = episodes(bundled, 10_000)
    rows, orders = np.resize(rows, counts[-1]), np.resize(orders[:, :64], (counts[-1], 64))
    controller = _written(folder / "all_in_step.py", ALL_IN_STEP)

    def micros(rollout: Rollout, count: int, width: int, beta: float) -> float:
        chosen = rows[:count], np.ascontiguousarray(orders[:count, :width])
        rate = per_second(lambda: rollout.play(*chosen, beta), count)
        return 1e6 / max(rate() for _ in range(ROUNDS if count < counts[-1] else 2))

    for agent, beta in (("cmc", 0.5), ("self_consistency", 0.0)):
        rollout = Rollout(load(agent), store, EpisodeConfig(billing="interval"))
        taken = [micros(rollout, count, 64, beta) for count in counts]
        label = f"{agent}, β = {beta}" if beta else agent
        what = f"{label}: {' / '.join(f'{count:,}' for count in counts)} episodes"
        yield (what, f"{' / '.join(f'{t:.1f}' for t in taken)} µs an episode", "", "", "")
    yield from _growth_by_width(folder, controller)


def _growth_by_width(folder: Path, controller: Path) -> Iterator[Row]:
    """Time per episode and per action from 64 to 1,024 branches, on traces as wide as that."""
    wide = generate(questions=2, branches=1024, seed=0)
    store = TraceStore.open(str(wide.save(folder / "wide").path))
    rows = np.arange(200) % 2
    orders = np.array([branch_order("random", s, s % 2, 1024) for s in range(len(rows))])
    widths = (64, 128, 256, 512, 1024)
    for label, agent, beta in (
        ("cmc, β = 1", "cmc", 1.0),
        ("all in step", str(controller), 0.0),
        ("all to the end", str(_written(folder / "all_to_the_end.py", ALL_TO_THE_END)), 0.0),
    ):
        taken, per_action = [], []
        for width in widths:
            terms = EpisodeConfig(billing="interval", max_branches=width)
            rollout = Rollout(load(agent), store, terms)
            chosen = rows, np.ascontiguousarray(orders[:, :width])
            rate = per_second(functools.partial(rollout.play, *chosen, beta), len(rows))
            taken.append(1e6 / max(rate() for _ in range(ROUNDS)))
            per_action.append(1000 * taken[-1] / rollout.play(*chosen, beta).actions.mean())
        yield (
            f"{label}: {' / '.join(map(str, widths))} branches",
            f"{' / '.join(f'{t:.0f}' for t in taken)} µs an episode",
            f"{' / '.join(f'{t:.1f}' for t in per_action)} ns an action",
            "",
            "",
        )


def _written(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


@contextlib.contextmanager
def cores(count: int) -> Iterator[int]:
    """Give processes that start in this context ``count`` cores, or as many as there are."""
    if not CORES:
        yield count
        return
    os.sched_setaffinity(0, CORES[:count])
    try:
        yield len(CORES[:count])
    finally:
        os.sched_setaffinity(0, CORES[:1])


def protocol(stores: Stores, folder: Path) -> Iterator[Row]:
    """The published protocol on the command line: first without compiled code, then with it."""
    taken, count = [], 0
    for turn in ("cold", "warm"):
        command = [sys.executable, "-m", "autotts_gym", "benchmark", "--protocol", "paper"]
        command += [f"--env={name}" for name in stores]
        command += ["--workers", "2", "--out", str(folder / turn)]
        variables = {
            **os.environ,
            "AUTOTTS_ENVS": str(folder),
            "AUTOTTS_CACHE": str(folder / "cache"),
        }
        with cores(2) as used:
            started = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True, env=variables)
            taken.append(time.perf_counter() - started)
        count = pq.read_metadata(folder / turn / "episodes.parquet").num_rows
    cold, warm = taken
    yield (
        f"--protocol paper, {traces(stores)}, {used} cores",
        f"{count:,} episodes in {warm:.1f} s",
        f"nothing compiled yet {cold:.1f} s",
        f"{cold / warm:.1f}",
        "under 20 s",
    )


def sandboxed(bundled: Stores) -> Iterator[Row]:
    """Untrusted programs in a sandbox; baseline the same programs in one process without it."""
    (store,) = bundled.values()
    rows, orders = episodes(bundled, 2 * store.card.questions)
    orders = orders[:, :64]
    for agent, beta in (("cmc", 0.0), ("cmc", 0.5), ("cmc", 1.0), ("self_consistency", 0.0)):
        trusted = Rollout(load(agent), store, EpisodeConfig(), interpret=True)
        with (
            cores(2) as used,
            Sandbox(load_untrusted(str(find(agent))), store, EpisodeConfig()) as box,
        ):

            def rate(player: Rollout | Sandbox, beta: float = beta) -> Rate:
                return per_second(lambda: player.play(rows, orders, beta), len(rows))

            measured, baseline, ratio = measure_pair(rate(box), rate(trusted))
        yield (
            f"{agent} in a sandbox, {used} cores" + (f", β = {beta}" if agent == "cmc" else ""),
            f"{measured:,.0f} episodes/s",
            f"through step {baseline:,.0f}",
            f"{ratio:.2f}",
            "at least 0.67",
        )


_START = """
import time
started = time.perf_counter()
import autotts_gym
imported = time.perf_counter() - started
def resident(kind):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(kind)) / 1024
kinds = ("VmRSS", "RssAnon") if {memory} else ()
before = [resident(kind) for kind in kinds]
started = time.perf_counter()
import gymnasium
gymnasium.make("AutoTTS-v0", env={env!r}).reset(seed=0)
grown = [resident(kind) - size for kind, size in zip(kinds, before)] or [0, 0]
print(imported, time.perf_counter() - started, *grown)
"""


def start(env: str) -> tuple[float, float, float, float]:
    """Seconds of the import and of the first reset, and memory above the bare import, MB.

    The latter in all, and the part that is not mapped from files, which processes share.
    """
    memory = Path("/proc/self/status").exists()
    script = _START.format(env=env, memory=memory)
    runs = []
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", script], check=True, capture_output=True, text=True
        )
        runs.append([float(figure) for figure in done.stdout.split()])
    imported, reset, size, own = (statistics.median(column) for column in zip(*runs, strict=True))
    return imported, reset, size, own


def loading(published: Stores, folder: Path) -> Iterator[Row]:
    """Import, loading of stores, and large stores."""
    imported, reset, _, _ = start(BUNDLED)
    yield ("import autotts_gym", f"{imported:.2f} s", "", "", "under 1 s")
    yield ("gym.make and first reset, compiled code kept", f"{reset:.2f} s", "", "", "under 5 s")
    if published:
        _, _, size, own = start(str(folder / "published"))
        what = f"{len(published)} published files loaded and played"
        measured = f"{size:.0f} MB above the bare import"
        yield (what, measured, f"not from files {own:.0f} MB", "", "under 150 MB")
        name, store = max(published.items(), key=lambda item: item[1].card.probes)
        source = PUBLISHED / f"{name.removeprefix('published/')}.json"

        def read_store() -> float:
            started = time.perf_counter()
            _ = TraceStore.open(str(store.path)).tables
            return 1 / (time.perf_counter() - started)

        def read_json() -> float:
            started = time.perf_counter()
            json.loads(source.read_text("utf-8"))
            return 1 / (time.perf_counter() - started)

        measured, baseline, ratio = measure_pair(read_store, read_json)
        yield (
            "load an imported published cell",
            f"{1000 / measured:.1f} ms",
            f"json.load of the file {1000 / baseline:.1f} ms",
            f"{ratio:.1f}",
            "at least 1",
        )
    else:
        yield not_measured("published files", "set AUTOTTS_PUBLISHED to their folder")
    large = generate(questions=10_000, branches=128, seed=0)
    probes = large.card.probes
    path = large.save(folder / "large").path
    del large
    started = time.perf_counter()
    TraceStore.open(str(path))
    opened = time.perf_counter() - started
    what = f"10,000 × 128 branches ({probes / 1e6:.0f} M probes)"
    yield (f"{what}: open", f"{1000 * opened:.1f} ms", "", "", "under 100 ms")
    if not Path("/proc/self/status").exists():
        return
    # VmHWM, not rusage, whose maximum includes the process before exec.
    script = (
        "import autotts_gym, gymnasium\n"
        f"env = gymnasium.make('AutoTTS-v0', env={str(path)!r}); env.reset(seed=0); env.step(1)\n"
        "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    peak = int(done.stdout) / 1024
    yield (f"{what}: play", f"{peak:,.0f} MB at most", "", "", "under 1,024 MB")


def discovery(stores: Stores, folder: Path) -> Iterator[Row]:
    """A β sweep of a program, once per question: as a tree, as source, and in the sandbox."""
    search = SearchSet(stores, seeds=1)
    tree = seed_programs()["fading"]
    (folder / "fading.py").write_text(generate_source(tree, "A program."), "utf-8")
    tree_rollout = TreeRollout(search)
    written = load(str(folder / "fading.py"))
    untrusted = load_untrusted(str(folder / "fading.py"))

    def sweeps(players: list[Rollout] | list[Sandbox], count: int) -> Rate:
        def play() -> None:
            for _ in range(count):
                search.sweep(lambda e, *asked: players[e].play(*asked[:3]), uses_latency=False)

        return per_second(play, count)

    configured = list(zip(search.stores, search.configs, strict=True))
    compiled, plain = (
        [Rollout(written, store, config, interpret=interpret) for store, config in configured]
        for interpret in (False, True)
    )
    size = f"{len(BETAS)} β × {len(search.stores)} × {len(search.questions)}"
    measured, baseline, ratio = measure_pair(
        per_second(lambda: [tree_rollout.sweep(tree) for _ in range(20)], 20), sweeps(compiled, 20)
    )
    yield (
        f"a program's sweep as a tree, {size}",
        f"{measured:,.0f} sweeps/s",
        f"its source, compiled {baseline:,.0f}",
        f"{ratio:.2f}",
        "",
    )
    with cores(2) as used, contextlib.ExitStack() as stack:
        boxes = [
            stack.enter_context(Sandbox(untrusted, store, config)) for store, config in configured
        ]
        measured, baseline, ratio = measure_pair(sweeps(boxes, 1), sweeps(plain, 1))
    yield (
        f"the same sweep in a sandbox, {used} cores",
        f"{measured:,.2f} sweeps/s",
        f"its source as plain Python {baseline:,.2f}",
        f"{ratio:.2f}",
        "at least 0.67",
    )


def not_measured(what: str, why: str) -> Row:
    """A note in place of rows that cannot be measured here."""
    return (f"{what}: not measured", why[:80], "", "", "")


def noted(name: str, group: Callable[[], Iterator[Row]]) -> Iterator[Row]:
    """The rows of a group; an error ends the group with a note.

    The system may refuse namespaces to the sandbox, for example.
    """
    try:
        yield from group()
    except Exception as error:
        output = getattr(error, "stderr", None) or str(error)
        lines = (output.decode() if isinstance(output, bytes) else output).strip().splitlines()
        yield not_measured(name, f"{type(error).__name__}: {lines[-1] if lines else ''}")


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        bundled = registry.open_stores(BUNDLED)

        @functools.cache
        def published() -> Stores:
            return import_published(PUBLISHED, "published", folder) if PUBLISHED.is_dir() else {}

        def aime24() -> Stores:
            return {n: s for n, s in published().items() if n.endswith("/aime24")} or bundled

        def searches() -> Iterator[Row]:
            for stores in (aime24(), registry.open_stores("tinylm/medium/chain")):
                yield from discovery(stores, folder)

        groups: dict[str, Callable[[], Iterator[Row]]] = {
            "stepping": stepping,
            "vectors": vectors,
            "threads": threads,
            "adapter": adapter,
            "decisions": decisions,
            "training": lambda: training(folder),
            "bulk": lambda: bulk(bundled),
            "policies": policies,
            "reference": lambda: against_reference(aime24()),
            "growth": lambda: growth(bundled, folder),
            "sandbox": lambda: sandboxed(bundled),
            "protocol": lambda: protocol(aime24(), folder),
            "discovery": searches,
            "loading": lambda: loading(published(), folder),
        }
        parser = argparse.ArgumentParser(description=__doc__)
        parser.add_argument(
            "--only",
            default=",".join(groups),
            metavar="GROUPS",
            help=f"groups of rows, separated by commas: {', '.join(groups)}; all by default",
        )
        chosen = parser.parse_args().only.split(",")
        unknown = sorted(set(chosen) - set(groups))
        if unknown:
            parser.error(f"there is no group {', '.join(unknown)}; there are {', '.join(groups)}")
        title = f"autotts_gym {autotts_gym.__version__}, one core unless said otherwise"
        table = Table(title=title, title_justify="left", box=None, pad_edge=False)
        table.add_column("benchmark")
        for heading in ("measured", "baseline", "ratio", "goal"):
            table.add_column(heading, justify="right")
        console = Console(width=140)
        with console.status("measuring") as status:
            for name in chosen:
                status.update(f"measuring {name}")
                for row in noted(name, groups[name]):
                    table.add_row(*row)
    console.print(table)


if __name__ == "__main__":
    main()
