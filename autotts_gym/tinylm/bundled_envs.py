"""Collection of the bundled environments: traces of the tiny models, sampled with vLLM."""

from __future__ import annotations

import functools
import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from autotts_gym.collection.asked_question import AskedQuestion
from autotts_gym.collection.collector import CollectionProgress
from autotts_gym.collection.pipeline import collect_store
from autotts_gym.collection.plan import CollectionPlan
from autotts_gym.inference.engine import Sampling
from autotts_gym.inference.http_engine import ServerEngine
from autotts_gym.inference.processor_dtype import processor_dtype
from autotts_gym.inference.vllm_server import serve
from autotts_gym.tinylm.question_sets import questions
from autotts_gym.traces import splits
from autotts_gym.utils.files import write_text

#: Names of the question sets: the search set and the held-out set.
SEARCH_SET: Final = "chain"
HELD_OUT_SET: Final = "chain-hard"

#: Arguments of vLLM for the tiny models; the server takes about 1 GB of memory.
SERVER_ARGUMENTS: Final[dict[str, Any]] = {
    "max_model_len": 1024,
    "max_num_seqs": 256,
    "max_num_batched_tokens": 4096,
    "enforce_eager": True,
    "dtype": processor_dtype(),
    # vLLM 0.32 on a CPU crashes on a seeded request whose prompt is read in two steps.
    "enable_chunked_prefill": False,
    # The model runs in the engine's process. On a CPU, vLLM would start a worker for it, and the
    # two wait for each other in loops that take the processors from everything else.
    "distributed_executor_backend": "vllm.v1.executor.uniproc_executor.UniProcExecutor",
}

#: How the bundled environments are collected. The interval is short because the traces are short.
COLLECTION_PLAN: Final = CollectionPlan(
    branches=128, interval=16, max_tokens=768, sampling=Sampling(temperature=0.8)
)


def set_cpu_defaults() -> None:
    """Set environment variables of vLLM for a small CPU machine, unless they are set already."""
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # leaves cores to server and clients


def collection_questions(name: str) -> list[AskedQuestion]:
    """Return the questions of a set in the form that a collection takes."""
    return [AskedQuestion(*question) for question in questions(name)]


def collect_bundled_envs(
    models: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    sizes: Sequence[str],
    plan: CollectionPlan = COLLECTION_PLAN,
    progress: Callable[[str, CollectionProgress], None] = lambda *_: None,
) -> list[str]:
    """Serve each model with vLLM and collect both question sets from it.

    Environments that exist already are skipped.

    Args:
        models: folder with one model folder for each size.
        folder: target folder of ``SIZE/chain``, ``SIZE/chain-hard`` and ``set.yaml``.
        sizes: names of the models.
        plan: what is collected.
        progress: called with an environment's name and its progress.

    Returns:
        The names of the environments that were collected.
    """
    models, folder = Path(models), Path(folder)
    set_cpu_defaults()
    folder.mkdir(parents=True, exist_ok=True)
    collected = []
    for size in sizes:
        missing = [b for b in (SEARCH_SET, HELD_OUT_SET) if not (folder / size / b).exists()]
        if not missing:
            continue
        name = f"tinylm-{size}"
        # A new seed each time: a resumed collection must not repeat samples that it already has.
        seed = secrets.randbelow(2**31)
        with serve(models / size, served_model_name=name, seed=seed, **SERVER_ARGUMENTS) as url:
            for benchmark in missing:
                env = f"{size}/{benchmark}"
                collect_store(
                    ServerEngine(url),
                    collection_questions(benchmark),
                    plan,
                    folder / env,
                    protocol="tinylm",
                    benchmark=benchmark,
                    texts=True,
                    model=name,
                    progress=functools.partial(progress, env),
                )
                collected.append(env)
    write_text(folder / splits.SET, splits.dump([f"*/{SEARCH_SET}"], [f"*/{HELD_OUT_SET}"]))
    return collected
