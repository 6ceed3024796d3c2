"""Environments and controllers by name, path or value."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from autotts_gym.utils.keywords import suggest_keywords

if TYPE_CHECKING:
    from autotts_gym.controllers.agent import Agent
    from autotts_gym.traces.store import TraceStore

StrPath = str | os.PathLike[str]


@suggest_keywords()
def load_env(env: StrPath) -> TraceStore:
    """Load one environment: its recorded traces.

    Args:
        env: a name (see :func:`list_envs`) or the path of a trace store.

    Raises:
        TraceError: there is no such environment, or ``env`` is a folder with several; the message
            lists them.
    """
    from autotts_gym.traces import registry

    return registry.open_store(env)


def load_envs(*envs: StrPath) -> dict[str, TraceStore]:
    """Load environments as a dict from name to trace store.

    Args:
        envs: names or paths, of environments or of folders of environments, such as ``"tinylm"``;
            default ``qwen2.5-coder-0.5b/problems``.

    Raises:
        TraceError: there is no such environment, or it cannot be read.
    """
    from autotts_gym.traces import registry

    return registry.open_stores(*(envs or (registry.DEFAULT,)))


def list_envs() -> list[str]:
    """Names of all installed environments."""
    from autotts_gym.traces import registry

    return list(registry.listing())


@suggest_keywords()
def load_controller(controller: StrPath | Callable[..., Any] | Agent) -> Agent:
    """Load a controller.

    Args:
        controller: a name (see :func:`list_controllers`); the path of a ``.py`` file or of the
            folder of a trained policy; ``FILE.py:CLASS`` for a class in the style of the published
            programs; or a function ``solve(episode, beta)`` or ``solve(episode)``.

    Raises:
        AgentError: there is no such controller, or it cannot be played.
    """
    from autotts_gym.controllers.loader import load

    return load(controller)


def list_controllers() -> list[str]:
    """Names of all installed controllers and trained policies."""
    from autotts_gym.controllers.loader import names, trained

    return [*names(), *trained()]


def load_controllers(
    controllers: StrPath
    | Callable[..., Any]
    | Agent
    | Iterable[StrPath | Callable[..., Any] | Agent],
    untrusted: bool = False,
    weaker_sandbox: bool = False,
) -> list[Agent]:
    """Load one or several controllers, without duplicates.

    Args:
        controllers: as for :func:`load_controller`.
        untrusted: controllers that are given as ``.py`` files may run in a sandbox only.
        weaker_sandbox: accept a machine whose sandbox lacks a protection.

    Raises:
        MissingProtectionError: a controller needs a sandbox, and this machine's lacks a
            protection.
    """
    from autotts_gym.controllers.loader import load
    from autotts_gym.sandbox import lockdown
    from autotts_gym.sandbox.untrusted_agent import is_file, load_untrusted

    given: list[StrPath | Callable[..., Any] | Agent]
    if isinstance(controllers, str | os.PathLike) or not isinstance(controllers, Iterable):
        given = [controllers]
    else:
        given = list(controllers)
    loaded = [
        load_untrusted(os.fspath(one), weaker_sandbox=weaker_sandbox)
        if untrusted and isinstance(one, str | os.PathLike) and is_file(os.fspath(one))
        else load(one)
        for one in given
    ]
    if any(agent.is_untrusted for agent in loaded):
        lockdown.check(weaker_sandbox)
    return list(dict.fromkeys(loaded))


def open_envs(
    envs: StrPath | TraceStore | Iterable[StrPath | TraceStore] | Mapping[str, TraceStore] | None,
) -> dict[str, TraceStore]:
    """Open environments as a dict from name to trace store; None opens the default environment.

    A trace store gets the name of its folder, or ``store-FINGERPRINT`` if it is in memory.
    """
    from autotts_gym.traces.store import TraceStore

    if envs is None:
        return load_envs()
    if isinstance(envs, Mapping):
        return dict(envs)
    given: Sequence[StrPath | TraceStore]
    given = [envs] if isinstance(envs, str | os.PathLike | TraceStore) else list(envs)
    stores: dict[str, TraceStore] = {}
    for env in given:
        if isinstance(env, TraceStore):
            name = env.path.name if env.path else f"store-{env.card.fingerprint[:8]}"
            stores[name] = env
        else:
            stores |= load_envs(env)
    return stores
