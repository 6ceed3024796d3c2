"""The process of an episode: what an untrusted program meets there.

It sees its slot (:mod:`autotts_gym.sandbox.memory_layout`), and writes *frames* into a pipe: the ids of
actions, four bytes each, or one of the words below, which an UTF-8 text can follow. Actions are
answered by a byte, the bits of the last one's outcome. Nothing in this process has to be trusted:
what an action does is decided elsewhere.
"""

from __future__ import annotations

import builtins
import contextlib
import mmap
import os
import struct
import sys
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import CodeType, ModuleType
from typing import Any, Final

from autotts_gym.controllers import published_programs
from autotts_gym.controllers.episode import NO_BUDGET, Episode
from autotts_gym.controllers.errors import NoAnswerError, failure_message
from autotts_gym.mdp import actions, fields
from autotts_gym.mdp.fields import BETA, BRANCH_COLUMNS, GLOBAL_COLUMNS, OPENED
from autotts_gym.sandbox import memory_layout
from autotts_gym.sandbox.memory_layout import Layout

# Instead of an action.
DONE: Final = -1  # the program has returned
FAILED: Final = -2  # it has raised; the message follows
UNLOADED: Final = -3  # it could not be loaded, or be locked in; the message follows

#: Bytes of a frame: what a pipe takes at once.
FRAME: Final = 4096
_MOST: Final = FRAME // 4
_TEXT: Final = 2048

#: Bytes of address space that are kept for the last word, where a program has taken all the others.
_RESERVE: Final = 4 << 20

_ACTIVE, _PRUNED = 1, 2  # of mdp.state's columns

#: What a program may import: the protocol, numpy, and what computes. What its text names of it is
#: loaded before a process is locked down, which could load nothing any more.
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
    f"autotts_gym.controllers.{name}"
    for name in ("episode", "published_programs", "reading", "voting")
)
#: Of these, what the others need anyhow.
ALWAYS: Final = ("collections", "functools", "math", "operator", "typing")


class Remote:
    """The environment behind the handle: actions go out, and the slot shows what came of them.

    What BRANCH, CONTINUE and PRUNE do is known beforehand where neither a budget nor a step limit
    can stand in the way: one branch changes, by what is visible, and the total by Δ. They are held
    back until something has to be learnt, so that many actions make one round trip.

    Args:
        layout: of the slot.
        slot: its memory.
        listening, telling: the pipes.
    """

    #: What :class:`~autotts_gym.controllers.episode.Episode` asks of an environment.
    auto_probe = False

    def __init__(self, layout: Layout, slot: memoryview, listening: int, telling: int) -> None:
        self._slot, self._layout = slot, layout
        self._floats, self._words = slot.cast("d"), slot.cast("q")
        self._listening, self._telling = listening, telling
        self.unwrapped = self
        self.max_branches = n = layout.branches
        facts = self._words[layout.floats :][: memory_layout.FACTS].tolist()
        self.spent: int = facts[memory_layout.SPENT]
        self.interval: int = facts[memory_layout.INTERVAL]
        self.depth_limit: int = facts[memory_layout.DEPTH_LIMIT]
        self.budget: int | None = (
            None if facts[memory_layout.BUDGET] == NO_BUDGET else facts[memory_layout.BUDGET]
        )
        self.foresees = facts[memory_layout.FORESEEN] == 1
        self.beta: float = self._floats[BETA]
        self._held = array("i")
        self._by_tokens = 0
        # Copies, which run ahead of the slot by what is held back.
        self._mask: list[int] = []
        self._columns: list[list[int]] = [[] for _ in BRANCH_COLUMNS]
        self._opened = [0.0]
        self.observation: dict[str, Any] = {
            "globals": self._opened,  # the handle looks at the first entry alone
            "action_mask": self._mask,
            **{f"branch_{c.name}": v for c, v in zip(BRANCH_COLUMNS, self._columns, strict=True)},
        }
        self._copy()
        self._nothing: tuple[dict[str, Any], float, bool, bool, dict[str, Any]]
        self._nothing = self.observation, 0.0, False, False, {}
        if layout.confidences:
            self.observation["branch_confidence"] = self._floats[len(GLOBAL_COLUMNS) :][:n]

    def get_wrapper_attr(self, name: str) -> Any:
        return getattr(self, name)

    def step(self, action: int) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Play an action, as an environment would; the reward is not told."""
        held, n = self._held, self.max_branches
        if action == actions.BRANCH:
            action += self._by_tokens
        held.append(action)
        if self.foresees and len(held) < _MOST and self._foresee(action):
            return self._nothing
        outcome = self._send()
        first = actions.action_id(actions.PROBE, 0, n)
        if self.foresees and first <= action < first + n:
            self._learn(action - first)
        else:
            self._copy()
        if not outcome:
            return self._nothing
        return self.observation, 0.0, outcome & 1 != 0, outcome & 2 != 0, {}

    def probe_all(self, branches: list[int]) -> None:
        """PROBE some branches, all in one round trip; where it foresees."""
        if not branches:
            return
        first = actions.action_id(actions.PROBE, 0, self.max_branches)
        self._held.extend([first + i for i in branches])
        self._send()
        for i in branches:
            self._learn(i)

    def _foresee(self, action: int) -> bool:
        """Do to the copies what an action does, if that is known beforehand."""
        columns, mask, n = self._columns, self._mask, self.max_branches
        requested = columns[fields.REQUESTED]
        extend, probe, prune, answer = (actions.action_id(block, 0, n) for block in range(4))
        if extend <= action < probe:
            branch = action - extend
            depth = requested[branch] + 1
        elif action & ~actions.BY_TOKENS == actions.BRANCH:
            branch = int(self._opened[0])
            depth = 1
            columns[fields.STATUS][branch], columns[fields.LATEST][branch] = _ACTIVE, -1
            mask[prune + branch] = 1
            self._opened[0] = branch + 1
            mask[actions.BRANCH] = branch + 1 < n
        elif prune <= action < answer:
            branch = action - prune
            columns[fields.STATUS][branch] = _PRUNED
            for block in (extend, probe, prune):
                mask[block + branch] = 0
            return True
        else:
            return False
        requested[branch] = depth
        self.spent += self.interval
        mask[extend + branch] = depth < self.depth_limit
        mask[probe + branch] = 1
        return True

    def _send(self) -> int:
        """Have what is held back played; the bits of the last outcome."""
        held = self._held
        os.write(self._telling, held if len(held) <= _MOST else held[:_MOST])
        outcome = os.read(self._listening, 1)
        if not outcome:
            os._exit(1)  # nobody plays any more
        if len(held) > _MOST:
            del held[:_MOST]
            return self._send()
        del held[:]
        self.spent = self._words[self._layout.floats + memory_layout.SPENT]
        return outcome[0]

    def _learn(self, i: int) -> None:
        """Catch up with what a look has shown of a branch."""
        words, layout, n = self._words, self._layout, self.max_branches
        for k, column in enumerate(self._columns):
            if k != fields.STATUS:
                column[i] = words[layout.columns + k * n + i]
        for block in (actions.CONTINUE, actions.PROBE, actions.ANSWER_BRANCH):
            place = actions.action_id(block, i, n)
            self._mask[place] = words[layout.mask + place]

    def _copy(self) -> None:
        """Catch up with the slot as a whole."""
        words, layout, n = self._words, self._layout, self.max_branches
        for k, column in enumerate(self._columns):
            column[:] = words[layout.columns + k * n :][:n].tolist()
        self._mask[:] = words[layout.mask :][: actions.count(n)].tolist()
        self._opened[0] = self._floats[OPENED]

    def tell(self, word: int, text: str = "") -> None:
        """The last frame of an episode."""
        if self._held:
            self._send()
        os.write(self._telling, struct.pack("=i", word) + text.encode("utf-8", "replace")[:_TEXT])

    # --- what a controller can ask of its environment --------------------------------------------

    @property
    def clock(self) -> int:
        """Visible clock, tokens; only a look moves it."""
        return self._words[self._layout.floats + memory_layout.CLOCK]

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
        front = self._layout.texts * memory_layout.WORD
        start = ends[answer - 1] if answer else 0
        return bytes(self._slot[front + start : front + ends[answer]]).decode(
            "utf-8", "surrogatepass"
        )

    @contextlib.contextmanager
    def billed_by_tokens(self) -> Iterator[None]:
        """Bill branches that are opened meanwhile by what was generated."""
        before, self._by_tokens = self._by_tokens, actions.BY_TOKENS
        try:
            yield
        finally:
            self._by_tokens = before


class GuestEpisode(Episode):
    """The handle, over a :class:`Remote`."""

    def probe_all(self) -> int:
        """As its own, in one round trip."""
        remote: Any = self._env
        if not remote.foresees:
            return super().probe_all()
        branches = [i for i in range(self.opened) if self.can_probe(i)]
        remote.probe_all(branches)
        first = self._id(actions.PROBE, 0)
        self.log.extend([first + i for i in branches])
        return len(branches)


def play(
    remote: Remote,
    code: CodeType,
    module: ModuleType,
    lock: Callable[[], None],
    facts: Mapping[str, Any],
) -> None:
    """Lock this process in, load the program and have it play; whatever comes of it is told.

    Args:
        remote: the episode.
        code: the program, compiled.
        module: what it becomes, with what it finds built in.
        lock: locks the process down.
        facts: of the program, see :class:`autotts_gym.sandbox.untrusted_agent.UntrustedAgent`.
    """
    reserve = mmap.mmap(-1, _RESERVE)
    try:
        lock()
        solve = load(code, module, facts)
    except BaseException as error:
        reserve.close()
        remote.tell(UNLOADED, failure_message(error))
        return
    try:
        episode = GuestEpisode(remote, remote.observation)  # type: ignore[arg-type]
        solve(*((episode, remote.beta) if facts["takes_beta"] else (episode,)))
        if not episode.ended:
            raise NoAnswerError("solve returned without episode.answer()")
    except BaseException as error:
        reserve.close()
        remote.tell(FAILED, failure_message(error))
    else:
        remote.tell(DONE)


def load(code: CodeType, module: ModuleType, facts: Mapping[str, Any]) -> Callable[..., Any]:
    """What the program plays with: its function, or the class that was named.

    Raises:
        Exception: whatever it raises, or it has no such thing.
    """
    module.__file__ = code.co_filename
    sys.modules[module.__name__] = module  # dataclasses and the like look their module up
    exec(code, module.__dict__)
    if facts["published"]:
        return published_programs.as_controller(getattr(module, facts["program"]))[0]
    return module.solve  # type: ignore[no-any-return]


def builtins_of_programs() -> dict[str, Any]:
    """What programs find built in; made once, for copying it touches every object of it."""
    return {**vars(builtins), "__import__": _import}


def _import(
    name: str,
    globals: Mapping[str, Any] | None = None,
    locals: Mapping[str, Any] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> ModuleType:
    """``import`` as the program has it; a rule of the house, while the walls are the kernel's."""
    if isinstance(fromlist, list):  # no statement, but what C code loads for itself
        return builtins.__import__(name, globals, locals, fromlist, level)
    allowed = (*LIBRARIES, *PROTOCOL)
    wanted = [name] if name in allowed else [f"{name}.{part}" for part in fromlist or ("",)]
    if level or not all(one in allowed for one in wanted):
        raise ImportError(f"an untrusted program cannot import {name}; it can {', '.join(allowed)}")
    return builtins.__import__(name, globals, locals, fromlist or (), level)
