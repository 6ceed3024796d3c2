"""The environments that come along: traces of the tiny models, collected by vLLM."""

from __future__ import annotations

import functools
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from autotts_gym.collection.collector import Plan, Progress
from autotts_gym.collection.pipeline import collect_store
from autotts_gym.collection.question_files import AskedQuestion
from autotts_gym.inference.engine import Sampling
from autotts_gym.inference.http_engine import ServerEngine
from autotts_gym.inference.vllm_server import serve
from autotts_gym.tinylm.task import questions
from autotts_gym.traces import splits

#: The question sets: what is searched on, and what is held out.
SEARCH: Final = "chain"
HELD_OUT: Final = "chain-hard"

#: How the tiny models are served; about 1 GB of memory.
SERVING: Final[dict[str, Any]] = {
    "max_model_len": 1024,
    "max_num_seqs": 256,
    "max_num_batched_tokens": 4096,
    "enforce_eager": True,
    "dtype": "bfloat16",
    # vLLM 0.32 on a CPU dies of a seeded request whose prompt is read in two steps.
    "enable_chunked_prefill": False,
}

#: What is collected of them: intervals are as short as the traces are.
PLAN: Final = Plan(branches=128, interval=16, max_tokens=768, sampling=Sampling(temperature=0.8))


def cpu_settings() -> None:
    """Have vLLM take what a small machine has, where nothing else was said."""
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")


def asked(benchmark: str) -> list[AskedQuestion]:
    """The questions of a set, as a collection asks them."""
    return [AskedQuestion(*question) for question in questions(benchmark)]


def collect_all(
    models: Path,
    folder: Path,
    sizes: list[str],
    plan: Plan = PLAN,
    progress: Callable[[str, Progress], None] = lambda *_: None,
) -> list[str]:
    """Serve each model with vLLM, and collect both question sets from it.

    Args:
        models: folder with a model for each size.
        folder: where ``SIZE/chain`` and ``SIZE/chain-hard`` are written, and ``set.yaml``.
        sizes: which models.
        plan: what is collected.
        progress: called with an environment's name and how far it is.

    Returns:
        The names of the environments that were made; those that are there already are left alone.
    """
    cpu_settings()
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for size in sizes:
        missing = [b for b in (SEARCH, HELD_OUT) if not (folder / size / b).exists()]
        if not missing:
            continue
        name = f"tinylm-{size}"
        # Another seed each time: a resumed collection must not draw what it has already.
        seed = secrets.randbelow(2**31)
        with serve(models / size, served_model_name=name, seed=seed, **SERVING) as url:
            for benchmark in missing:
                env = f"{size}/{benchmark}"
                collect_store(
                    ServerEngine(url),
                    asked(benchmark),
                    plan,
                    folder / env,
                    protocol="tinylm",
                    benchmark=benchmark,
                    texts=True,
                    model=name,
                    progress=functools.partial(progress, env),
                )
                made.append(env)
    (folder / splits.SET).write_text(splits.dump([f"*/{SEARCH}"], [f"*/{HELD_OUT}"]), "utf-8")
    return made
