"""Proposer that requests programs from a chat endpoint, any server of OpenAI's chat completions."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any, Final

from autotts_gym.discovery import prompts
from autotts_gym.discovery.proposal import Candidate, Proposal, ProposerError
from autotts_gym.discovery.proposers import chat_messages
from autotts_gym.discovery.proposers.budget import Budget
from autotts_gym.discovery.proposers.response_cache import ResponseCache
from autotts_gym.discovery.proposers.response_parser import NoProgramError
from autotts_gym.discovery.workspace import Workspace
from autotts_gym.inference.engine import EngineError
from autotts_gym.inference.http_engine import RefusedError, ServerEngine
from autotts_gym.inference.run_sync import run_sync
from autotts_gym.utils.redaction import HIDDEN, redact

#: Environment variable of the API key.
API_KEY_VARIABLE: Final = "OPENAI_API_KEY"

#: Maximum number of requests per proposal: one retry after a response without a program.
_MAX_REQUESTS: Final = 2
#: Status codes that end the search, because every further request would fail too: authentication,
#: payment, unknown model.
_PERMANENT_STATUS: Final = (401, 402, 403, 404)
#: Bytes of text per token, an estimate for servers that do not report the number of tokens.
_BYTES_PER_TOKEN: Final = 4
#: Minimum number of completion tokens of a request.
_MIN_TOKENS: Final = 256
#: Fields of a response's usage.
_USAGE: Final = ("prompt_tokens", "completion_tokens")


class _BudgetError(Exception):
    """The budget does not allow another request."""


class ChatProposer:
    """Requests every proposal from a language model, one at a time.

    The prompt contains the task, the best and the latest program with their feedback, and a table
    of scores. After a response without a program, the model is given the reason and asked once
    more. Temporary failures (no connection, a stall, status 408, 409, 425, 429 or 5xx) are retried
    with backoff, see :class:`~autotts_gym.inference.http_engine.ServerEngine`.

    Args:
        base_url: such as ``http://127.0.0.1:8000/v1``.
        model: name of the model on the server.
        workspace: determines the content of the prompt, and contains the response cache.
        attempts: number of proposals per round.
        api_key: sent as a bearer token; by default, the environment variable ``OPENAI_API_KEY``.
        max_tokens: maximum number of completion tokens of a response.
        budget: spending limits of the run, and prices.
        options: further fields of each request, such as ``{"temperature": 0.7}``.
        stall: seconds without data after which a request fails.
        patience: seconds for which a failing request is retried.
        recorded: names of recorded proposals, which are skipped.

    Raises:
        ValueError: an argument is out of range, or the cost is limited but tokens have no price.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        workspace: Workspace,
        *,
        attempts: int = 1,
        api_key: str | None = None,
        max_tokens: int = 16384,
        budget: Budget | None = None,
        options: Mapping[str, Any] | None = None,
        stall: float = 600.0,
        patience: float = 600.0,
        recorded: Container[str] = (),
    ) -> None:
        if attempts < 1:
            raise ValueError(f"attempts must be at least 1, got {attempts!r}")
        if max_tokens < _MIN_TOKENS:
            raise ValueError(f"max_tokens must be at least {_MIN_TOKENS}, got {max_tokens!r}")
        self._budget = budget or Budget()
        if self._budget.usd is not None and not self._budget.has_prices:
            raise ValueError("a limit of the cost needs prices: give prompt_usd or completion_usd")
        self._key = os.environ.get(API_KEY_VARIABLE) if api_key is None else api_key
        self._base_url, self._model = base_url, model
        self._stall, self._patience = stall, patience
        self._engine()  # checks the arguments
        self._workspace, self._attempts = workspace, attempts
        self._max_tokens, self._options = max_tokens, dict(options or {})
        self._recorded = recorded
        self._limit_field = "max_tokens"
        self._cache = ResponseCache(workspace.folder / "answers")

    def _engine(self) -> ServerEngine:
        return ServerEngine(
            self._base_url,
            self._model,
            api_key=self._key,
            stall=self._stall,
            patience=self._patience,
            concurrency=1,
        )

    def propose(self, round_number: int, history: Sequence[Candidate]) -> Iterator[Proposal]:
        """See :class:`~autotts_gym.discovery.proposal.Proposer`.

        Raises:
            ProposerError: the server rejects the key or the payment, or does not serve the model.
        """
        for attempt in range(1, self._attempts + 1):
            name = f"{round_number}-{attempt}"
            if name in self._recorded:
                continue
            try:
                proposal = self._request_proposal(name, history)
            except _BudgetError as error:
                yield Proposal(name, "", self._model, error=str(error))
                return  # further attempts would fail in the same way
            yield proposal

    def _request_proposal(self, name: str, history: Sequence[Candidate]) -> Proposal:
        """Request a program, and once more if the first response contains none."""
        parents = chat_messages.parent_candidates(history)
        template = prompts.template(self._workspace.knob)
        base = parents[0].proposal.source if parents else template
        messages = chat_messages.initial_messages(history, base, self._workspace)
        # Responses in the cache have been paid for.
        responses = chat_messages.valid_responses(self._cache.read(name).get("answers"))
        source, problem = "", ""
        for turn in range(_MAX_REQUESTS):
            if turn == len(responses):
                try:
                    responses.append(self._request(messages))
                except _BudgetError as error:
                    if not responses:
                        raise
                    problem = f"{problem}; then {error}"
                    break
                except EngineError as error:
                    problem = self._redact(f"{problem}; then {error}" if problem else error)
                    break
                self._cache.write(name, {"answers": responses}, _total_cost(responses))
            try:
                source = chat_messages.response_program(responses[turn], base)
                problem = ""
                break
            except NoProgramError as error:
                problem = str(error)
                messages += chat_messages.retry_messages(responses[turn], error)
        names = tuple(dict.fromkeys(candidate.proposal.name for candidate in parents))
        return Proposal(name, source, self._model, names, problem, _total_cost(responses))

    def _request(self, messages: list[dict[str, str]]) -> dict[str, Any]:
        """Request a response.

        Returns:
            Plain values: ``text``, ``refusal``, ``finish`` and ``cost``.

        Raises:
            EngineError: the request failed.
            ProposerError: every further request would fail too.
            _BudgetError: the budget does not allow the request.
        """
        size = sum(len(message["content"].encode()) for message in messages) // _BYTES_PER_TOKEN
        spent = self._cache.total_cost()
        max_tokens = self._budget.affordable_tokens(spent, size, self._max_tokens)
        if reason := self._budget.exhausted(spent):
            raise _BudgetError(reason)
        if max_tokens < _MIN_TOKENS:
            raise _BudgetError(
                f"the budget is exhausted: {max_tokens} completion tokens are left after a prompt "
                f"of about {size} tokens"
            )
        try:
            response = run_sync(self._chat(messages, max_tokens))
        except RefusedError as error:
            # Some servers support only the newer name of the limit, and mention it.
            if "max_completion_tokens" in str(error) and self._limit_field == "max_tokens":
                self._limit_field = "max_completion_tokens"
                return self._request(messages)
            if error.status in _PERMANENT_STATUS:
                raise ProposerError(self._redact(error)) from None
            raise
        return self._convert(response, size)

    async def _chat(self, messages: list[dict[str, str]], max_tokens: int) -> dict[str, Any]:
        engine = self._engine()
        try:
            return await engine.chat(messages, {self._limit_field: max_tokens, **self._options})
        finally:
            await engine.close()

    def _convert(self, response: dict[str, Any], prompt_estimate: int) -> dict[str, Any]:
        """The values of a response that are cached.

        Args:
            response: the chat completion.
            prompt_estimate: number of prompt tokens if the server does not report it.
        """
        choice = response["choices"][0]
        text = chat_messages.message_text(choice["message"].get("content"))
        usage = response.get("usage")
        counts = [usage.get(name) if isinstance(usage, dict) else None for name in _USAGE]
        estimates = (prompt_estimate, len(text.encode()) // _BYTES_PER_TOKEN)
        prompt, completion = (
            count if isinstance(count, int) and count >= 0 else estimate
            for count, estimate in zip(counts, estimates, strict=True)
        )
        return {
            "text": text,
            "refusal": chat_messages.message_text(choice["message"].get("refusal")),
            "finish": str(choice.get("finish_reason")),
            "cost": self._budget.cost(prompt, completion),
        }

    def _redact(self, message: object) -> str:
        """The text of a message without the secrets, which a server may have repeated."""
        text = str(message).replace(self._key, HIDDEN) if self._key else str(message)
        return redact(text, self._base_url)


def _total_cost(responses: list[dict[str, Any]]) -> dict[str, float]:
    total: Counter[str] = Counter()
    for response in responses:
        total.update(response["cost"])
    return dict(total)
