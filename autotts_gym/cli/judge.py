"""``autotts judge``: evaluate one program as ``autotts discover`` does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autotts_gym.cli.console import print_text, requires_extra
from autotts_gym.cli.discover import Knob, Latency, Questions, Seeds, Traces, parse_latency
from autotts_gym.cli.options import Environments, WeakerSandbox, parse_integers


def judge(
    program: Annotated[Path, typer.Argument(help="The file of a controller.")],
    env: Environments = None,
    questions: Questions = None,
    seeds: Seeds = None,
    latency: Latency = "0",
    knob: Knob = True,
    traces: Traces = True,
    weaker_sandbox: WeakerSandbox = False,
) -> None:
    """Evaluate a program as discovery does: checks, score, curve over β, error analysis, episodes.

    The program runs in a sandbox. If it is rejected, the exit status is 1.
    """
    with requires_extra("discovery", "cma", "discover"):
        from autotts_gym.discovery import prompts
        from autotts_gym.discovery.evaluator import INTERPRETED_SEEDS, evaluate
        from autotts_gym.discovery.proposal import Candidate, Proposal
        from autotts_gym.traces.registry import DEFAULT
    try:
        source = program.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{program}: not a UTF-8 text file: {error}") from None
    evaluation = evaluate(
        source,
        envs=env or [DEFAULT],
        questions=None if questions is None else parse_integers(questions),
        seeds=seeds or INTERPRETED_SEEDS,
        knob=knob,
        diagnostics=traces,
        weaker_sandbox=weaker_sandbox,
        latency=parse_latency(latency),
    )
    candidate = Candidate(Proposal(program.stem, source, "by hand"), evaluation)
    print_text(prompts.feedback(candidate, diagnostics=traces))
    if not candidate.accepted:
        raise typer.Exit(1)
