"""Searches on a part of the questions or models, compared with CMC on the rest.

The complete ``autotts discover`` runs once for each fold of the questions, on the other folds, and
once for each environment, on the other ones. Each chosen program is played on what was left out of
its search. The tables show the tokens at the accuracy of the Confidence Momentum Controller as
``benchmarks/against_cmc.py`` does, with and without the bound of its sequential tokens, and the
sequential tokens within its tokens. Programs that depend on the weight of latency are played at
each ``--latency-weight``. Intervals are paired bootstrap intervals over questions and branch
orders.

Searches and episodes are kept in the folder ``--out``; after an interruption, the same command
continues. All other options are those of ``autotts discover``, such as ``--by regression``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from against_cmc import Contender, analyze, comparison_table
from rich.console import Console

from autotts_gym.discovery.search_session import format_ranges
from autotts_gym.evaluation.analysis import Cost
from autotts_gym.mdp.trace_dataset import BILLINGS, EpisodeConfig
from autotts_gym.traces import registry
from autotts_gym.traces.branch_width import default_width

ANY = "any latency"
#: Costs that are compared, and the bound of the other one.
BOUNDS: tuple[tuple[Cost, str], ...] = (
    ("tokens", "within CMC's sequential tokens"),
    ("tokens", ANY),
    ("sequential_tokens", "within CMC's tokens"),
)


def search(
    folder: Path, envs: Sequence[str], questions: Sequence[int], options: Sequence[str]
) -> Contender:
    """Run or continue a search; returns its result."""
    command = [sys.executable, "-m", "autotts_gym", "discover", "--out", str(folder)]
    for env in envs:
        command += ["--env", env]
    command += ["--questions", format_ranges(questions), *options]
    subprocess.run(command, check=True)
    return Contender.load(str(folder))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # options of ``autotts discover`` would match
    )
    parser.add_argument("--env", action="append", required=True, help="environments to compare on")
    parser.add_argument(
        "--also", action="append", default=[], help="further environments, in all searches"
    )
    parser.add_argument("--folds", type=int, default=5, help="folds of the questions")
    parser.add_argument("--orders", type=int, default=100, help="branch orders of the comparison")
    parser.add_argument(
        "--latency-weight",
        type=float,
        nargs="+",
        default=[0.0],
        metavar="W",
        help="weights of latency that programs read",
    )
    parser.add_argument("--billing", choices=BILLINGS, default="tokens")
    parser.add_argument("--out", type=Path, required=True, help="folder of searches and episodes")
    given, options = parser.parse_known_args()
    torch.set_num_threads(1)
    stores = registry.open_stores(*given.env)
    counts = {store.card.questions for store in stores.values()}
    if len(counts) > 1:
        parser.error(f"the environments have {sorted(counts)} questions; they must have as many")
    questions = range(counts.pop())
    width = default_width(stores.values())
    by_question = [
        search(
            given.out / f"questions_{fold}",
            [*stores, *given.also],
            [q for q in questions if q % given.folds != fold],
            options,
        )
        for fold in range(given.folds)
    ]
    by_model = [
        search(
            given.out / f"without_{name.replace('/', '_')}",
            [*(other for other in stores if other != name), *given.also],
            questions,
            options,
        )
        for name in (stores if len(stores) > 1 else [])
    ]
    parts = {f"{given.folds} folds of the questions": by_question, "each model left out": by_model}
    for left_out, contenders in parts.items():
        if not contenders:
            continue
        folder = given.out / "episodes"
        for weight in given.latency_weight:
            config = EpisodeConfig(width, given.billing, latency_weight=weight)
            analysis = analyze(contenders, stores, config, given.orders, folder)
            title = f"{left_out}, {given.orders} orders, billed by {given.billing}, "
            title += f"latency weight {weight:g}, "
            for cost, bound in BOUNDS:
                table = comparison_table(analysis, title + bound, within=bound != ANY, cost=cost)
                Console(width=150).print(table)


if __name__ == "__main__":
    main()
