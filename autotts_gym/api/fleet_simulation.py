"""``simulate`` and ``calibrate``: what β costs on a fleet of model servers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from autotts_gym.api.catalogue import StrPath, load_controllers, load_env, open_envs
from autotts_gym.api.number_lists import beta_list, integer_list
from autotts_gym.utils.keywords import suggest_keywords

if TYPE_CHECKING:
    from autotts_gym.controllers.agent import Agent
    from autotts_gym.inference.server_apis import Api
    from autotts_gym.simulation import ServerCurve, SimulationResult
    from autotts_gym.simulation.simulation_plan import Routing
    from autotts_gym.traces.store import TraceStore

#: From this many tokens of a branch on, calibration puts text before its branches by default.
_LONG_BRANCH = 1000


@suggest_keywords()
def simulate(
    controllers: StrPath
    | Callable[..., Any]
    | Agent
    | Iterable[StrPath | Callable[..., Any] | Agent],
    envs: StrPath
    | TraceStore
    | Iterable[StrPath | TraceStore]
    | Mapping[str, TraceStore]
    | None = None,
    *,
    curve: ServerCurve | StrPath,
    rates: float | Iterable[float] = (),
    arrivals: StrPath | ArrayLike | None = None,
    servers: int = 1,
    betas: float | str | Iterable[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
    questions: int = 100_000,
    seeds: int | str | Iterable[int] = "0-9",
    seed: int = 0,
    max_branches: int | None = None,
    budget: int | None = None,
    latency_weight: float = 0.0,
    routing: Routing = "least_loaded",
    max_episodes: int = 4096,
    gpu_hour: float | None = None,
    gpus_per_server: int = 1,
    warm_up: float | None = None,
    workers: int | None = None,
    out: StrPath | None = None,
    progress: Callable[[str, int], None] = lambda *_: None,
) -> SimulationResult:
    """Simulate a fleet of model servers that answers questions with controllers.

    Every controller at every β plays recorded episodes, which share the servers: their requests
    run at the measured rate, wait for each other, and end as those of live episodes do.

    Args:
        controllers: controllers as for :func:`~autotts_gym.load_controller`, one or several.
        envs: names, paths or trace stores, one or several; default ``qwen2.5-coder-0.5b/problems``.
        curve: how fast a server generates: a curve, or its file (:func:`~autotts_gym.calibrate`).
        rates: mean arrivals, questions per second; each is a load with Poisson arrivals.
        arrivals: instead of ``rates``, arrival times in seconds, or a file with one on each line.
        servers: number of servers.
        betas: values of β for controllers that take β.
        questions: number of questions at each rate.
        seeds: seeds of the branch orders, as numbers or text such as ``"0-9"``; more of them give
            more different episodes.
        seed: seed of the arrivals.
        max_branches: N, maximum number of branches of an episode; default 64, or the smallest
            number of branches of a question.
        budget: B, maximum total tokens of an episode; None for no budget.
        latency_weight: w, which controllers can read.
        routing: ``"least_loaded"``, ``"sticky"`` or ``"round_robin"``; see
            :class:`~autotts_gym.simulation.simulation_plan.Fleet`.
        max_episodes: largest number of questions in progress; further ones wait.
        gpu_hour: price of a GPU for an hour, for costs.
        gpus_per_server: number of GPUs of a server.
        warm_up: share of the first questions that times leave out; default 0.1 with ``rates``, else
            0.
        workers: number of threads; default one per core.
        out: folder for ``simulation.csv``, ``simulation.json`` and ``simulation.html``; None for no
            files. Finished points are kept there, so an interrupted call resumes.
        progress: called with a label and the number of questions that were just simulated.

    Raises:
        ValueError: an argument is out of range, or a file is not valid.
        AgentError: a controller cannot be loaded.
        TraceError: an environment cannot be loaded.
        TypeError: an unknown keyword argument; the message suggests a similar one.
    """
    from autotts_gym.mdp.trace_dataset import EpisodeConfig
    from autotts_gym.simulation import Fleet, ServerCurve, SimulationPlan, run_simulation
    from autotts_gym.simulation.arrivals import check_arrivals, read_arrivals
    from autotts_gym.traces.branch_width import default_width

    stores = open_envs(envs)
    width = default_width(stores.values()) if max_branches is None else max_branches
    times = None
    if isinstance(arrivals, str | Path):
        times = read_arrivals(arrivals)
    elif arrivals is not None:
        times = check_arrivals(np.asarray(arrivals, np.float64))
    plan = SimulationPlan(
        agents=load_controllers(controllers),
        betas=beta_list(betas),
        stores=stores,
        seeds=integer_list(seeds, "seeds"),
        config=EpisodeConfig(max_branches=width, budget=budget, latency_weight=latency_weight),
        fleet=Fleet(
            curve if isinstance(curve, ServerCurve) else ServerCurve.load(curve),
            servers,
            routing,
            max_episodes,
            gpus_per_server,
            gpu_hour,
        ),
        rates=[float(rates)] if isinstance(rates, int | float) else [float(r) for r in rates],
        arrivals=times,
        questions=questions,
        seed=seed,
        warm_up=(0.1 if times is None else 0.0) if warm_up is None else warm_up,
    )
    folder = None if out is None else Path(out)
    return run_simulation(plan, folder, workers=workers, progress=progress)


@suggest_keywords()
def calibrate(
    base_url: str,
    reference: StrPath,
    *,
    out: StrPath | None = None,
    seconds: float = 60.0,
    max_sequences: int = 256,
    context: int | None = None,
    questions: Sequence[str] | None = None,
    model: str | None = None,
    protocol: StrPath | None = None,
    api: Api = "tokens",
    api_key: str | None = None,
    headers: Mapping[str, str] | None = None,
    generation_confidence: bool = True,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> ServerCurve:
    """Measure how fast a server generates, by the number of its concurrent sequences.

    Nothing else should use the server meanwhile.

    Args:
        base_url: URL of an OpenAI-compatible server, such as ``http://127.0.0.1:8000/v1``.
        reference: an environment collected from the server's model; its card provides protocol,
            sampling and maximum length, and its questions are asked.
        out: file that the curve is written to; None for no file.
        seconds: how long the measurement takes; slow servers may take longer.
        max_sequences: largest number of sequences that the server generates at a time (vLLM's
            ``--max-num-seqs``).
        context: tokens that are put before every branch, because servers generate long branches
            more slowly; default half the mean branch of the reference if that has 1,000 tokens or
            more, else 0.
        questions: questions to ask; default those of the reference.
        model: the model's name on the server.
        protocol: the model protocol; default that of the reference.
        api, api_key, headers, generation_confidence: as for :func:`~autotts_gym.solve`.
        progress: called with the number of concurrent requests, and the largest one.

    Raises:
        EngineError: the server failed, or it answered too few requests in the time.
        TraceError: the reference cannot be loaded.
        ValueError: an argument is out of range.
        TypeError: an unknown keyword argument; the message suggests a similar one.
    """
    from autotts_gym.live.connection import connect
    from autotts_gym.simulation.calibration import measure_curve

    store = load_env(reference)
    if context is None:
        mean = store.card.mean_tokens
        context = round(mean / 2) if mean >= _LONG_BRANCH else 0
    with connect(
        base_url,
        model,
        reference=reference,
        protocol=protocol,
        api=api,
        api_key=api_key,
        headers=headers,
        generation_confidence=generation_confidence,
    ) as live:
        curve = measure_curve(
            live,
            [question.text for question in store] if questions is None else questions,
            max_sequences=max_sequences,
            seconds=seconds,
            context=context,
            progress=progress,
        )
    if out is not None:
        curve.save(out)
    return curve
