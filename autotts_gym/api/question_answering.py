"""``solve``: answers a question with a controller on a running model, as ``autotts solve`` does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from autotts_gym.api.catalogue import StrPath, load_controller
from autotts_gym.utils.keywords import suggest_keywords

if TYPE_CHECKING:
    from autotts_gym.controllers.agent import Agent
    from autotts_gym.deployment.solver import Solution
    from autotts_gym.inference.server_apis import Api
    from autotts_gym.live.live_model import LiveModel


@suggest_keywords()
def solve(
    question: str,
    controller: StrPath | Callable[..., Any] | Agent = "cmc",
    *,
    beta: float = 0.5,
    live: LiveModel | None = None,
    base_url: str | Sequence[str] | None = None,
    model: str | None = None,
    reference: StrPath | None = None,
    protocol: StrPath | None = None,
    interval: int | None = None,
    max_tokens: int | None = None,
    temperature: float | None = None,
    max_branches: int | None = None,
    budget: int | None = None,
    patience: float = 120.0,
    seed: int | None = None,
    gold: str | None = None,
    deadline: float | None = None,
    generation_confidence: bool = True,
    api: Api = "tokens",
    api_key: str | None = None,
    headers: Mapping[str, str] | None = None,
    engine: Mapping[str, Any] | None = None,
) -> Solution:
    """Answer a question with a controller on a running model.

    Args:
        question: the question.
        controller: as for :func:`~autotts_gym.load_controller`.
        beta: β in [0, 1]: 0 spends fewest tokens, 1 most.
        live: a connected model (:func:`autotts_gym.live.connection.connect`). It replaces the
            arguments from ``base_url`` to ``temperature``, ``patience``, ``api_key`` and
            ``engine``.
        base_url: URL of an OpenAI-compatible vLLM server, such as ``http://127.0.0.1:8000/v1``, or
            several URLs.
        model: name of the model on the server; without ``base_url``, name or folder of the model
            that vLLM loads in this process.
        reference: an environment collected from this model; its card provides the defaults of
            protocol, interval and sampling, and the cost of self-consistency.
        protocol: the model protocol, a name or a file: prompt, probe and answer format.
        interval: Δ, tokens between two probes; default 500.
        max_tokens: maximum length of a branch, tokens.
        temperature: sampling temperature of the branches.
        max_branches: N, maximum number of branches of an episode; default 64.
        budget: B, maximum total tokens; None for no budget.
        patience: seconds without data after which a request fails.
        seed: random seed of the sampled branches.
        gold: the gold answer, if it is known.
        deadline: seconds after which the best answer so far is returned; None for no limit.
        generation_confidence: ask the model for the log-probabilities of its likeliest tokens.
        api: ``"tokens"`` for vLLM's server; ``"completions"`` or ``"chat"`` for others, which
            take text or messages (:mod:`autotts_gym.inference.text_engine`).
        api_key: API key of the server.
        headers: further headers of every request to the server.
        engine: arguments of vLLM's engine, if it runs in this process.

    Returns:
        The answer and its cost. If the model fails during the episode, the best answer so far, and
        the failure in ``error``.

    Raises:
        EngineError: the model cannot be reached.
        AgentError: the controller cannot be loaded or played.
        ValueError: an argument is out of range.
        TypeError: an unknown keyword argument; the message suggests a similar one.
    """
    from autotts_gym.deployment import solver

    connection: dict[str, Any] = {"live": live}
    if live is None:
        connection = {
            "base_url": base_url,
            "model": model,
            "reference": reference,
            "protocol": protocol,
            "interval": interval,
            "max_tokens": max_tokens,
            "sampling": None if temperature is None else {"temperature": temperature},
            "patience": patience,
            "api": api,
            "api_key": api_key,
            "headers": headers,
            "engine": engine,
            "generation_confidence": generation_confidence,
        }
    return solver.solve(
        question,
        load_controller(controller),
        beta=beta,
        gold=gold,
        seed=seed,
        max_branches=max_branches,
        budget=budget,
        deadline=deadline,
        **connection,
    )
