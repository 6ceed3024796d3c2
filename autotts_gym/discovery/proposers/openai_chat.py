"""A chat endpoint as a proposer: any server that speaks OpenAI's chat completions."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any, Final

from autotts_gym.discovery import prompts
from autotts_gym.discovery.proposal import Candidate, Proposal, ProposerError
from autotts_gym.discovery.proposers import response_parser
from autotts_gym.discovery.proposers.budget import Budget
from autotts_gym.discovery.proposers.response_cache import Answers
from autotts_gym.discovery.workspace import Workspace
from autotts_gym.inference.engine import EngineError
from autotts_gym.inference.http_engine import RefusedError, ServerEngine
from autotts_gym.inference.run_sync import run_sync

#: Where the key is looked for.
KEY: Final = "OPENAI_API_KEY"

#: How often a model is asked for one proposal: again where its answer is none.
_TURNS: Final = 2
#: Statuses that another proposal would meet as well: no key, no money, no such model.
_HOPELESS: Final = (401, 402, 403, 404)
#: Bytes of text that count as a token where a server does not say how many there were.
_TOKEN_BYTES: Final = 4
#: Completion tokens that are too few to ask for.
_FEWEST: Final = 256
#: Rows of the table of everything that was tried that are shown: the latest.
_ROWS: Final = 50

_FORM: Final = """## How to answer

Think first, briefly, about why the best program loses what it loses. Then give either

- the whole program in one block that begins with ```python; or
- changes of the best program, as blocks of this form, whose first part is copied from the program,
  whole lines that stand there once:

<<<<<<< SEARCH
lines as they stand there
=======
what stands there from now on
>>>>>>> REPLACE

  or as a unified diff in one block that begins with ```diff.
"""


class _SpentError(Exception):
    """Nothing more may be spent."""


class ChatProposer:
    """Asks a model for every proposal, one at a time.

    It is told the task, the best and the latest program with what came of them, and all scores. An
    answer without a program is told so, and asked for once more. Failures that may pass (no
    connection, silence, status 408, 409, 425, 429 or 5xx) are tried again with backoff, as
    :class:`~autotts_gym.inference.http_engine.ServerEngine` does.

    Args:
        base_url: as ``http://127.0.0.1:8000/v1``.
        model: its name on the server.
        workspace: what is told, and where answers are kept.
        attempts: proposals a round.
        api_key: the environment's ``OPENAI_API_KEY`` by default, if there is one.
        longest: completion tokens of an answer at most.
        budget: limits of everything that is spent.
        options: further fields of each request, as ``{"temperature": 0.7}``.
        stall: seconds of silence after which a request counts as failed.
        patience: seconds over which a failing request is tried again.
        known: names of proposals that are on record, and are not asked for.

    Raises:
        ValueError: an argument is out of range, or dollars are limited and tokens have no price.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        workspace: Workspace,
        *,
        attempts: int = 1,
        api_key: str | None = None,
        longest: int = 16384,
        budget: Budget | None = None,
        options: Mapping[str, Any] | None = None,
        stall: float = 600.0,
        patience: float = 600.0,
        known: Container[str] = (),
    ) -> None:
        if attempts < 1:
            raise ValueError(f"attempts must be at least 1, got {attempts!r}")
        if longest < _FEWEST:
            raise ValueError(f"longest must be at least {_FEWEST} tokens, got {longest!r}")
        self._budget = budget or Budget()
        if self._budget.usd is not None and not self._budget.priced:
            raise ValueError("to limit dollars, say what a million tokens cost")
        self._key = os.environ.get(KEY) if api_key is None else api_key
        self._server = {"base_urls": base_url, "model": model, "api_key": self._key}
        self._times = {"stall": stall, "patience": patience}
        self._engine()  # says at once what is wrong with the arguments
        self._model, self._workspace, self._attempts = model, workspace, attempts
        self._longest, self._options, self._known = longest, dict(options or {}), known
        self._limit = "max_tokens"
        self._answers = Answers(workspace.folder / "answers")

    def _engine(self) -> ServerEngine:
        return ServerEngine(**self._server, **self._times, concurrency=1)  # type: ignore[arg-type]

    def propose(self, number: int, history: Sequence[Candidate]) -> Iterator[Proposal]:
        """See :class:`~autotts_gym.discovery.proposal.Proposer`.

        Raises:
            ProposerError: the server refuses the key, or does not have the model.
        """
        for attempt in range(1, self._attempts + 1):
            name = f"{number}-{attempt}"
            if name in self._known:
                continue
            try:
                proposal = self._ask(name, history)
            except _SpentError as error:
                yield Proposal(name, "", self._model, error=str(error))
                return  # the others would get the same
            yield proposal

    def _ask(self, name: str, history: Sequence[Candidate]) -> Proposal:
        shown = [
            tried
            for tried in (prompts.best_candidate(history), prompts.latest_candidate(history))
            if tried
        ]
        base = shown[0].proposal.source if shown else prompts.template(self._workspace.knob)
        messages = self._messages(history, base)
        given = _kept(self._answers.read(name).get("answers"))
        source, trouble = "", ""
        for turn in range(_TURNS):
            if turn == len(given):
                try:
                    given.append(self._answer(messages))
                except _SpentError as error:
                    if not given:
                        raise
                    trouble = f"{trouble}; then {error}"
                    break
                except EngineError as error:
                    trouble = self._without_key(f"{trouble}; then {error}" if trouble else error)
                    break
                self._answers.write(name, {"answers": given}, _sum(given))
            answer = given[turn]
            try:
                source = _program(answer, base)
                trouble = ""
                break
            except response_parser.ReplyError as error:
                trouble = str(error)
                messages += [
                    {"role": "assistant", "content": _recalled(answer)},
                    {"role": "user", "content": f"That is no program: {error}. Answer again."},
                ]
        parents = tuple(dict.fromkeys(tried.proposal.name for tried in shown))
        return Proposal(name, source, self._model, parents, trouble, _sum(given))

    def _messages(self, history: Sequence[Candidate], base: str) -> list[dict[str, str]]:
        best, last = prompts.best_candidate(history), prompts.latest_candidate(history)
        diagnostics, knob = self._workspace.diagnostics, self._workspace.knob
        parts = []
        if best is None:
            parts.append(f"Nothing was tried so far. Begin with this:\n\n```python\n{base}```")
        else:
            parts.append(_shown("The best program", best, diagnostics))
        if last is not None and last is not best:
            parts.append(_shown("The latest program", last, diagnostics))
        if history:
            table = prompts.history_table(history[-_ROWS:])
            parts.append(f"## What was tried, the latest last\n\n{table}")
        parts.append("Write a program that does better.")
        system = f"{prompts.task(knob=knob, diagnostics=diagnostics)}\n{_FORM}"
        return [
            {"role": "system", "content": system},
            {"role": "user", "content": "\n\n".join(parts)},
        ]

    def _answer(self, messages: list[dict[str, str]]) -> dict[str, Any]:
        """Ask the model.

        Returns:
            Plain values: ``text``, ``refusal``, ``finish`` and ``cost``.

        Raises:
            EngineError: there is no answer.
            ProposerError: nor will there be.
            _SpentError: there is no budget for one.
        """
        size = sum(len(message["content"].encode()) for message in messages) // _TOKEN_BYTES
        spent = self._answers.spent()
        most = self._budget.most(spent, size, self._longest)
        if reason := self._budget.over(spent):
            raise _SpentError(reason)
        if most < _FEWEST:
            raise _SpentError(
                f"the budget is spent: it has {most} completion tokens left after a prompt of "
                f"about {size}"
            )
        try:
            found = run_sync(self._chat(messages, most))
        except RefusedError as error:
            # Some servers have the limit under its newer name alone, and say so.
            if "max_completion_tokens" in str(error) and self._limit == "max_tokens":
                self._limit = "max_completion_tokens"
                return self._answer(messages)
            if error.status in _HOPELESS:
                raise ProposerError(self._without_key(error)) from None
            raise
        return self._read(found, size)

    async def _chat(self, messages: list[dict[str, str]], most: int) -> dict[str, Any]:
        engine = self._engine()
        try:
            return await engine.chat(messages, {self._limit: most, **self._options})
        finally:
            await engine.close()

    def _read(self, found: dict[str, Any], size: int) -> dict[str, Any]:
        choice = found["choices"][0]
        text, usage = _text(choice["message"].get("content")), found.get("usage")
        counts = [usage.get(name) if isinstance(usage, dict) else None for name in _USAGE]
        guesses = (size, len(text.encode()) // _TOKEN_BYTES)
        prompt, completion = (
            count if isinstance(count, int) and count >= 0 else guess
            for count, guess in zip(counts, guesses, strict=True)
        )
        return {
            "text": text,
            "refusal": _text(choice["message"].get("refusal")),
            "finish": str(choice.get("finish_reason")),
            "cost": self._budget.cost(prompt, completion),
        }

    def _without_key(self, told: object) -> str:
        """A text that others read, without the key, should a server have repeated it."""
        return str(told).replace(self._key, "***") if self._key else str(told)


_USAGE: Final = ("prompt_tokens", "completion_tokens")


def _shown(title: str, candidate: Candidate, diagnostics: bool) -> str:
    feedback = (
        prompts.feedback(candidate, diagnostics=diagnostics).replace("\n## ", "\n### ").lstrip("# ")
    )
    name, _, rest = feedback.partition("\n")
    source = candidate.proposal.source.rstrip()
    return f"## {title}: {name}\n\n```python\n{source}\n```\n{rest.rstrip()}"


def _text(content: Any) -> str:
    """A message's text, which some servers give in parts."""
    if isinstance(content, list):
        return "".join(_text(part.get("text")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _recalled(answer: Mapping[str, Any]) -> str:
    """An answer as it is shown to the model that gave it; one that was cut off is long."""
    cut_off = answer["finish"] == "length"
    return "(an answer that was cut off)" if cut_off else answer["text"] or "(nothing)"


def _program(answer: Mapping[str, Any], base: str) -> str:
    if answer["refusal"] or answer["finish"] == "content_filter":
        raise response_parser.ReplyError(f"the model refused: {answer['refusal'] or 'filtered'}")
    if answer["finish"] == "length":
        raise response_parser.ReplyError("the answer was cut off at its longest; be briefer")
    return response_parser.program(answer["text"], base)


def _kept(found: Any) -> list[dict[str, Any]]:
    """Answers that were paid for before, as far as they can be read."""
    given = []
    for answer in found if isinstance(found, list) else []:
        if not isinstance(answer, dict) or not {"text", "refusal", "finish", "cost"} <= set(answer):
            break
        given.append(answer)
    return given


def _sum(given: list[dict[str, Any]]) -> dict[str, float]:
    total: Counter[str] = Counter()
    for answer in given:
        total.update(answer["cost"])
    return dict(total)
