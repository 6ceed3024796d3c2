"""Messages between a chat proposer and a model: prompts, and the content of responses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from autotts_gym.discovery import prompts
from autotts_gym.discovery.proposal import Candidate
from autotts_gym.discovery.proposers.response_parser import NoProgramError, extract_program
from autotts_gym.discovery.workspace import Workspace

#: Number of the latest candidates in the prompt's table.
_TABLE_ROWS: Final = 50

_RESPONSE_FORMAT: Final = """## Response format

First analyze briefly why the best program loses correct answers or spends tokens without need. Then
give either

- the whole program, in one fenced block that begins with ```python; or
- changes of the best program, as blocks of the following form. The first part must be copied from
  the program: whole lines that occur exactly once.

<<<<<<< SEARCH
lines of the program
=======
lines that replace them
>>>>>>> REPLACE

  or as a unified diff, in one fenced block that begins with ```diff.
"""


def parent_candidates(history: Sequence[Candidate]) -> list[Candidate]:
    """The candidates in the prompt: the best and the latest one, as far as they exist."""
    candidates = (prompts.best_candidate(history), prompts.latest_candidate(history))
    return [candidate for candidate in candidates if candidate]


def initial_messages(
    history: Sequence[Candidate], base: str, workspace: Workspace
) -> list[dict[str, str]]:
    """The system message with the task, and the user message with the candidates so far.

    Args:
        history: all candidates.
        base: the program that changes apply to.
        workspace: determines which feedback is included.
    """
    best, latest = prompts.best_candidate(history), prompts.latest_candidate(history)
    diagnostics = workspace.diagnostics
    parts = []
    if best is None:
        parts.append(
            f"No program has been evaluated so far. Start from this one:\n\n```python\n{base}```"
        )
    else:
        parts.append(_describe("The best program", best, diagnostics))
    if latest is not None and latest is not best:
        parts.append(_describe("The latest program", latest, diagnostics))
    if history:
        table = prompts.history_table(history[-_TABLE_ROWS:])
        parts.append(f"## All candidates, the latest last\n\n{table}")
    parts.append("Write a program with a higher score.")
    system = f"{workspace.task}\n{_RESPONSE_FORMAT}"
    return [
        {"role": "system", "content": system},
        {"role": "user", "content": "\n\n".join(parts)},
    ]


def _describe(title: str, candidate: Candidate, diagnostics: bool) -> str:
    """The source of a candidate and the feedback on it, as a section."""
    feedback = (
        prompts.feedback(candidate, diagnostics=diagnostics).replace("\n## ", "\n### ").lstrip("# ")
    )
    name, _, rest = feedback.partition("\n")
    source = candidate.proposal.source.rstrip()
    return f"## {title}: {name}\n\n```python\n{source}\n```\n{rest.rstrip()}"


def retry_messages(response: Mapping[str, Any], error: NoProgramError) -> list[dict[str, str]]:
    """Messages that continue the conversation after a response without a program."""
    # A truncated response is long, and is left out.
    truncated = response["finish"] == "length"
    text = "(truncated response)" if truncated else response["text"] or "(empty response)"
    return [
        {"role": "assistant", "content": text},
        {"role": "user", "content": f"This is not a program: {error}. Respond again."},
    ]


def message_text(content: Any) -> str:
    """Text of a message; some servers split it into parts."""
    if isinstance(content, list):
        return "".join(message_text(part.get("text")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def response_program(response: Mapping[str, Any], base: str) -> str:
    """The program in a response.

    Raises:
        NoProgramError: there is none, or the response was refused or truncated.
    """
    if response["refusal"] or response["finish"] == "content_filter":
        raise NoProgramError(f"the model refused: {response['refusal'] or 'filtered'}")
    if response["finish"] == "length":
        raise NoProgramError("the response was cut off at its maximum length; write a shorter one")
    return extract_program(response["text"], base)


def valid_responses(values: Any) -> list[dict[str, Any]]:
    """Cached responses, up to the first invalid one."""
    responses = []
    fields = {"text", "refusal", "finish", "cost"}
    for response in values if isinstance(values, list) else []:
        if not isinstance(response, dict) or not fields <= set(response):
            break
        responses.append(response)
    return responses
