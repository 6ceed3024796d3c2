"""``discover``: searches for a controller, as ``autotts discover`` does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from autotts_gym.api.catalogue import StrPath, load_controller, open_envs
from autotts_gym.api.number_lists import integer_list
from autotts_gym.utils.keywords import suggest_keywords

if TYPE_CHECKING:
    from autotts_gym.controllers.agent import Agent
    from autotts_gym.discovery.proposal import Candidate
    from autotts_gym.traces.store import TraceStore


@dataclass(frozen=True)
class DiscoveryResult:
    """The controller that a search chose.

    Attributes:
        controller: the controller.
        path: its file.
        score: its score on all questions: accuracy minus the price of the tokens, averaged over
            several β.
        unseen_score: cross-validated estimate of its score on new questions.
        candidates: number of programs that were evaluated.
    """

    controller: Agent
    path: Path
    score: float
    unseen_score: float
    candidates: int


def _no_progress(number: int, candidate: Candidate) -> None:
    """Ignore the progress of a search."""


@suggest_keywords()
def discover(
    envs: StrPath
    | TraceStore
    | Iterable[StrPath | TraceStore]
    | Mapping[str, TraceStore]
    | None = None,
    *,
    out: StrPath,
    proposer: str = "genetic",
    questions: int | str | Iterable[int] | None = None,
    rounds: int = 5,
    seeds: int | None = None,
    latency: float | Iterable[float] = 0.0,
    knob: bool = True,
    traces: bool = True,
    weaker_sandbox: bool = False,
    attempts: int = 4,
    islands: int = 3,
    evaluations: int = 120,
    finalists: int = 3,
    seed: int = 0,
    shrinkage: float | None = None,
    patient: bool = False,
    workers: int = 2,
    command: str = "",
    base_url: str = "",
    model: str = "",
    max_tokens: int = 16384,
    time_limit: float = 1800.0,
    budget_tokens: int | None = None,
    budget_usd: float | None = None,
    prompt_usd: float = 0.0,
    completion_usd: float = 0.0,
    progress: Callable[[int, Candidate], None] = _no_progress,
) -> DiscoveryResult:
    """Search for a controller: a proposer generates programs, which are scored on recorded traces.

    Called again after an interruption, it resumes from the journal in ``out``.

    Args:
        envs: names, paths or trace stores, one or several; default ``qwen2.5-coder-0.5b/problems``.
        out: folder of the search; the controller gets the name of this folder.
        proposer: ``"genetic"``, ``"regression"``, ``"command"``, ``"openai"``, ``"claude"``, or the
            name of a proposer that another package provides.
        questions: rows of the questions to search on; default all.
        rounds: number of rounds of proposals.
        seeds: number of branch orders per question; default 8, or 4 for programs that run in a
            sandbox.
        latency: weight of sequential tokens in the cost, from 0 to 1, or several weights; the score
            is a mean over them.
        knob: require that programs take β, and spend more tokens as β rises.
        traces: show proposers diagnoses, and episodes action by action.
        weaker_sandbox: run untrusted programs even if this machine's sandbox lacks a protection.
        attempts: proposals per round; for the genetic proposer, per island.
        islands: number of populations of the genetic proposer.
        evaluations: number of evaluations of the genetic proposer to tune a program's constants.
        finalists: number of programs that the genetic proposer cross-validates at the end.
        seed: random seed of the genetic proposer.
        shrinkage: penalty of the distance of constants from those that their tuning starts from, of
            the genetic proposer; by default the value that was best out of fold.
        patient: for regression, controllers that read few branches at a time unless latency has a
            weight; they save tokens, and take longer.
        workers: number of processes of the genetic proposer.
        command: shell command of the command proposer, which writes ``controller.py``.
        base_url: URL of a chat endpoint, for the openai proposer.
        model: name of a language model, for the openai and claude proposers.
        max_tokens: maximum completion tokens per response, for the openai proposer.
        time_limit: maximum seconds per proposal, for the command and claude proposers.
        budget_tokens: maximum tokens of all proposals together.
        budget_usd: maximum cost of all proposals together, US dollars.
        prompt_usd: price of a million prompt tokens, US dollars.
        completion_usd: price of a million completion tokens, US dollars.
        progress: called after each evaluation, with the round number and the candidate.

    Raises:
        ImportError: cma is not installed.
        ValueError: an argument is out of range, or ``out`` holds another search.
        TypeError: an unknown keyword argument; the message suggests a similar one.
    """
    try:
        import cma  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"discover needs cma ({error}): pip install 'autotts-gym[discover]'"
        ) from error
    from autotts_gym.discovery.proposer_registry import ProposerOptions, check_proposer_name
    from autotts_gym.discovery.proposers.budget import Budget
    from autotts_gym.discovery.search_session import open_search

    check_proposer_name(proposer)
    stores = open_envs(envs)
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
        stores,
        out,
        proposer=proposer,
        options=options,
        questions=None if questions is None else integer_list(questions, "questions"),
        seeds=seeds,
        rounds=rounds,
        latency=[latency] if isinstance(latency, float | int) else list(latency),
        knob=knob,
        diagnostics=traces,
        weaker_sandbox=weaker_sandbox,
        env_names=[str(store.path) if store.path else name for name, store in stores.items()],
    ) as search:
        choice = search.run(progress)
    path = search.save(choice, "autotts_gym.discover")
    return DiscoveryResult(
        controller=load_controller(path),
        path=path,
        score=choice.candidate.evaluation.score,
        unseen_score=choice.unseen,
        candidates=len(search.archive),
    )
