"""What servers take, and the engines for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

from autotts_gym.inference.http_engine import ServerEngine
from autotts_gym.inference.text_engine import TextEngine
from autotts_gym.inference.whole_chat_engine import WholeChatEngine

#: How a server is asked: with token ids (vLLM), with text, with messages, or with messages that it
#: cannot continue.
Api = Literal["tokens", "completions", "chat", "whole-chat"]
APIS: Final[tuple[Api, ...]] = ("tokens", "completions", "chat", "whole-chat")


def create_engine(
    base_urls: str | Sequence[str], model: str | None = None, *, api: Api = "tokens", **options: Any
) -> ServerEngine:
    """Create the engine for servers.

    Args:
        base_urls, model, options: as for :class:`~autotts_gym.inference.http_engine.ServerEngine`.
        api: ``"tokens"`` for vLLM's server, ``"completions"`` or ``"chat"`` for others;
            ``"whole-chat"`` for those that cannot continue a message.

    Raises:
        ValueError: an argument is out of range.
    """
    if api not in APIS:
        raise ValueError(f"api must be one of {', '.join(APIS)}, got {api!r}")
    if api == "tokens":
        return ServerEngine(base_urls, model, **options)
    if api == "whole-chat":
        return WholeChatEngine(base_urls, model, **options)
    return TextEngine(base_urls, model, chat=api == "chat", **options)
