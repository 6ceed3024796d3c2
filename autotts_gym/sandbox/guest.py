"""The guest: what runs in the process of an episode.

It loads the untrusted program and lets it play through
:class:`~autotts_gym.sandbox.guest_env.GuestEpisode`. Nothing here needs to be trusted: the player
checks every action by its own state.
"""

from __future__ import annotations

import builtins
import mmap
import sys
from collections.abc import Callable, Mapping, Sequence
from types import CodeType, ModuleType
from typing import Any, Final

from autotts_gym.controllers import RENAMED_MODULES, published_programs
from autotts_gym.controllers.errors import NoAnswerError, failure_message
from autotts_gym.sandbox.guest_env import GuestEnv, GuestEpisode
from autotts_gym.sandbox.pipe_protocol import DONE, FAILED, UNLOADED

#: Address space reserved for sending the last message of a program that uses up its memory, bytes.
_RESERVE: Final = 4 << 20

#: Modules that a program may import, besides :data:`CONTROLLER_MODULES`. Those that its source
#: mentions are loaded before a process is locked down, which can load nothing afterwards.
LIBRARIES: Final = (
    "__future__",
    "abc",
    "bisect",
    "collections",
    "collections.abc",
    "dataclasses",
    "enum",
    "functools",
    "heapq",
    "itertools",
    "math",
    "numpy",
    "numpy.fft",
    "numpy.linalg",
    "numpy.ma",
    "numpy.polynomial",
    "numpy.random",
    "numpy.typing",
    "operator",
    "random",
    "statistics",
    "typing",
)

#: Modules of this package that a program may import; old names are accepted.
CONTROLLER_MODULES: Final = tuple(
    f"autotts_gym.controllers.{name}"
    for name in (
        *("episode", "errors", "helpers", "logistic_regression", "margin_stopping"),
        *("published_programs", *RENAMED_MODULES),
    )
)

#: Modules of these that are loaded in any case: others import them, some only when they are called,
#: as ``Counter.most_common`` imports heapq.
ALWAYS_LOADED: Final = ("collections", "functools", "heapq", "math", "operator", "typing")


def play(
    env: GuestEnv,
    code: CodeType,
    module: ModuleType,
    lock: Callable[[], None],
    facts: Mapping[str, Any],
) -> None:
    """Lock down this process, load the program, play one episode, and report how it ended.

    Args:
        env: the episode's environment.
        code: the compiled program.
        module: an empty module to run it in, with the builtins of programs.
        lock: locks this process down.
        facts: ``takes_beta``, ``published`` and ``program``, see
            :class:`autotts_gym.sandbox.untrusted_agent.UntrustedAgent`.
    """
    reserve = mmap.mmap(-1, _RESERVE)
    try:
        lock()
        solve = load(code, module, facts)
    except BaseException as error:
        reserve.close()
        env.send_code(UNLOADED, failure_message(error))
        return
    try:
        episode = GuestEpisode(env, env.observation)  # type: ignore[arg-type]
        solve(*((episode, env.beta) if facts["takes_beta"] else (episode,)))
        if not episode.ended:
            raise NoAnswerError("solve returned without episode.answer()")
    except BaseException as error:
        reserve.close()
        env.send_code(FAILED, failure_message(error))
    else:
        env.send_code(DONE)


def load(code: CodeType, module: ModuleType, facts: Mapping[str, Any]) -> Callable[..., Any]:
    """Run the program's module; returns its ``solve``, or the one of its published-style class.

    Raises:
        Exception: whatever the program raises, or it defines no such thing.
    """
    module.__file__ = code.co_filename
    sys.modules[module.__name__] = module  # dataclasses and pickle look their module up
    exec(code, module.__dict__)
    if facts["published"]:
        return published_programs.as_controller(getattr(module, facts["program"]))[0]
    return module.solve  # type: ignore[no-any-return]


def program_builtins() -> dict[str, Any]:
    """Builtins of programs. Created once: copying touches, and so unshares, every object."""
    return {**vars(builtins), "__import__": _import}


def _import(
    name: str,
    globals: Mapping[str, Any] | None = None,
    locals: Mapping[str, Any] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> ModuleType:
    """``import`` for programs. A rule with a clear message; the protection is the kernel's."""
    if isinstance(fromlist, list):  # not a statement, but an import by C code
        return builtins.__import__(name, globals, locals, fromlist, level)
    allowed = (*LIBRARIES, *CONTROLLER_MODULES)
    wanted = [name] if name in allowed else [f"{name}.{part}" for part in fromlist or ("",)]
    if level or not all(one in allowed for one in wanted):
        raise ImportError(
            f"an untrusted program cannot import {name}; allowed modules: {', '.join(allowed)}"
        )
    return builtins.__import__(name, globals, locals, fromlist or (), level)
