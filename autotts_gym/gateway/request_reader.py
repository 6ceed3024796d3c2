"""Reading of requests: the question with its history, and the fields that cannot be honoured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from autotts_gym.collection.asked_question import AskedQuestion
from autotts_gym.gateway.api_errors import ApiError, invalid
from autotts_gym.gateway.request_models import ChatMessage, ChatRequest, CompletionRequest

_ROLES: Final = ("system", "developer", "user", "assistant")


def _is_any(value: Any) -> bool:
    return True


def _one_of(*values: Any) -> Callable[[Any], bool]:
    return lambda value: value is None or value in values


#: Fields of OpenAI's and vLLM's API that have an effect which the gateway cannot have, and the
#: values without that effect. Fields that never change the text are accepted with any value.
_NEUTRAL: Final[dict[str, Callable[[Any], bool]]] = {
    "n": _one_of(1),
    "best_of": _one_of(1),
    "tools": _one_of([]),
    "tool_choice": _one_of("none", "auto"),
    "parallel_tool_calls": _is_any,
    "functions": _one_of([]),
    "function_call": _one_of("none", "auto"),
    "response_format": _one_of({"type": "text"}),
    "logprobs": _one_of(False),
    "top_logprobs": _one_of(0),
    "prompt_logprobs": _one_of(),
    "stop": _one_of([], ""),
    "presence_penalty": _one_of(0),
    "frequency_penalty": _one_of(0),
    "repetition_penalty": _one_of(1),
    "logit_bias": _one_of({}),
    "min_p": _one_of(0),
    "modalities": _one_of(["text"]),
    "echo": _one_of(False),
    "suffix": _one_of(""),
    "service_tier": _one_of("auto", "default"),
    "store": _one_of(False),
    "user": _is_any,
    "metadata": _is_any,
    "safety_identifier": _is_any,
    "prompt_cache_key": _is_any,
    "prompt_cache_retention": _is_any,
}
#: Further fields of messages, which are accepted if they are empty: clients send earlier replies
#: back as they are. The reasoning of an earlier reply is left out, as chat templates do.
_IGNORED_OF_MESSAGES: Final = ("reasoning_content", "reasoning")


def check_fields(request: ChatRequest | CompletionRequest) -> None:
    """Refuse fields that a controller cannot honour.

    Raises:
        ApiError: there is such a field.
    """
    for name, value in (request.model_extra or {}).items():
        is_neutral = _NEUTRAL.get(name)
        shown = f"{name:.80}"
        if is_neutral is None:
            raise invalid(shown, f"unknown field: {shown!r}", "unknown_parameter")
        if not is_neutral(value):
            raise invalid(
                shown,
                f"{name} has a value that cannot be honoured, because the answer comes from "
                "several branches: leave it out, or pass the request through to the model with "
                '"autotts": {"protocol": "none"}',
                "unsupported_parameter",
            )


def chat_question(messages: list[ChatMessage], most: int) -> AskedQuestion:
    """The question of a conversation: its last message, with the earlier ones as history.

    Args:
        messages: the messages.
        most: maximum number of messages.

    Raises:
        ApiError: a message is invalid.
    """
    if len(messages) > most:
        raise invalid("messages", f"{len(messages)} messages; at most {most} are allowed")
    read = [_read_message(k, message) for k, message in enumerate(messages)]
    role, text = read[-1]
    if role != "user":
        raise invalid("messages", f"the last message must be the user's, not the {role}'s")
    return _question(text, "messages", read[:-1])


def completion_question(prompt: str | list[Any]) -> AskedQuestion:
    """The question of a completion: its prompt.

    Raises:
        ApiError: it is not one text.
    """
    if isinstance(prompt, list):
        if len(prompt) != 1 or not isinstance(prompt[0], str):
            raise invalid("prompt", "prompt must be one text, not several, and not token ids")
        prompt = prompt[0]
    return _question(prompt, "prompt", [])


def _question(text: str, param: str, history: list[tuple[str, str]]) -> AskedQuestion:
    if not text.strip():
        raise invalid(param, "the question is empty")
    for part in (text, *(content for _, content in history)):
        try:
            part.encode()
        except UnicodeEncodeError as error:
            raise invalid(
                param, f"not valid Unicode: a lone surrogate at character {error.start}"
            ) from None
    return AskedQuestion("request", text, history=tuple(history))


def _read_message(k: int, message: ChatMessage) -> tuple[str, str]:
    where = f"messages[{k}]"
    if message.role not in _ROLES:
        raise invalid(
            f"{where}.role",
            f"{where}: the role must be one of {', '.join(_ROLES)}; messages of tools need the "
            "protocol none",
        )
    for name, value in (message.model_extra or {}).items():
        if value and name not in _IGNORED_OF_MESSAGES:
            shown = f"{name:.80}"
            raise invalid(
                f"{where}.{shown}",
                f"{where}: the field {shown!r} cannot be honoured",
                "unsupported_parameter",
            )
    content = message.content
    if content is None:
        raise invalid(f"{where}.content", f"{where}: content is missing")
    if isinstance(content, str):
        return message.role, content
    return message.role, "\n".join(
        _read_part(f"{where}.content[{j}]", part) for j, part in enumerate(content)
    )


def _read_part(where: str, part: dict[str, Any]) -> str:
    text = part.get("text")
    if part.get("type") != "text" or not isinstance(text, str):
        raise invalid(
            where,
            f"{where}: only parts of text are supported: "
            '{"type": "text", "text": "..."}; other parts need the protocol none',
            "unsupported_parameter",
        )
    return text


def check_history(question: AskedQuestion, takes_messages: bool, protocol: str) -> None:
    """Refuse a conversation where the protocol takes one question.

    Raises:
        ApiError: the question has a history, and the protocol takes none.
    """
    if question.history and not takes_messages:
        raise ApiError(
            400,
            f"the protocol {protocol!r} takes one question, without earlier messages and system "
            "prompts",
            param="messages",
            code="unsupported_parameter",
        )
