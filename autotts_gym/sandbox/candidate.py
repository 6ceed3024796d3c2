"""The process of an episode: what an untrusted program meets there.

It sees its slot (:mod:`autotts_gym.sandbox.slots`), and writes *frames* into a pipe: four bytes,
either the id of an action or one of the words below, which an UTF-8 text can follow. Every action
is answered by a byte, the outcome's bits. Nothing in this process has to be trusted: what an action
does is decided elsewhere.
"""

from __future__ import annotations

import builtins
import contextlib
import os
import struct
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import CodeType, ModuleType
from typing import Any, Final

from autotts_gym.controllers import published
from autotts_gym.controllers.failures import message
from autotts_gym.controllers.handle import NO_BUDGET, Episode, NoAnswerError
from autotts_gym.mdp import actions
from autotts_gym.mdp.totals import BETA, GLOBALS_SIZE
from autotts_gym.sandbox import slots
from autotts_gym.sandbox.slots import Layout

# Instead of an action.
DONE: Final = -1  # the program has returned
FAILED: Final = -2  # it has raised; the message follows
UNLOADED: Final = -3  # it could not be loaded, or be locked in; the message follows

#: Added to BRANCH: the branch is billed by what was generated, whatever the terms say.
BY_TOKENS: Final = 1 << 20

#: Bytes of a frame: what a pipe takes at once.
FRAME: Final = 4096
_TEXT: Final = 2048

_TERMINATED, _TRUNCATED = 1, 2  # of mdp.batch's outcomes

#: What a program may import: the protocol, numpy, and what computes. It is all loaded before the
#: process is locked down, which could load nothing any more.
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
PROTOCOL: Final = tuple(
    f"autotts_gym.controllers.{name}" for name in ("handle", "published", "reading", "voting")
)


class Remote:
    """The environment behind the handle: actions go out, and the slot shows what came of them.

    Args:
        layout: of the slot.
        slot: its memory.
        listening, telling: the pipes.
    """

    #: What :class:`~autotts_gym.controllers.handle.Episode` asks of an environment.
    auto_probe = False

    def __init__(self, layout: Layout, slot: memoryview, listening: int, telling: int) -> None:
        self._floats, self._words = slot.cast("d"), slot.cast("q")
        self._slot, self._layout = slot, layout
        self._listening, self._telling = listening, telling
        self._by_tokens = 0
        self.unwrapped = self
        self.max_branches = n = layout.branches
        self._facts = layout.floats
        columns = [self._words[layout.columns + k * n :][:n] for k in range(slots.OBSERVED)]
        names = ("status", "requested", "revealed", "latest", "finished")
        self.observation: dict[str, Any] = {
            "globals": self._floats[:GLOBALS_SIZE],
            "action_mask": self._words[layout.mask :][: actions.count(n)],
            **{f"branch_{name}": column for name, column in zip(names, columns, strict=True)},
        }
        if layout.confidences:
            self.observation["branch_confidence"] = self._floats[GLOBALS_SIZE:][:n]

    def get_wrapper_attr(self, name: str) -> Any:
        return getattr(self, name)

    def step(self, action: int) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Play an action, as an environment would; the reward is not told."""
        if action == actions.BRANCH:
            action += self._by_tokens
        os.write(self._telling, struct.pack("=i", action))
        outcome = os.read(self._listening, 1)
        if not outcome:
            os._exit(1)  # nobody plays any more
        bits = outcome[0]
        return self.observation, 0.0, bits & _TERMINATED != 0, bits & _TRUNCATED != 0, {}

    def tell(self, word: int, text: str = "") -> None:
        """The last frame of an episode."""
        os.write(self._telling, struct.pack("=i", word) + text.encode("utf-8", "replace")[:_TEXT])

    # --- what a controller can ask of its environment --------------------------------------------

    @property
    def beta(self) -> float:
        return self._floats[BETA]

    @property
    def spent(self) -> int:
        return self._words[self._facts + slots.SPENT]

    @property
    def clock(self) -> int:
        return self._words[self._facts + slots.CLOCK]

    @property
    def interval(self) -> int:
        return self._words[self._facts + slots.INTERVAL]

    @property
    def depth_limit(self) -> int:
        return self._words[self._facts + slots.DEPTH_LIMIT]

    @property
    def budget(self) -> int | None:
        budget = self._words[self._facts + slots.BUDGET]
        return None if budget == NO_BUDGET else budget

    def is_null(self, answer: int) -> bool:
        """Whether a class of this episode means that the probe found no answer."""
        layout = self._layout
        if not 0 <= answer < layout.classes:
            return False
        return self._words[layout.votes + layout.classes + 1 + answer] == 1

    def answer_text(self, answer: int) -> str:
        """The answer behind a class of this episode; empty for -1."""
        if answer == -1:
            return ""
        ends = self._words[self._layout.ends :][: self._layout.classes]
        if not 0 <= answer < len(ends) or ends[answer] < 0:
            raise ValueError(f"there is no answer class {answer} in this episode")
        front = self._layout.texts * slots.WORD
        start = ends[answer - 1] if answer else 0
        return bytes(self._slot[front + start : front + ends[answer]]).decode(
            "utf-8", "surrogatepass"
        )

    @contextlib.contextmanager
    def billed_by_tokens(self) -> Iterator[None]:
        """Bill branches that are opened meanwhile by what was generated."""
        before, self._by_tokens = self._by_tokens, BY_TOKENS
        try:
            yield
        finally:
            self._by_tokens = before


def play(
    remote: Remote, code: CodeType, name: str, lock: Callable[[], None], facts: Mapping[str, Any]
) -> None:
    """Lock this process in, load the program and have it play; whatever comes of it is told.

    Args:
        remote: the episode.
        code: the program, compiled.
        name: of the module that it becomes.
        lock: locks the process down.
        facts: of the program, see :class:`autotts_gym.sandbox.agent.UntrustedAgent`.
    """
    try:
        lock()
        solve = load(code, name, facts)
    except BaseException as error:
        remote.tell(UNLOADED, message(error))
        return
    try:
        episode = Episode(remote, remote.observation)  # type: ignore[arg-type]
        solve(*((episode, remote.beta) if facts["takes_beta"] else (episode,)))
        if not episode.ended:
            raise NoAnswerError("solve returned without episode.answer()")
    except BaseException as error:
        remote.tell(FAILED, message(error))
    else:
        remote.tell(DONE)


def load(code: CodeType, name: str, facts: Mapping[str, Any]) -> Callable[..., Any]:
    """What the program plays with: its function, or the class that was named.

    Raises:
        Exception: whatever it raises, or it has no such thing.
    """
    module = ModuleType(name)
    module.__file__ = code.co_filename
    module.__dict__["__builtins__"] = {**vars(builtins), "__import__": _import}
    sys.modules[name] = module  # dataclasses and the like look their module up
    exec(code, module.__dict__)
    if facts["published"]:
        return published.as_controller(getattr(module, facts["program"]))[0]
    return module.solve  # type: ignore[no-any-return]


def _import(
    name: str,
    globals: Mapping[str, Any] | None = None,
    locals: Mapping[str, Any] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> ModuleType:
    """``import`` as the program has it; a rule of the house, while the walls are the kernel's."""
    allowed = (*LIBRARIES, *PROTOCOL)
    wanted = [name] if name in allowed else [f"{name}.{part}" for part in fromlist or ("",)]
    if level or not all(one in allowed for one in wanted):
        raise ImportError(f"an untrusted program cannot import {name}; it can {', '.join(allowed)}")
    return builtins.__import__(name, globals, locals, fromlist or (), level)
