"""Replies: chat completions and completions of OpenAI's API, with the bill of all branches."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from autotts_gym.deployment.solver import Solution


class Bill(BaseModel):
    """How the answer came about, and what it cost: the field ``autotts`` of a reply."""

    controller: str
    beta: float
    answer: str
    votes: dict[str, int] = Field(description="Latest answers of the active branches.")
    confidence: float = Field(description="Fraction of the votes for the answer.")
    branches: int
    probes: int
    tokens: int = Field(description="Billed tokens of all branches.")
    sequential_tokens: int = Field(description="Billed tokens on the critical path.")
    generated_tokens: int
    probe_tokens: int
    wall_seconds: float
    self_consistency_tokens: int | None = Field(
        default=None, description="Expected tokens of self-consistency."
    )
    saved_tokens: int | None = Field(
        default=None, description="Tokens saved against self-consistency."
    )
    timed_out: bool
    error: str = Field(default="", description="Why the episode ended early, if the model failed.")


class Usage(BaseModel):
    """Tokens of the prompt, and of all branches and probes."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ReplyMessage(BaseModel):
    """The message of a chat completion."""

    role: Literal["assistant"] = "assistant"
    content: str
    reasoning_content: str | None = None
    refusal: None = None


class ChatChoice(BaseModel):
    """The choice of a chat completion."""

    index: int = 0
    message: ReplyMessage
    finish_reason: Literal["stop", "length"]
    logprobs: None = None


class ChatCompletion(BaseModel):
    """A chat completion."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    autotts: Bill


class TextChoice(BaseModel):
    """The choice of a completion."""

    index: int = 0
    text: str
    finish_reason: Literal["stop", "length"]
    logprobs: None = None


class TextCompletion(BaseModel):
    """A completion."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage
    autotts: Bill


class ModelCard(BaseModel):
    """A model, or a model with a controller."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "autotts_gym"
    root: str
    max_model_len: int | None = None


class ModelCards(BaseModel):
    """The models."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


def bill(solution: Solution, controller: str, beta: float) -> Bill:
    """The bill of a solution."""
    expected = solution.self_consistency_tokens
    facts = solution.facts()
    shared = {name: facts[name] for name in Bill.model_fields.keys() & facts.keys()}
    return Bill(
        **{
            **shared,
            "controller": controller,
            "beta": beta,
            "saved_tokens": None if expected is None else expected - solution.tokens,
            # Details of failures name upstreams; they are in the log.
            "error": "the model server failed during the episode" if solution.error else "",
        }
    )


def usage(solution: Solution) -> Usage:
    """Tokens of all branches and probes, aborted ones included."""
    completion = solution.generated_tokens + solution.probe_tokens
    return Usage(
        prompt_tokens=solution.prompt_tokens,
        completion_tokens=completion,
        total_tokens=solution.prompt_tokens + completion,
    )


def finish_reason(solution: Solution) -> Literal["stop", "length"]:
    """``length`` if a limit or a failure ended the branch or the episode early."""
    early = solution.is_cut or solution.timed_out or solution.error
    return "length" if early else "stop"


def chat_reply(head: dict[str, Any], solution: Solution, made: Bill) -> ChatCompletion:
    """The chat completion of a solution; ``head`` has ``id``, ``created`` and ``model``."""
    message = ReplyMessage(
        content=solution.text.strip("\n"),
        reasoning_content=solution.reasoning.strip("\n") or None,
    )
    choice = ChatChoice(message=message, finish_reason=finish_reason(solution))
    return ChatCompletion(**head, choices=[choice], usage=usage(solution), autotts=made)


def text_reply(head: dict[str, Any], solution: Solution, made: Bill) -> TextCompletion:
    """The completion of a solution; ``head`` has ``id``, ``created`` and ``model``."""
    choice = TextChoice(text=solution.text.strip("\n"), finish_reason=finish_reason(solution))
    return TextCompletion(**head, choices=[choice], usage=usage(solution), autotts=made)
