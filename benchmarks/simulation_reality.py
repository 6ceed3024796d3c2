"""A simulation against reality: the same arrivals on real vLLM, and simulated.

A bundled tiny model is served by vLLM, and its curve is measured as by ``autotts simulate
--calibrate``. Questions then arrive as a Poisson process, and each is answered by a live episode
of its own, concurrently with the others (:func:`autotts_gym.deployment.solver.solve_async`). The
same arrivals of the same questions are simulated from the recorded traces of the model.

The server, the episodes and everything else share the processors, so measure on an idle machine:
the load of other programs is printed with the results.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from autotts_gym.controllers.loader import load
from autotts_gym.deployment.solver import Solution, solve_async
from autotts_gym.inference.vllm_server import serve
from autotts_gym.live.connection import connect
from autotts_gym.live.live_model import LiveModel
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.simulation.arrivals import poisson_arrivals
from autotts_gym.simulation.calibration import measure_curve
from autotts_gym.simulation.request_schedules import play_schedules
from autotts_gym.simulation.server_curve import ServerCurve
from autotts_gym.simulation.simulated_load import simulate_load
from autotts_gym.simulation.simulation_plan import Fleet
from autotts_gym.tinylm import model_path
from autotts_gym.tinylm.bundled_envs import (
    SEARCH_SET,
    SERVER_ARGUMENTS,
    collection_questions,
    set_cpu_defaults,
)
from autotts_gym.traces import registry

SIZE = "medium"
REFERENCE = f"tinylm/{SIZE}/{SEARCH_SET}"
#: Seeds of the branch orders that are simulated.
SEEDS = range(20)


async def answer_questions(
    live: LiveModel,
    controller: str,
    beta: float,
    width: int,
    arrivals: NDArray[np.float64],
    rows: NDArray[np.int64],
) -> tuple[NDArray[np.float64], list[Solution]]:
    """Answer each question when it arrives; returns the times to answer, and the solutions."""
    questions = collection_questions(SEARCH_SET)
    seconds = np.empty(len(arrivals))
    start = time.perf_counter() + 1.0

    async def answer(k: int) -> Solution:
        await asyncio.sleep(start + arrivals[k] - time.perf_counter())
        asked = questions[rows[k]]
        solution = await solve_async(
            asked.text, controller, gold=asked.gold, beta=beta, max_branches=width, live=live
        )
        seconds[k] = time.perf_counter() - start - arrivals[k]
        return solution

    solutions = await asyncio.gather(*(answer(k) for k in range(len(arrivals))))
    return seconds, list(solutions)


def compare(
    console: Console,
    live: LiveModel,
    curve: ServerCurve,
    controller: str,
    beta: float,
    width: int,
    rate: float,
    count: int,
    seed: int,
) -> dict[str, Any]:
    """Play and simulate one load; prints a table and returns its figures."""
    stores = registry.open_stores(REFERENCE)
    (store,) = stores.values()
    questions = len(store)
    arrivals = poisson_arrivals(rate, count, np.random.default_rng([seed, 0]))
    generator = np.random.default_rng([seed, 1])
    rows = generator.integers(questions, size=count)
    before = os.getloadavg()
    started, times = time.perf_counter(), os.times()
    live_seconds, solutions = asyncio.run(
        answer_questions(live, controller, beta, width, arrivals, rows)
    )
    wall = time.perf_counter() - started
    own = sum(os.times()[:2]) - sum(times[:2])
    failed = [solution.error for solution in solutions if solution.error]
    schedules = play_schedules(
        load(controller), stores, SEEDS, beta, EpisodeConfig(max_branches=width)
    )
    drawn = rows + questions * generator.integers(len(SEEDS), size=count)
    result = simulate_load(Fleet(curve), schedules, arrivals, drawn)
    figures: dict[str, tuple[float, float]] = {
        f"p{q}, s": tuple(np.percentile(x, q) for x in (live_seconds, result.seconds))
        for q in (50, 95, 99)
    }
    figures["mean, s"] = (live_seconds.mean(), result.seconds.mean())
    figures["tokens"] = (
        np.mean([solution.tokens for solution in solutions]),
        schedules.tokens[drawn].mean(),
    )
    figures["generated tokens"] = (
        np.mean([solution.generated_tokens for solution in solutions]),
        result.generated_tokens / count,
    )
    figures["accuracy, %"] = (
        100 * np.mean([bool(solution.correct) for solution in solutions]),
        100 * schedules.correct[drawn].mean(),
    )
    title = f"{controller} β={beta:g}, {rate:g}/s, {count} questions"
    table = Table(box=None, pad_edge=False)
    table.add_column(title)
    for heading in ("live", "simulated", "simulated / live"):
        table.add_column(heading, justify="right")
    for name, (real, simulated) in figures.items():
        table.add_row(name, f"{real:,.3f}", f"{simulated:,.3f}", f"{simulated / real:.3f}")
    console.print(table)
    console.print(
        f"{len(failed)} failed; {wall:.0f} s, of which the episodes used {own / wall:.2f} cores; "
        f"load average before {before[0]:.2f}, after {os.getloadavg()[0]:.2f}\n"
    )
    return {
        "title": title,
        "figures": {name: list(map(float, pair)) for name, pair in figures.items()},
        "failed": failed[:3],
        "client_cores": own / wall,
        "load_average": [before[0], os.getloadavg()[0]],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--controller", default="cmc")
    parser.add_argument("--beta", type=float, default=0.0)
    parser.add_argument("--width", type=int, default=64, help="N, maximum number of branches")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.5, 1.0])
    parser.add_argument("--questions", type=int, default=600)
    parser.add_argument("--seconds", type=float, default=60.0, help="of the calibration")
    parser.add_argument("--max-sequences", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--base-url", help="a running server of the model; else one is started")
    parser.add_argument("--curve", type=Path, help="a curve to use instead of measuring one")
    parser.add_argument("--save-curve", type=Path, help="write the measured curve")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args(arguments)
    set_cpu_defaults()
    console = Console(width=118, highlight=False)
    server = (
        contextlib.nullcontext(options.base_url)
        if options.base_url
        else serve(model_path(SIZE), served_model_name=f"tinylm-{SIZE}", **SERVER_ARGUMENTS)
    )
    with server as url, connect(url, reference=REFERENCE) as live:
        if options.curve:
            curve = ServerCurve.load(options.curve)
        else:
            curve = measure_curve(
                live,
                [question.text for question in collection_questions(SEARCH_SET)],
                max_sequences=options.max_sequences,
                seconds=options.seconds,
                progress=lambda count, _: console.print(f"measuring {count}", style="dim"),
            )
        if options.save_curve:
            curve.save(options.save_curve)
        for count, each in zip(curve.concurrency, curve.tokens_per_second, strict=True):
            console.print(f"{count:4} sequences: {each:8.1f} tokens/s each, {count * each:8,.0f}")
        console.print(
            f"a request: {1000 * curve.request.seconds:.1f} ms and {curve.request.tokens:.1f} "
            f"tokens; a probe: {1000 * curve.probe.seconds:.1f} ms and {curve.probe.tokens:.1f} "
            f"tokens; text: {1000 * curve.text_seconds:.1f} ms\n"
        )
        results = [
            compare(
                console, live, curve, options.controller, options.beta, options.width, rate,
                options.questions, options.seed,
            )
            for rate in options.rates
        ]  # fmt: skip
    if options.out:
        options.out.write_text(json.dumps(results, indent=1), "utf-8")


if __name__ == "__main__":
    main()
