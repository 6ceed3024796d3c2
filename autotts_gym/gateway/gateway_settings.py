"""The settings of a gateway, as the operator gives them."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from autotts_gym.inference.http_headers import check_base_urls
from autotts_gym.inference.server_apis import Api

#: Environment variables: the settings of worker processes, as JSON, and the keys of clients.
SETTINGS_VARIABLE: Final = "AUTOTTS_GATEWAY_SETTINGS"
KEY_VARIABLE: Final = "AUTOTTS_API_KEY"

#: Default controllers, and those for servers that cannot continue a message.
_CONTROLLERS: Final = ("cmc", "self_consistency")
_WHOLE_BRANCH_CONTROLLERS: Final = ("self_consistency",)


class GatewaySettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a gateway. They hold no secrets, only where these are.

    Attributes:
        upstreams: base URLs of servers of the same model.
        upstream_key_envs: environment variables with the servers' API keys: none, one for all
            servers, or one for each; an empty name for a server without a key.
        model: the model's name on the servers; by default, the only one that they serve.
        served_model: the model's name for clients; by default, that on the servers.
        api: what the servers take; see :mod:`autotts_gym.inference.server_apis`.
        controllers: names or paths of the controllers that requests may choose. The first one is
            the default. By default, cmc and self_consistency, as far as the servers can run them.
        protocols: names or paths of the protocols that requests may choose; the first one is the
            default. Without any, that of the reference or of the model.
        reference: environment that was collected from this model; see
            :func:`autotts_gym.live.connection.connect`.
        interval, max_tokens, temperature, generation_confidence: see there.
        max_branches: N, maximum width of an episode.
        beta, latency_weight: defaults of requests.
        max_beta: largest β that a request may choose.
        max_token_budget: largest token budget of a request, and its default; None for no limit.
        timeout: default seconds within which a request is answered.
        max_timeout: largest number of seconds that a request may choose.
        concurrency: maximum number of episodes at the same time, per worker.
        queue: maximum number of requests that wait for one of these, per worker.
        patience: seconds for which a failing upstream is asked again.
        stall: seconds without data from an upstream after which its requests are sent again,
            elsewhere if there is another upstream.
        health_interval: seconds between two checks of the upstreams.
        drain: seconds that running requests have at shutdown.
        max_body: maximum size of the body of a request, bytes.
        max_messages: maximum number of messages of a request.
        api_key_file: file with the keys that clients may show, one per line; those of the variable
            ``AUTOTTS_API_KEY`` (separated by commas) are valid as well. Without any key, all
            clients are served.

    Raises:
        ValueError: a setting is invalid.
    """

    upstreams: tuple[str, ...]
    upstream_key_envs: tuple[str, ...] = ()
    model: str | None = None
    served_model: str | None = None
    api: Api = "tokens"
    controllers: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()
    reference: str | None = None
    interval: int | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    generation_confidence: bool = True
    max_branches: int = 64
    beta: float = 0.5
    latency_weight: float = 0.0
    max_beta: float = 1.0
    max_token_budget: int | None = None
    timeout: float = 300.0
    max_timeout: float = 600.0
    concurrency: int = 32
    queue: int = 128
    patience: float = 60.0
    stall: float = 30.0
    health_interval: float = 5.0
    drain: float = 60.0
    max_body: int = 1 << 20
    max_messages: int = 1024
    api_key_file: str | None = None

    def __post_init__(self) -> None:
        check_base_urls(self.upstreams)
        for name in ("timeout", "max_timeout", "patience", "stall", "health_interval", "drain"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be a number of seconds above 0, got {value!r}")
        for name in ("beta", "max_beta", "latency_weight"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {value!r}")
        for name, least in (("concurrency", 1), ("queue", 0), ("max_body", 1), ("max_messages", 1)):
            value = getattr(self, name)
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value!r}")
        if self.max_token_budget is not None and self.max_token_budget < 1:
            raise ValueError(f"max_token_budget must be at least 1, got {self.max_token_budget!r}")
        if self.reads_whole_branches and self.interval is not None:
            raise ValueError("with the API whole-chat, the interval is the maximum length")
        if self.beta > self.max_beta:
            raise ValueError(f"beta {self.beta:g} is above max_beta {self.max_beta:g}")
        if self.timeout > self.max_timeout:
            raise ValueError(f"timeout {self.timeout:g} is above max_timeout {self.max_timeout:g}")
        if len(self.upstream_key_envs) not in (0, 1, len(self.upstreams)):
            raise ValueError(
                f"give one variable with a key for all upstreams, or one for each of the "
                f"{len(self.upstreams)}, got {len(self.upstream_key_envs)}"
            )

    @property
    def reads_whole_branches(self) -> bool:
        """Whether branches can be neither probed nor continued."""
        return self.api == "whole-chat"

    @property
    def allowed_controllers(self) -> tuple[str, ...]:
        """Names or paths of the controllers that requests may choose."""
        return self.controllers or (
            _WHOLE_BRANCH_CONTROLLERS if self.reads_whole_branches else _CONTROLLERS
        )

    def upstream_headers(self, environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
        """The headers with the key of each upstream, by base URL.

        Raises:
            ValueError: a variable is not set.
        """
        names = self.upstream_key_envs
        if len(names) == 1:
            names = names * len(self.upstreams)
        headers: dict[str, Any] = {}
        for url, name in zip(self.upstreams, names, strict=False):
            if not name:
                continue
            if not environment.get(name):
                raise ValueError(f"the environment variable {name!r:.80} with a key is not set")
            headers[url.rstrip("/")] = {"Authorization": f"Bearer {environment[name]}"}
        return headers

    def client_keys(self, environment: Mapping[str, str] = os.environ) -> list[str]:
        """The keys that clients may show; none if all clients are served.

        Raises:
            OSError: the file cannot be read.
            ValueError: the file holds no key.
        """
        keys = [key.strip() for key in environment.get(KEY_VARIABLE, "").split(",")]
        if self.api_key_file is not None:
            lines = Path(self.api_key_file).read_text("utf-8").splitlines()
            found = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
            if not found:
                raise ValueError(f"{self.api_key_file}: holds no key; write one per line")
            keys += found
        return [key for key in keys if key]
