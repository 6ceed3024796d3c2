"""``EpisodePlan``: what a request asks for, checked against the operator's limits."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from autotts_gym.collection.asked_question import AskedQuestion
from autotts_gym.controllers.agent import Agent
from autotts_gym.gateway.api_errors import ApiError, invalid
from autotts_gym.gateway.controller_list import ControllerList
from autotts_gym.gateway.gateway_settings import GatewaySettings
from autotts_gym.gateway.request_models import (
    AutoTTSOptions,
    ChatRequest,
    CommonFields,
    CompletionRequest,
)
from autotts_gym.gateway.request_reader import (
    chat_question,
    check_fields,
    check_history,
    completion_question,
)
from autotts_gym.inference.engine import Sampling
from autotts_gym.live.live_model import LiveModel

#: Name of the protocol with which requests are passed through to the model.
PASS_THROUGH: Final = "none"

_BETA: Final = re.compile(r"0|1|0?\.\d{1,9}|[01]\.0{0,9}|0\.\d{1,9}")


@dataclass
class EpisodePlan:
    """An episode that a request asks for.

    Attributes:
        request_id: id of the request.
        model: the model's name as requested.
        controller: name of the controller.
        agent: the controller.
        live: the model.
        question: the question with its history.
        beta, latency_weight, token_budget: of the episode.
        seed: random seed; None for none.
        timeout: seconds within which the request is answered.
        started: time of ``time.monotonic()`` at which the request came.
        created: time of ``time.time()`` at which the request came, seconds.
        queue_seconds: time in the queue.
        abandoned: whether the client has gone.
        late: whether the controller did not answer in time.
    """

    request_id: str
    model: str
    controller: str
    agent: Agent
    live: LiveModel
    question: AskedQuestion
    beta: float
    latency_weight: float
    token_budget: int | None
    seed: int | None
    timeout: float
    started: float = field(default_factory=time.monotonic)
    created: int = field(default_factory=lambda: int(time.time()))
    queue_seconds: float = 0.0
    abandoned: bool = False
    late: bool = False

    @property
    def deadline(self) -> float:
        """Time of ``time.monotonic()`` at which the timeout ends."""
        return self.started + self.timeout

    @property
    def protocol(self) -> str:
        """Name of the protocol."""
        return self.live.protocol.name


@dataclass(frozen=True)
class RequestedModel:
    """A name such as ``qwen3-4b:cmc@0.3``, in its parts.

    Attributes:
        controller: name of the controller; empty for the default.
        beta: β; None for the default.
    """

    controller: str
    beta: float | None


class Planner:
    """Makes episodes of requests.

    Args:
        settings: the gateway's settings.
        served: the model's name for clients.
        controllers: the controllers that may be chosen.
        models: the model with each protocol that may be chosen, by the protocol's name; the first
            one is the default. :data:`PASS_THROUGH` is always possible.
        default_protocol: name of the default protocol, which may be :data:`PASS_THROUGH`.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        served: str,
        controllers: ControllerList,
        models: Mapping[str, LiveModel],
        default_protocol: str,
    ) -> None:
        self.served = served
        self.controllers = controllers
        self._settings = settings
        self._models = models
        self._default_protocol = default_protocol

    @property
    def model_names(self) -> list[str]:
        """Names of the model, alone and with each controller."""
        return [self.served, *(f"{self.served}:{name}" for name in self.controllers)]

    @property
    def protocols(self) -> list[str]:
        """Names of the protocols, the default one first."""
        return list(dict.fromkeys([self._default_protocol, *self._models, PASS_THROUGH]))

    def passes_through(self, request: CommonFields) -> bool:
        """Whether a request is passed through to the model.

        Raises:
            ApiError: the model or the protocol does not exist, or a controller is requested too.
        """
        model = self.read_model(request.model)
        options = request.autotts or AutoTTSOptions()
        if self._protocol(options) != PASS_THROUGH:
            return False
        if options.controller or model.controller or model.beta is not None:
            raise invalid(
                "autotts.protocol",
                "a controller needs a protocol that finds answers; with the protocol none, the "
                "request is passed through to the model",
            )
        return True

    def read_model(self, name: str) -> RequestedModel:
        """Read the name of a model.

        Raises:
            ApiError: there is no such model or controller, or β is invalid.
        """
        rest = name.removeprefix(self.served)
        if rest == name or (rest and rest[0] not in ":@"):
            raise ApiError(
                404,
                f"the model {name!r:.200} does not exist; there are {', '.join(self.model_names)}",
                code="model_not_found",
                param="model",
            )
        controller, at, beta = rest.removeprefix(":").partition("@")
        if controller:
            self._check_controller(controller, "model")
        if at and not _BETA.fullmatch(beta):
            raise invalid("model", "β, behind @ in the name of the model, must be from 0 to 1")
        return RequestedModel(controller, float(beta) if at else None)

    def plan(self, request: ChatRequest | CompletionRequest, request_id: str) -> EpisodePlan:
        """The episode of a request.

        Raises:
            ApiError: a field of the request is invalid.
        """
        model = self.read_model(request.model)
        options = request.autotts or AutoTTSOptions()
        check_fields(request)
        if isinstance(request, ChatRequest):
            question = chat_question(request.messages, self._settings.max_messages)
            tokens = request.max_completion_tokens or request.max_tokens
        else:
            question = completion_question(request.prompt)
            tokens = request.max_tokens
        protocol = self._protocol(options)
        live = self._models[protocol]
        check_history(question, "messages" in live.protocol.content["prompt"], protocol)
        controller = self._controller(options, model)
        return EpisodePlan(
            request_id=request_id,
            model=request.model,
            controller=controller,
            agent=self.controllers[controller],
            live=_derived(live, request, tokens),
            question=question,
            beta=self._beta(options, model),
            latency_weight=_first(options.latency_weight, self._settings.latency_weight),
            token_budget=self._token_budget(options, live),
            seed=None if request.seed is None else request.seed % 2**63,
            timeout=self._timeout(options),
        )

    def timeout(self, request: CommonFields) -> float:
        """Seconds within which a request is answered.

        Raises:
            ApiError: the requested time is above the operator's maximum.
        """
        return self._timeout(request.autotts or AutoTTSOptions())

    def _protocol(self, options: AutoTTSOptions) -> str:
        name = options.protocol or self._default_protocol
        if name != PASS_THROUGH and name not in self._models:
            known = ", ".join([*self._models, PASS_THROUGH])
            raise invalid("autotts.protocol", f"no protocol {name!r:.200}; there are {known}")
        return name

    def _controller(self, options: AutoTTSOptions, model: RequestedModel) -> str:
        if options.controller is None:
            return model.controller or self.controllers.default
        self._check_controller(options.controller, "autotts.controller")
        if model.controller not in ("", options.controller):
            raise invalid(
                "autotts.controller", "the name of the model and autotts.controller differ"
            )
        return options.controller

    def _check_controller(self, name: str, param: str) -> None:
        if name not in self.controllers:
            raise invalid(
                param,
                f"no controller {name!r:.200}; there are {', '.join(self.controllers)}",
                "controller_not_found",
            )

    def _beta(self, options: AutoTTSOptions, model: RequestedModel) -> float:
        beta = _first(options.beta, _first(model.beta, self._settings.beta))
        if beta > self._settings.max_beta:
            raise invalid(
                "autotts.beta" if options.beta is not None else "model",
                f"β is {beta:g}; at most {self._settings.max_beta:g} is allowed",
            )
        return beta

    def _token_budget(self, options: AutoTTSOptions, live: LiveModel) -> int | None:
        most = self._settings.max_token_budget
        budget = options.token_budget
        if budget is None:
            return most
        if most is not None and budget > most:
            raise invalid(
                "autotts.token_budget", f"token_budget is {budget}; at most {most} is allowed"
            )
        if budget < live.interval:
            raise invalid(
                "autotts.token_budget",
                f"token_budget is {budget}; it must cover one interval of {live.interval} tokens",
            )
        return budget

    def _timeout(self, options: AutoTTSOptions) -> float:
        timeout = _first(options.timeout, self._settings.timeout)
        if timeout > self._settings.max_timeout:
            raise invalid(
                "autotts.timeout",
                f"timeout is {timeout:g} s; at most {self._settings.max_timeout:g} s is allowed",
            )
        return timeout


def _derived(live: LiveModel, request: CommonFields, tokens: int | None) -> LiveModel:
    """The model with the request's sampling parameters and maximum length."""
    changes: dict[str, Any] = {
        name: value
        for name in ("temperature", "top_p", "top_k")
        if (value := getattr(request, name)) is not None
    }
    if changes.get("top_k") == -1:  # vLLM's value for all tokens
        changes["top_k"] = 0
    if not changes and tokens is None:
        return live
    return live.derive(
        sampling=Sampling(**{**live.sampling.to_dict(), **changes}),
        max_tokens=None if tokens is None else min(tokens, live.max_tokens),
    )


def _first(value: float | None, default: float) -> float:
    return default if value is None else value
