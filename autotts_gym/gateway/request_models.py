"""The requests of OpenAI's API that the gateway takes, and their description."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

_INT64 = 2**63
_INT53 = 2**53

Fraction = Annotated[float, Field(ge=0, le=1)]


class AutoTTSOptions(BaseModel):
    """How the request is answered; each field has a default of the gateway."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    controller: str | None = Field(default=None, description="One of the gateway's controllers.")
    beta: Fraction | None = Field(default=None, description="β: 0 spends least, 1 most.")
    token_budget: Annotated[int, Field(ge=1, le=_INT53)] | None = Field(
        default=None, description="Maximum number of billed tokens of all branches together."
    )
    latency_weight: Fraction | None = Field(
        default=None, description="w, the weight of sequential tokens in the cost."
    )
    timeout: Annotated[float, Field(gt=0, le=1e9)] | None = Field(
        default=None, description="Seconds after which the best answer so far is given."
    )
    protocol: str | None = Field(
        default=None,
        description="One of the gateway's protocols, or `none` to pass the request through to the "
        "model server as it is.",
    )


class StreamOptions(BaseModel):
    """Options of a stream."""

    model_config = ConfigDict(extra="allow", strict=True)

    include_usage: bool | None = Field(default=None, description="End the stream with the usage.")


class CommonFields(BaseModel):
    """Fields of both kinds of requests.

    Other fields of OpenAI's API are accepted with their default values, and passed through with
    the protocol `none`.
    """

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)

    model: str = Field(
        description="The model, optionally with a controller and β: `qwen3-4b:cmc@0.3`."
    )
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=2**31 - 1)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = Field(
        default=None, description="Maximum number of tokens of each branch."
    )
    seed: Annotated[int, Field(ge=-_INT64, lt=_INT64)] | None = None
    autotts: AutoTTSOptions | None = None


class ChatMessage(BaseModel):
    """A message of a conversation."""

    model_config = ConfigDict(extra="allow", strict=True)

    role: str
    content: str | list[dict[str, Any]] | None = None


class ChatRequest(CommonFields):
    """A request for a chat completion."""

    messages: list[ChatMessage] = Field(min_length=1)
    max_completion_tokens: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = Field(
        default=None, description="The same as `max_tokens`."
    )


class CompletionRequest(CommonFields):
    """A request for a completion: the prompt is the question, to which the protocol is applied."""

    prompt: str | list[Any]
