"""``benchmark``: plays controllers on environments, as ``autotts benchmark`` does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from autotts_gym.api.benchmark_result import BenchmarkResult
from autotts_gym.api.catalogue import StrPath, load_controllers, open_envs
from autotts_gym.api.number_lists import beta_list, integer_list
from autotts_gym.utils.keywords import suggest_keywords

if TYPE_CHECKING:
    from autotts_gym.controllers.agent import Agent
    from autotts_gym.traces.store import TraceStore


def _no_progress(label: str, episodes: int) -> None:
    """Ignore the progress of a benchmark."""


@suggest_keywords()
def benchmark(
    controllers: StrPath
    | Callable[..., Any]
    | Agent
    | Iterable[StrPath | Callable[..., Any] | Agent] = (),
    envs: StrPath
    | TraceStore
    | Iterable[StrPath | TraceStore]
    | Mapping[str, TraceStore]
    | None = None,
    *,
    betas: float | str | Iterable[float] | None = None,
    seeds: int | str | Iterable[int] | None = None,
    protocol: Literal["paper", "field"] | None = None,
    order: Literal["published", "random"] | None = None,
    billing: Literal["tokens", "interval"] | None = None,
    out: StrPath = "results",
    max_branches: int | None = None,
    budget: int | None = None,
    action_limit: int | None = None,
    latency_weight: float = 0.0,
    time_limit: float = 10.0,
    workers: int | None = None,
    ray: str | None = None,
    interpret: bool = False,
    untrusted: bool = False,
    weaker_sandbox: bool = False,
    progress: Callable[[str, int], None] = _no_progress,
) -> BenchmarkResult:
    """Benchmark controllers on environments; write episodes, summary and plots to ``out``.

    Every controller plays every question of every environment once per seed, and per β if it takes
    β. Episodes that are already in ``out`` are not played again, so an interrupted call resumes.

    Worker processes import the main module. A script must therefore call this function below
    ``if __name__ == "__main__":``, or pass ``workers=0``; a notebook does not need this.

    Args:
        controllers: controllers as for :func:`~autotts_gym.load_controller`, one or several.
        envs: names, paths or trace stores, one or several; default ``qwen2.5-coder-0.5b/problems``.
        betas: values of β for controllers that take β; default 0, 0.5 and 1.
        seeds: seeds of the branch orders, as numbers or text such as ``"0-9"``, the default.
        protocol: ``"paper"``: reproduce the published table. Adds the published controllers, and
            sets ``order``, ``billing`` and the defaults of ``betas`` and ``seeds``. ``"field"``:
            compare all bundled controllers. Adds them, and sets the default of ``betas``.
        order: ``"random"`` (default): one branch order per question and seed; ``"published"``: one
            per seed, the same for all questions.
        billing: bill generated tokens (``"tokens"``, the default) or every started interval in
            full (``"interval"``).
        out: folder of the results.
        max_branches: N, maximum number of branches of an episode; default 64, or the smallest
            number of branches of a question.
        budget: B, maximum total tokens of an episode; None for no budget.
        action_limit: number of actions after which an episode fails; None for no limit.
        latency_weight: w, the weight of sequential tokens in the cost, from 0 to 1, which
            controllers can read; it changes no figure of controllers that do not.
        time_limit: seconds after which an episode fails: computing and sleeping count, waiting for
            a processor does not.
        workers: number of worker processes; default one per core. 0 plays in this process, where
            ``time_limit`` is not enforced.
        ray: address of a Ray cluster to play on, ``"HOST:PORT"`` or ``"auto"``.
        interpret: run controllers as plain Python even if they can be compiled.
        untrusted: run controllers that are given as ``.py`` files in a sandbox.
        weaker_sandbox: do so even if the sandbox of this machine lacks a protection.
        progress: called with a label and the number of episodes that were just finished.

    Raises:
        ValueError: an argument is out of range, or no controller is given.
        AgentError: a controller cannot be loaded.
        MissingProtectionError: a controller needs a sandbox, and this machine's lacks a
            protection.
        TraceError: an environment cannot be loaded.
        TypeError: an unknown keyword argument; the message suggests a similar one.
    """
    from autotts_gym.evaluation.backends import create_pool
    from autotts_gym.evaluation.benchmark_session import (
        default_betas,
        default_seeds,
        plan_benchmark,
        play_benchmark,
    )

    stores = open_envs(envs)
    plan = plan_benchmark(
        load_controllers(controllers, untrusted, weaker_sandbox),
        default_betas(protocol) if betas is None else beta_list(betas),
        integer_list(default_seeds(protocol) if seeds is None else seeds, "seeds"),
        protocol=protocol,
        order=order,
        billing=billing,
        stores=stores,
        max_branches=max_branches,
        budget=budget,
        action_limit=action_limit,
        latency_weight=latency_weight,
    )
    results, analysis = play_benchmark(
        plan,
        stores,
        out,
        interpret=interpret,
        pool=create_pool(workers, time_limit, ray),
        progress=progress,
    )
    return BenchmarkResult(results, Path(out), analysis)
