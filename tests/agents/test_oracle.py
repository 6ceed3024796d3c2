"""Published traces: every episode equals that of a reference evaluation.

The traces are their authors' and not in this tree; the tests read them where AUTOTTS_PUBLISHED and
AUTOTTS_ORACLES say, and are skipped, saying so, where there are none.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import gymnasium as gym
import numpy as np
import pyarrow.parquet as pq
import pytest

from autotts_gym.cli import main
from autotts_gym.controllers.loader import load
from autotts_gym.rollout.branch_orders import branch_order
from autotts_gym.traces import registry

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SHARED = Path(__file__).parents[3] / "shared"
PUBLISHED = Path(os.environ.get("AUTOTTS_PUBLISHED", SHARED / "data" / "autotts_release"))
ORACLES = Path(os.environ.get("AUTOTTS_ORACLES", SHARED / "oracles" / "aime24.json"))

MODELS = ("Qwen3-0.6B", "Qwen3-1.7B", "Qwen3-4B", "Qwen3-8B")
SEEDS = 10

FILES = {model: PUBLISHED / model / "aime24.json" for model in MODELS}
MISSING = [str(path) for path in (*FILES.values(), ORACLES) if not path.is_file()]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(MISSING),
        reason=f"no {', '.join(MISSING)}: set AUTOTTS_PUBLISHED and AUTOTTS_ORACLES",
    ),
]


class Row(NamedTuple):
    """Name of an oracle's controller here, and its billing."""

    agent: str
    beta: float | None
    billing: str
    sequential: tuple[float, ...]  # mean over all episodes, thousands of tokens, by model


CONTROLLERS = {
    "sc64": Row("self_consistency", None, "tokens", (33.0, 31.4, 29.0, 29.7)),
    "asc64": Row("asc", None, "tokens", (807.0, 472.0, 215.4, 230.8)),
    "esc64": Row("esc", None, "tokens", (193.2, 168.8, 95.7, 81.5)),
    "pp64": Row("parallel_probe", None, "interval", (21.3, 20.4, 19.8, 21.3)),
    "cmc0": Row("cmc", 0.0, "interval", (22.1, 19.9, 15.7, 16.2)),
    "cmc0.5": Row("cmc", 0.5, "interval", (34.5, 25.3, 19.9, 21.1)),
    "cmc1.0": Row("cmc", 1.0, "interval", (43.0, 28.6, 22.9, 24.2)),
}
CELLS = [(controller, model) for controller in CONTROLLERS for model in MODELS]


@functools.cache
def oracle() -> dict[str, dict[str, list[list[tuple[int, int]]]]]:
    """``[model][controller][seed][question] = [correct, total tokens]``."""
    found: dict[str, dict[str, list[list[tuple[int, int]]]]] = json.loads(ORACLES.read_text())
    return found


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The published files as environments, converted by ``autotts import``."""
    folder = tmp_path_factory.mktemp("published")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(folder))
        for model, file in FILES.items():
            command("import", str(file), "--name", f"published/{model}/aime24")
        yield folder


def command(*arguments: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0


class Episode(NamedTuple):
    """Compared columns of a row of episodes.parquet."""

    agent: str
    beta: float | None
    env: str
    seed: int
    question: int
    correct: bool
    answer: str
    tokens: int
    sequential_tokens: int
    actions: int
    probes: int


@pytest.fixture(scope="module")
def episodes(published: Path) -> dict[tuple[str, str], list[Episode]]:
    """Results of ``autotts benchmark``, by controller and model."""
    found: dict[tuple[str, str], list[Episode]] = {}
    for billing in ("tokens", "interval"):
        rows = [row for row in CONTROLLERS.values() if row.billing == billing]
        betas = ",".join(str(row.beta) for row in rows if row.beta is not None)
        command(
            "benchmark",
            *dict.fromkeys(row.agent for row in rows),
            *("--env", "published", "--order", "published", "--billing", billing),
            *(("--beta", betas) if betas else ()),
            *("--seeds", f"0-{SEEDS - 1}", "--out", str(published / billing)),
        )
        table = pq.read_table(published / billing / "episodes.parquet")
        for values in table.to_pylist():
            episode = Episode(**{name: values[name] for name in Episode._fields})
            (controller,) = [
                name
                for name, row in CONTROLLERS.items()
                if (row.agent, row.beta, row.billing) == (episode.agent, episode.beta, billing)
            ]
            found.setdefault((controller, episode.env.split("/")[1]), []).append(episode)
    return found


def test_all_episodes_exist(episodes: dict[tuple[str, str], list[Episode]]) -> None:
    assert sorted(episodes) == sorted(CELLS)
    everything = [(s, q) for s in range(SEEDS) for q in range(30)]
    for cell in episodes.values():
        assert [(e.seed, e.question) for e in cell] == everything
    assert sum(map(len, episodes.values())) == 8400


@pytest.mark.parametrize(("controller", "model"), CELLS)
def test_every_episode_agrees(
    controller: str, model: str, episodes: dict[tuple[str, str], list[Episode]]
) -> None:
    wanted = oracle()[model][controller]
    for e in episodes[controller, model]:
        assert [int(e.correct), e.tokens] == wanted[e.seed][e.question], (e.seed, e.question)


@pytest.mark.parametrize(("controller", "model"), CELLS)
def test_sequential_tokens_agree_as_printed(
    controller: str, model: str, episodes: dict[tuple[str, str], list[Episode]]
) -> None:
    mean = np.mean([e.sequential_tokens for e in episodes[controller, model]]) / 1000
    printed = CONTROLLERS[controller].sequential[MODELS.index(model)]
    assert f"{mean:.1f}" == f"{printed:.1f}"


@pytest.mark.slow
@pytest.mark.parametrize(("controller", "model"), CELLS)
def test_a_sample_agrees_through_step(
    controller: str,
    model: str,
    published: Path,
    episodes: dict[tuple[str, str], list[Episode]],
) -> None:
    """28 samples of 10 episodes, one per seed, over most questions."""
    name, beta, billing, _ = CONTROLLERS[controller]
    agent = load(name)
    env = gym.make(
        "AutoTTS-v0", env=f"published/{model}/aime24", billing=billing, info_strings=True
    )
    bulk = {(e.seed, e.question): e for e in episodes[controller, model]}
    offset = CELLS.index((controller, model))
    for seed in range(SEEDS):
        question = (offset + 7 * seed) % 30
        info = agent.play(
            env,
            question=question,
            beta=beta,
            branch_order=branch_order("published", seed, question, 128),
        )
        e = bulk[seed, question]
        found = (info["correct"], info["answer"], info["tokens"], info["sequential_tokens"])
        assert (*found, info["steps"], info["probes"]) == (
            e.correct,
            e.answer,
            e.tokens,
            e.sequential_tokens,
            e.actions,
            e.probes,
        )
        wanted = oracle()[model][controller][seed][question]
        assert [int(info["correct"]), info["tokens"]] == wanted


#: The controllers as published-style programs.
PROGRAMS = {
    "sc64": "SelfConsistency",
    "asc64": "AdaptiveSelfConsistency",
    "esc64": "EarlyStoppingSelfConsistency",
    "pp64": "ParallelProbe",
    "cmc0": "OptimalController",
    "cmc0.5": "OptimalController",
    "cmc1.0": "OptimalController",
}


@pytest.mark.slow
@pytest.mark.parametrize(("controller", "model"), CELLS)
def test_published_programs_agree_on_a_sample(controller: str, model: str, published: Path) -> None:
    """28 samples of 10 episodes, one per seed, over other questions than above.

    One environment, billed by interval, serves all: programs that ask for final answers are
    billed by what was generated, whatever the environment's billing.
    """
    agent = load(f"{BENCHMARKS / 'programs.py'}:{PROGRAMS[controller]}")
    env = gym.make("AutoTTS-v0", env=f"published/{model}/aime24", billing="interval")
    offset = 13 + CELLS.index((controller, model))
    for seed in range(SEEDS):
        question = (offset + 11 * seed) % 30
        info = agent.play(
            env,
            question=question,
            beta=CONTROLLERS[controller].beta,
            branch_order=branch_order("published", seed, question, 128),
        )
        wanted = oracle()[model][controller][seed][question]
        assert [int(info["correct"]), info["tokens"]] == wanted, (seed, question)


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_every_episode_of_the_plain_python_reference_agrees(model: str, published: Path) -> None:
    """``benchmarks/reference_python.py``, the speed baseline of bulk evaluation."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        reference = importlib.import_module("reference_python")
    (store,) = registry.open_stores(f"published/{model}/aime24").values()
    questions = reference.questions(store)
    controllers = {
        "sc64": reference.self_consistency,
        "pp64": reference.parallel_probe,
        "cmc0": reference.cmc(0.0),
        "cmc0.5": reference.cmc(0.5),
        "cmc1.0": reference.cmc(1.0),
    }
    for controller, play in controllers.items():
        for seed in range(SEEDS):
            order = branch_order("published", seed, 0, 128).tolist()
            found = [list(play(question, order)) for question in questions]
            assert found == oracle()[model][controller][seed], (controller, seed)


def test_published_orders_equal_the_reference() -> None:
    import random

    for seed in range(3):
        order = list(range(128))
        random.Random(seed).shuffle(order)
        assert branch_order("published", seed, seed + 5, 128).tolist() == order
