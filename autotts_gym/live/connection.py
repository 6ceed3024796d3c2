"""``connect``: a ``LiveModel`` from a server's address or a model's name, and a reference."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

from autotts_gym.inference.engine import Engine, Sampling
from autotts_gym.inference.protocol import Protocol, find_protocol
from autotts_gym.inference.server_apis import Api, create_engine
from autotts_gym.inference.vllm_engine import LocalEngine
from autotts_gym.inference.whole_chat_engine import WholeChatEngine
from autotts_gym.live.live_model import LiveModel
from autotts_gym.traces import registry
from autotts_gym.traces.store import Card, TraceError, TraceStore

_DEFAULT_INTERVAL = 500
_DEFAULT_MAX_TOKENS = 40_960


class ConnectionOptions(TypedDict, total=False):
    """Keyword arguments of :func:`connect`, where other functions pass them on."""

    base_url: str | Sequence[str] | None
    model: str | os.PathLike[str] | None
    protocol: str | os.PathLike[str] | None
    reference: str | os.PathLike[str] | None
    interval: int | None
    max_tokens: int | None
    sampling: Mapping[str, Any] | None
    api: Api
    api_key: str | None
    headers: Mapping[str, str] | None
    patience: float
    engine: Mapping[str, Any] | None
    generation_confidence: bool


def connect(
    base_url: str | Sequence[str] | None = None,
    model: str | os.PathLike[str] | None = None,
    *,
    protocol: str | os.PathLike[str] | None = None,
    reference: str | os.PathLike[str] | None = None,
    interval: int | None = None,
    max_tokens: int | None = None,
    sampling: Mapping[str, Any] | None = None,
    api: Api = "tokens",
    api_key: str | None = None,
    headers: Mapping[str, str] | None = None,
    patience: float = 120.0,
    engine: Mapping[str, Any] | None = None,
    generation_confidence: bool = True,
    new_event_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
) -> LiveModel:
    """Connect to a server, or load a model with vLLM in this process.

    Args:
        base_url: address of an OpenAI-compatible vLLM server, such as
            ``http://127.0.0.1:8000/v1``, or of several servers of the same model.
        model: with ``base_url``, the model's name on the server (default: the only model that it
            serves); without, folder or name of the model that vLLM loads here.
        protocol: name or file of a protocol (:mod:`autotts_gym.inference.protocol`). Default: that
            of the reference, else the one that matches the model's name.
        reference: name or path of an environment that was collected from this model. Its card
            provides the protocol, interval, sampling and maximum length that are not given.
        interval: Δ, tokens. Default: that of the reference, else 500. With the API
            ``"whole-chat"``, it is the maximum length of a branch.
        max_tokens: maximum length of a branch, tokens. Default: that of the reference, else 40,960
            or the model's maximum length, whichever is less.
        sampling: any of ``temperature``, ``top_p`` and ``top_k``.
        api: ``"tokens"`` for vLLM's server; ``"completions"`` or ``"chat"`` for others, which
            take text or messages (:mod:`autotts_gym.inference.text_engine`); ``"whole-chat"`` for
            those that cannot continue a message
            (:mod:`autotts_gym.inference.whole_chat_engine`).
        api_key: sent to the server.
        headers: further headers of every request to the server.
        patience: seconds without a sign of life after which a request fails.
        engine: further arguments of the engine.
        generation_confidence: ask for the log-probabilities of the likeliest tokens.
        new_event_loop: makes the model's event loop.

    Raises:
        ValueError: neither ``base_url`` nor ``model`` is given, or an argument is out of range.
        TraceError: the reference or the protocol cannot be read.
        EngineError: the server cannot be reached, or vLLM cannot load the model.
    """
    card = reference_card(reference) if reference else None
    details = card.details if card else {}
    collected = dict(details.get("sampling", {}))
    parameters = {
        key: collected[key] for key in ("temperature", "top_p", "top_k") if key in collected
    }
    chosen = _configured_protocol(protocol, details)
    backend = _build_engine(base_url, model, api, api_key, headers, patience, engine or {})
    if interval is None:
        interval = card.interval if card else _DEFAULT_INTERVAL
    limit = max_tokens
    if limit is None:
        limit = collected.get("max_tokens", _DEFAULT_MAX_TOKENS)
    live = LiveModel(
        backend,
        chosen or find_protocol("chat", ""),  # replaced below, when the model's name is known
        interval=interval,
        max_tokens=limit,
        sampling=Sampling(**{**parameters, **(sampling or {})}),
        patience=patience,
        reference=reference,
        generation_confidence=generation_confidence,
        new_event_loop=new_event_loop,
    )
    try:
        facts = live.run(backend.describe())  # without a timeout: loading a model may take long
        if chosen is None:
            live.protocol = find_protocol(None, facts["model"])
        longest = facts.get("max_model_len")
        if max_tokens is None and "max_tokens" not in collected and longest:
            live.max_tokens = min(live.max_tokens, int(longest))
        if isinstance(backend, WholeChatEngine):
            live.interval = live.max_tokens
            backend.reasoning_end = live.protocol.close or "\n\n"
    except BaseException:
        live.close()
        raise
    return live


def _build_engine(
    base_url: str | Sequence[str] | None,
    model: str | os.PathLike[str] | None,
    api: Api,
    api_key: str | None,
    headers: Mapping[str, str] | None,
    patience: float,
    options: Mapping[str, Any],
) -> Engine:
    name = None if model is None else os.fspath(model)
    if base_url:
        timeouts = {"stall": patience, "patience": patience}
        sent = {"api_key": api_key, "headers": headers, "api": api}
        return create_engine(base_url, name, **{**sent, **timeouts, **options})
    if name:
        return LocalEngine(name, **options)
    raise ValueError("give base_url (of a server) or model (for vLLM in this process)")


def _configured_protocol(
    protocol: str | os.PathLike[str] | None, details: Mapping[str, Any]
) -> Protocol | None:
    """The protocol given, or that of a reference card's ``details``; None if there is neither."""
    if protocol is not None:
        return find_protocol(os.fspath(protocol), "")
    if "protocol" not in details:
        return None
    facts = {k: v for k, v in details["protocol"].items() if k not in ("name", "sha256")}
    return Protocol.from_dict(details["protocol"]["name"], facts)


def expected_branch_tokens(live: LiveModel) -> float:
    """Expected tokens of a branch: the reference's mean, or the maximum without a reference."""
    if live.reference:
        return reference_card(live.reference).mean_tokens
    return float(live.max_tokens)


def expected_longest_tokens(live: LiveModel, width: int) -> float:
    """Expected longest of ``width`` branches, tokens: L of the reference, or the maximum."""
    if live.reference:
        return _reference_store(live.reference).longest_tokens(width)
    return float(live.max_tokens)


def reference_card(reference: str | os.PathLike[str]) -> Card:
    """Return the card of a reference environment.

    Raises:
        TraceError: the environment does not exist, or the name matches several.
    """
    return _reference_store(reference).card


def _reference_store(reference: str | os.PathLike[str]) -> TraceStore:
    """Open a reference environment.

    Raises:
        TraceError: the environment does not exist, or the name matches several.
    """
    stores = registry.open_stores(reference)
    if len(stores) != 1:
        raise TraceError(
            f"reference {os.fspath(reference)!r} matches several environments: "
            f"{', '.join(stores)}; name one of them"
        )
    return next(iter(stores.values()))
