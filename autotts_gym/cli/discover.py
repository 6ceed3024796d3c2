"""``autotts discover`` and ``autotts judge``: controllers that are found."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from autotts_gym.cli.console import (
    Lines,
    command_of,
    console,
    errors,
    integers,
    print_dim,
    progress_bar,
    stores_of,
)

if TYPE_CHECKING:
    from autotts_gym.discovery.proposal import Proposer, Tried
    from autotts_gym.discovery.search_loop import Choice, Discovery


class By(StrEnum):
    """Who proposes."""

    genetic = "genetic"
    command = "command"
    openai = "openai"
    claude = "claude"


Environments = Annotated[
    list[str] | None, typer.Option("--env", help="A name or a path; repeat for several.")
]
Questions = Annotated[
    str | None, typer.Option(help="Rows of the questions to search on, as 0-23; default all.")
]
Seeds = Annotated[
    int | None,
    typer.Option(
        min=1, help="Branch orders of each question; default 8, or 4 for untrusted programs."
    ),
]
Knob = Annotated[bool, typer.Option(help="Demand one knob, β, that spends more as it rises.")]
Traces = Annotated[
    bool, typer.Option(help="Show proposers episodes action by action, and diagnoses.")
]


def discover(
    out: Annotated[Path, typer.Option(help="Folder of the run; the controller is named after it.")],
    proposer: Annotated[By, typer.Option(help="Who proposes programs.")] = By.genetic,
    env: Environments = None,
    questions: Questions = None,
    rounds: Annotated[int, typer.Option(min=1, help="Of proposals.")] = 5,
    seeds: Seeds = None,
    knob: Knob = True,
    traces: Traces = True,
    attempts: Annotated[
        int, typer.Option(min=1, help="Proposals a round; genetic: children of an island.")
    ] = 4,
    islands: Annotated[int, typer.Option(min=1, help="genetic: that breed by themselves.")] = 3,
    evaluations: Annotated[
        int, typer.Option(min=1, help="genetic: sweeps to tune the constants of a program with.")
    ] = 120,
    finalists: Annotated[
        int, typer.Option(min=1, help="genetic: programs that are cross-validated at the end.")
    ] = 3,
    seed: Annotated[int, typer.Option(min=0, help="genetic: of everything.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="genetic: processes that tune.")] = 2,
    command: Annotated[
        str, typer.Option(help="command: a line for the shell, which writes controller.py.")
    ] = "",
    base_url: Annotated[str, typer.Option(help="openai: as http://127.0.0.1:8000/v1.")] = "",
    model: Annotated[str, typer.Option(help="openai, claude: the model's name.")] = "",
    max_tokens: Annotated[
        int, typer.Option(min=1, help="openai: completion tokens of an answer.")
    ] = 16384,
    time_limit: Annotated[
        float, typer.Option(help="command, claude: seconds of a proposal, after which it is ended.")
    ] = 1800.0,
    budget_tokens: Annotated[
        int | None, typer.Option(min=0, help="Tokens of all proposals at most.")
    ] = None,
    budget_usd: Annotated[
        float | None, typer.Option(min=0, help="Dollars of all proposals at most.")
    ] = None,
    prompt_usd: Annotated[
        float, typer.Option(min=0, help="openai: dollars of a million prompt tokens.")
    ] = 0.0,
    completion_usd: Annotated[
        float, typer.Option(min=0, help="openai: dollars of a million completion tokens.")
    ] = 0.0,
) -> None:
    """Search for a controller: proposers write programs, a replay of the search set judges them.

    The genetic proposer takes no model and no network; the others are a command of your own, a chat
    endpoint, and Claude Code, whose programs play in a sandbox. Interrupted or killed, the same
    command goes on from where it was. What is found plays like any controller: autotts benchmark
    OUT/NAME.py.
    """
    with _needs():
        from autotts_gym.discovery.evaluator import PLAIN_SEEDS, Evaluator
        from autotts_gym.discovery.objective import SearchSet
        from autotts_gym.discovery.proposers.budget import Budget
        from autotts_gym.discovery.proposers.genetic import Breeding, Genetic
        from autotts_gym.discovery.search_loop import Discovery
        from autotts_gym.discovery.workspace import Workspace
    if seeds is None:
        seeds = 8 if proposer is By.genetic else PLAIN_SEEDS
    search = SearchSet(stores_of(env), None if questions is None else integers(questions), seeds)
    evaluator = Evaluator(search, knob=knob, telling=traces)
    plan: dict[str, Any] = {
        "proposer": proposer.value, "rounds": rounds, "seeds": seeds, "knob": knob,
        "traces": traces, "attempts": attempts,
    }  # fmt: skip
    with contextlib.ExitStack() as stack:
        made: Proposer
        if proposer is By.genetic:
            how = Breeding(
                islands=islands,
                children=attempts,
                evaluations=evaluations,
                finalists=finalists,
                knob=knob,
                seed=seed,
            )
            discovery = Discovery(evaluator, out, plan | asdict(how))
            made = stack.enter_context(Genetic(how, search, discovery.archive, workers))
        else:
            given = {"command": command, "base_url": base_url, "model": model}
            discovery = Discovery(evaluator, out, plan | given)
            judging = _judging(env, questions, seeds, knob, traces)
            workspace = Workspace(
                out / "workspace", traces=traces, knob=knob, evaluation=judging
            )  # fmt: skip
            budget = Budget(budget_tokens, budget_usd, prompt_usd, completion_usd)
            shared: dict[str, Any] = {
                "attempts": attempts, "budget": budget, "known": discovery.archive,
            }  # fmt: skip
            if proposer is By.command:
                from autotts_gym.discovery.proposers.command import CommandProposer

                made = CommandProposer(command, workspace, time_limit=time_limit, **shared)
            elif proposer is By.openai:
                from autotts_gym.discovery.proposers.openai_chat import ChatProposer

                made = ChatProposer(base_url, model, workspace, longest=max_tokens, **shared)
            else:
                from autotts_gym.discovery.proposers.claude_code import ClaudeProposer

                made = ClaudeProposer(
                    workspace, model=model or None, time_limit=time_limit, **shared
                )
        if discovery.archive:
            print_dim(f"going on: {len(discovery.archive)} programs were tried before")
        try:
            choice = _run(discovery, made, rounds)
        except KeyboardInterrupt:
            errors.print("interrupted; the same command goes on from here")
            raise typer.Exit(130) from None
    path = discovery.save(choice, out.resolve().name, command_of(out))
    console.print(
        f"found [bold]{escape(path.stem)}[/]: score {choice.tried.verdict.score:.4f}, on questions "
        f"that were left out {choice.unseen:.4f}; {len(discovery.archive)} programs were tried; "
        f"at {escape(str(path))}",
        highlight=False,
        soft_wrap=True,
    )


def judge(
    program: Annotated[Path, typer.Argument(help="A controller's file.")],
    env: Environments = None,
    questions: Questions = None,
    seeds: Seeds = None,
    knob: Knob = True,
    traces: Traces = True,
) -> None:
    """Say what discovery makes of a program: checks, score, curve over β, diagnosis, episodes.

    It is played in a sandbox. The exit status is 1 where it is rejected.
    """
    with _needs():
        from autotts_gym.discovery import prompts
        from autotts_gym.discovery.evaluator import PLAIN_SEEDS, evaluate
        from autotts_gym.discovery.proposal import Proposal, Tried
        from autotts_gym.traces.registry import DEFAULT
    try:
        source = program.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{program}: is no UTF-8 text: {error}") from None
    verdict = evaluate(
        source,
        envs=env or [DEFAULT],
        questions=None if questions is None else integers(questions),
        seeds=seeds or PLAIN_SEEDS,
        knob=knob,
        telling=traces,
    )
    tried = Tried(Proposal(program.stem, source, "by hand"), verdict)
    console.print(
        prompts.feedback(tried, traces=traces), markup=False, highlight=False, soft_wrap=True
    )
    if not tried.sound:
        raise typer.Exit(1)


def _judging(
    env: list[str] | None, questions: str | None, seeds: int, knob: bool, traces: bool
) -> str:
    """The command that judges ``controller.py`` as a run does, from any folder."""
    words = ["autotts", "judge", "controller.py"]
    for name in env or []:
        words += ["--env", str(Path(name).absolute()) if Path(name).exists() else name]
    words += [] if questions is None else ["--questions", questions]
    words += ["--seeds", str(seeds)]
    words += [] if knob else ["--no-knob"]
    words += [] if traces else ["--no-traces"]
    return shlex.join(words)


@contextlib.contextmanager
def _needs() -> Iterator[None]:
    try:
        yield
    except ImportError as problem:
        raise ValueError(
            f"discovery needs cma ({problem}): pip install 'autotts-gym[discover]'"
        ) from None


def _run(discovery: Discovery, proposer: Proposer, rounds: int) -> Choice:
    best: Tried | None = None
    with progress_bar() as progress:
        task = progress.add_task("round 0", total=None)
        lines = Lines(progress)

        def report(number: int, tried: Tried) -> None:
            nonlocal best
            if tried.proposal.trouble:
                errors.print(
                    f"{tried.name}: {tried.proposal.trouble}", markup=False, highlight=False
                )
            if best is None or tried.worth > best.worth:
                best = tried
            facts = f"round {number} of {rounds}, best score {best.verdict.score:.4f}"
            progress.update(task, description=facts, advance=1)
            lines.say(f"{facts}, {len(discovery.archive)} programs")

        return discovery.run(proposer, rounds, report)
