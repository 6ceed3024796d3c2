"""``autotts discover``: search for controllers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.markup import escape

from autotts_gym.cli.console import (
    ProgressLines,
    errors,
    exit_on_interrupt,
    print_dim,
    print_line,
    progress_bar,
    requires_extra,
)
from autotts_gym.cli.options import (
    Environments,
    WeakerSandbox,
    current_command,
    open_environments,
    parse_integers,
    parse_numbers,
)

if TYPE_CHECKING:
    from autotts_gym.discovery.proposal import Candidate
    from autotts_gym.discovery.search_session import SearchSession


# Headings of groups of options in the help text.
_GENETIC: Final = "Genetic proposer"
_OTHERS: Final = "Other proposers"


Questions = Annotated[
    str | None,
    typer.Option(help="Numbers of the questions to search on, such as 0-23; all by default."),
]
Seeds = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Branch orders for each question; by default 8, or 4 if programs are untrusted.",
    ),
]
Knob = Annotated[bool, typer.Option(help="Require one parameter, β, that increases the spending.")]
Traces = Annotated[
    bool, typer.Option(help="Show proposers the actions of episodes, and an error analysis.")
]


Latency = Annotated[
    str,
    typer.Option(
        help="Weights of sequential tokens in the cost, such as 0,0.5; the score is a mean over "
        "them.",
    ),
]


def parse_latency(text: str) -> list[float]:
    """Parse weights of latency.

    Raises:
        typer.BadParameter: the text is not a list of numbers from 0 to 1.
    """
    weights = parse_numbers(text)
    if not all(0 <= weight <= 1 for weight in weights):
        raise typer.BadParameter(f"--latency must list weights from 0 to 1, got {text!r}")
    return weights


def _proposer_names() -> list[str]:
    from autotts_gym.discovery.proposer_registry import proposer_names

    return proposer_names()


def discover(
    out: Annotated[
        Path, typer.Option(help="Output folder; its name becomes the controller's name.")
    ],
    proposer: Annotated[
        str,
        typer.Option(
            "--proposer",
            "--by",
            autocompletion=_proposer_names,
            help="Source of candidate programs: genetic, regression, command, openai, claude, or a "
            "proposer of another installed package.",
        ),
    ] = "genetic",
    env: Environments = None,
    questions: Questions = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of proposals.")] = 5,
    seeds: Seeds = None,
    latency: Latency = "0",
    knob: Knob = True,
    traces: Traces = True,
    weaker_sandbox: WeakerSandbox = False,
    attempts: Annotated[
        int, typer.Option(min=1, help="Proposals in each round; for genetic, on each island.")
    ] = 4,
    islands: Annotated[
        int,
        typer.Option(min=1, help="Number of separate populations.", rich_help_panel=_GENETIC),
    ] = 3,
    evaluations: Annotated[
        int,
        typer.Option(
            min=1,
            help="β sweeps for tuning the constants of one program.",
            rich_help_panel=_GENETIC,
        ),
    ] = 120,
    finalists: Annotated[
        int,
        typer.Option(
            min=1,
            help="Number of programs to cross-validate at the end.",
            rich_help_panel=_GENETIC,
        ),
    ] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.", rich_help_panel=_GENETIC)] = 0,
    shrinkage: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Penalty of the distance of constants from where their tuning starts; by default "
            "the value that was best out of fold.",
            rich_help_panel=_GENETIC,
        ),
    ] = None,
    patient: Annotated[
        bool,
        typer.Option(
            "--patient",
            help="regression: read few branches at a time unless latency has a weight; saves "
            "tokens, and takes longer.",
            rich_help_panel=_OTHERS,
        ),
    ] = False,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes for tuning.", rich_help_panel=_GENETIC)
    ] = 2,
    command: Annotated[
        str,
        typer.Option(
            help="command: the shell command; it writes controller.py.", rich_help_panel=_OTHERS
        ),
    ] = "",
    base_url: Annotated[
        str,
        typer.Option(
            help="openai: URL of the server, such as http://127.0.0.1:8000/v1.",
            rich_help_panel=_OTHERS,
        ),
    ] = "",
    model: Annotated[
        str, typer.Option(help="openai, claude: name of the model.", rich_help_panel=_OTHERS)
    ] = "",
    max_tokens: Annotated[
        int,
        typer.Option(
            min=1, help="openai: maximum completion tokens of a reply.", rich_help_panel=_OTHERS
        ),
    ] = 16384,
    time_limit: Annotated[
        float,
        typer.Option(
            help="command, claude: seconds after which a proposal is stopped.",
            rich_help_panel=_OTHERS,
        ),
    ] = 1800.0,
    budget_tokens: Annotated[
        int | None,
        typer.Option(min=0, help="Maximum tokens for all proposals.", rich_help_panel=_OTHERS),
    ] = None,
    budget_usd: Annotated[
        float | None,
        typer.Option(min=0, help="Maximum dollars for all proposals.", rich_help_panel=_OTHERS),
    ] = None,
    prompt_usd: Annotated[
        float,
        typer.Option(
            min=0,
            help="openai: price of a million prompt tokens, dollars.",
            rich_help_panel=_OTHERS,
        ),
    ] = 0.0,
    completion_usd: Annotated[
        float,
        typer.Option(
            min=0,
            help="openai: price of a million completion tokens, dollars.",
            rich_help_panel=_OTHERS,
        ),
    ] = 0.0,
) -> None:
    """Search for a controller: a proposer writes programs, and each is scored on recorded traces.

    The genetic proposer and regression, which fits rules that stop where reading on is not worth
    its price, need no model and no network. The others are your own shell command, a chat
    endpoint, and Claude Code; their programs run in a sandbox. If the command is interrupted,
    run it again to continue. The result is a controller: autotts benchmark OUT/NAME.py.
    """
    with requires_extra("discovery", "cma", "discover"):
        from autotts_gym.discovery.proposer_registry import ProposerOptions, check_proposer_name
        from autotts_gym.discovery.proposers.budget import Budget
        from autotts_gym.discovery.search_session import open_search
    try:
        check_proposer_name(proposer)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--proposer") from None
    options = ProposerOptions(
        attempts=attempts,
        islands=islands,
        evaluations=evaluations,
        finalists=finalists,
        seed=seed,
        shrinkage=shrinkage,
        patient=patient,
        workers=workers,
        command=command,
        base_url=base_url,
        model=model,
        max_tokens=max_tokens,
        time_limit=time_limit,
        budget=Budget(budget_tokens, budget_usd, prompt_usd, completion_usd),
    )
    with open_search(
        open_environments(env),
        out,
        proposer=proposer,
        options=options,
        questions=None if questions is None else parse_integers(questions),
        seeds=seeds,
        rounds=rounds,
        latency=parse_latency(latency),
        knob=knob,
        diagnostics=traces,
        env_names=env or [],
        weaker_sandbox=weaker_sandbox,
    ) as search:
        if search.archive:
            print_dim(f"continuing a search: {len(search.archive)} programs so far")
        with exit_on_interrupt(), _progress(search) as update:
            choice = search.run(update)
    path = search.save(choice, current_command(out))
    print_line(
        f"found [bold]{escape(path.stem)}[/]: score {choice.unseen:.4f} out of fold, "
        f"{choice.candidate.evaluation.score:.4f} on the search set; {len(search.archive)} "
        f"programs were tried; saved as {escape(str(path))}"
    )


@contextmanager
def _progress(search: SearchSession) -> Iterator[Callable[[int, Candidate], None]]:
    """Show a progress bar, or lines where there is no terminal; yields the callback."""
    best: Candidate | None = None
    with progress_bar() as progress:
        task = progress.add_task("round 0", total=None)
        lines = ProgressLines(progress)

        def update(number: int, candidate: Candidate) -> None:
            nonlocal best
            if candidate.proposal.error:
                errors.print(
                    f"{candidate.name}: {candidate.proposal.error}", markup=False, highlight=False
                )
            if best is None or candidate.fitness > best.fitness:
                best = candidate
            facts = f"round {number} of {search.rounds}, best score {best.evaluation.score:.4f}"
            progress.update(task, description=facts, advance=1)
            lines.print(f"{facts}, {len(search.archive)} programs")

        yield update
