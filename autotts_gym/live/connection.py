"""What a live episode is played with: a model from arguments and from a reference, and C."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autotts_gym.inference.engine import Engine, Sampling
from autotts_gym.inference.http_engine import ServerEngine
from autotts_gym.inference.protocol import Protocol, find
from autotts_gym.inference.vllm_engine import LocalEngine
from autotts_gym.live.live_model import LiveModel
from autotts_gym.traces import registry
from autotts_gym.traces.store import Card, TraceError


def expected_tokens(live: LiveModel) -> float:
    """Expected tokens of a branch: those of the model's reference, or the most that it can have."""
    return card(live.reference).mean_tokens if live.reference else float(live.max_tokens)


def card(reference: str) -> Card:
    """The card of a reference environment; raises ``TraceError`` unless it is a single one."""
    stores = registry.open_stores(reference)
    if len(stores) != 1:
        raise TraceError(f"reference {reference!r} is several environments: {', '.join(stores)}")
    return next(iter(stores.values())).card


def connect(
    base_url: str | Sequence[str] | None = None,
    model: str | None = None,
    *,
    protocol: str | None = None,
    reference: str | None = None,
    interval: int | None = None,
    max_tokens: int | None = None,
    sampling: Mapping[str, Any] | None = None,
    api_key: str | None = None,
    patience: float = 120.0,
    engine: Mapping[str, Any] | None = None,
) -> LiveModel:
    """A running model by arguments; they are those of ``AutoTTSLiveEnv``.

    Raises:
        ValueError: neither a server nor a model is given, or an argument is out of range.
        TraceError: the reference or the protocol is none.
        EngineError: the server cannot be reached, or vLLM cannot load the model.
    """
    details = card(reference).details if reference else {}
    drawn = dict(details.get("sampling", {}))
    if base_url:
        made: Engine = ServerEngine(
            base_url,
            model,
            api_key=api_key,
            **{"stall": patience, "patience": patience, **(engine or {})},
        )
    elif model:
        made = LocalEngine(model, **(engine or {}))
    else:
        raise ValueError("give base_url (a server's) or model (one that vLLM runs here)")
    chosen: Protocol | None = None
    if protocol is None and "protocol" in details:
        facts = {k: v for k, v in details["protocol"].items() if k not in ("name", "sha256")}
        chosen = Protocol.of(details["protocol"]["name"], facts)
    elif protocol is not None:
        chosen = find(protocol, "")
    parameters = {key: drawn[key] for key in ("temperature", "top_p", "top_k") if key in drawn}
    if interval is None:
        interval = card(reference).interval if reference else 500
    live = LiveModel(
        made,
        chosen or find("chat", ""),
        interval=interval,
        max_tokens=max_tokens or drawn.get("max_tokens", 40_960),
        sampling=Sampling(**{**parameters, **(sampling or {})}),
        patience=patience,
        reference=reference,
    )
    try:
        facts = live.run(made.facts())  # to load a model may take long
        if chosen is None:
            live.protocol = find(None, facts["model"])
        most = facts.get("max_model_len")
        if max_tokens is None and "max_tokens" not in drawn and most:
            live.max_tokens = min(live.max_tokens, int(most))
    except BaseException:
        live.close()
        raise
    return live
