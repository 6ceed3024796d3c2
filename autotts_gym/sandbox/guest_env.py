"""The environment behind the episode that an untrusted program plays."""

from __future__ import annotations

import contextlib
import os
import struct
from array import array
from collections.abc import Iterator
from typing import Any

from autotts_gym.controllers.episode import NO_BUDGET, Episode
from autotts_gym.mdp import actions, fields
from autotts_gym.mdp.fields import BRANCH_COLUMNS
from autotts_gym.mdp.generation_confidence import check_window, lowest_confidence, mean_confidence
from autotts_gym.sandbox import memory_layout
from autotts_gym.sandbox.memory_layout import Layout
from autotts_gym.sandbox.pipe_protocol import (
    MAX_FRAME_ACTIONS,
    MAX_TEXT_SIZE,
    TERMINATED,
    TRUNCATED,
)

_ACTIVE, _PRUNED = 1, 2  # values of a branch's status, as in autotts_gym.mdp.state


class GuestEnv:
    """Sends actions to the player, and reads the results from the slot.

    Without a budget and a step limit, the visible result of BRANCH, CONTINUE and PRUNE is
    predictable: one branch changes, and the total grows by Δ. Such actions are applied to local
    copies and sent together with the next action that must be waited for: one round trip for many.

    Args:
        layout: of the slot.
        slot: the slot's memory.
        input_pipe, output_pipe: file descriptors for outcomes and for actions.
    """

    #: Read by :class:`~autotts_gym.controllers.episode.Episode`.
    auto_probe = False

    def __init__(self, layout: Layout, slot: memoryview, input_pipe: int, output_pipe: int) -> None:
        self._slot, self._layout = slot, layout
        self._floats, self._words = slot.cast("d"), slot.cast("q")
        self._input_pipe, self._output_pipe = input_pipe, output_pipe
        self.unwrapped = self
        self.max_branches = n = layout.branches
        attributes = self._words[layout.floats :][: memory_layout.ATTRIBUTES].tolist()
        self.spent: int = attributes[memory_layout.SPENT]
        self.interval: int = attributes[memory_layout.INTERVAL]
        self.depth_limit: int = attributes[memory_layout.DEPTH_LIMIT]
        budget = attributes[memory_layout.BUDGET]
        self.budget: int | None = None if budget == NO_BUDGET else budget
        self.predicts = attributes[memory_layout.PREDICTABLE] == 1
        self.beta: float = self._floats[memory_layout.BETA]
        self.mean_tokens: float = self._floats[memory_layout.MEAN_TOKENS]
        self.latency_weight: float = self._floats[memory_layout.LATENCY_WEIGHT]
        self.has_generation_confidence = attributes[memory_layout.HAS_GENERATION_CONFIDENCE] == 1
        self._queue = array("i")
        self._billing_flag = 0
        # Copies of the slot, ahead of it by the queued actions.
        self._mask: list[int] = []
        self._columns: list[list[int]] = [[] for _ in BRANCH_COLUMNS]
        self._opened = [0.0]
        self.observation: dict[str, Any] = {
            "globals": self._opened,  # Episode reads the first entry only
            "action_mask": self._mask,
            **{f"branch_{c.name}": v for c, v in zip(BRANCH_COLUMNS, self._columns, strict=True)},
        }
        self._read_slot()
        self._first_probe = actions.action_id(actions.PROBE, 0, n)
        # What a probe of branch 0 changes: columns and their words, actions and their words.
        self._probed_columns = [
            (column, layout.columns + k * n)
            for k, column in enumerate(self._columns)
            if k != fields.STATUS
        ]
        self._probed_actions = [
            (action, layout.mask + action)
            for action in (
                actions.action_id(block, 0, n)
                for block in (actions.CONTINUE, actions.PROBE, actions.ANSWER_BRANCH)
            )
        ]
        self._spent_word = layout.floats + memory_layout.SPENT
        self._running: tuple[dict[str, Any], float, bool, bool, dict[str, Any]]
        self._running = self.observation, 0.0, False, False, {}
        if layout.confidences:
            self.observation["branch_confidence"] = self._floats[memory_layout.FLOATS :][:n]

    def get_wrapper_attr(self, name: str) -> Any:
        """As in Gymnasium."""
        return getattr(self, name)

    def step(self, action: int) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Play an action as in Gymnasium; the reward is always 0, as it is hidden."""
        queue, first = self._queue, self._first_probe
        if action == actions.BRANCH:
            action += self._billing_flag
        queue.append(action)
        if self.predicts and len(queue) < MAX_FRAME_ACTIONS and self._predict(action):
            return self._running
        outcome = self._send_queue()
        if self.predicts and first <= action < first + self.max_branches:
            self._read_branch(action - first)
        else:
            self._read_slot()
        if not outcome:
            return self._running
        terminated, truncated = outcome & TERMINATED != 0, outcome & TRUNCATED != 0
        return self.observation, 0.0, terminated, truncated, {}

    def probe_all(self, branches: list[int]) -> None:
        """PROBE several branches in one round trip; only where results are predictable."""
        if not branches:
            return
        first = self._first_probe
        self._queue.extend([first + i for i in branches])
        self._send_queue()
        for i in branches:
            self._read_branch(i)

    def _predict(self, action: int) -> bool:
        """Apply an action to the copies; False if its result is not predictable."""
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

    def _send_queue(self) -> int:
        """Have the queued actions played; returns the outcome bits of the last one."""
        queue = self._queue
        while True:
            os.write(self._output_pipe, queue[:MAX_FRAME_ACTIONS])
            outcome = os.read(self._input_pipe, 1)
            if not outcome:
                os._exit(1)  # the player has ended
            del queue[:MAX_FRAME_ACTIONS]
            if not queue:
                break
        self.spent = self._words[self._spent_word]
        return outcome[0]

    def _read_branch(self, i: int) -> None:
        """Update the copies of branch ``i`` after a probe."""
        words, mask = self._words, self._mask
        for column, word in self._probed_columns:
            column[i] = words[word + i]
        for action, word in self._probed_actions:
            mask[action + i] = words[word + i]

    def _read_slot(self) -> None:
        """Update all copies."""
        words, layout, n = self._words, self._layout, self.max_branches
        for k, column in enumerate(self._columns):
            column[:] = words[layout.columns + k * n :][:n].tolist()
        self._mask[:] = words[layout.mask :][: actions.count(n)].tolist()
        self._opened[0] = words[layout.floats + memory_layout.OPENED]

    def send_code(self, code: int, text: str = "") -> None:
        """Send the last frame of an episode, see :mod:`autotts_gym.sandbox.pipe_protocol`."""
        if self._queue:
            self._send_queue()
        data = text.encode("utf-8", "replace")[:MAX_TEXT_SIZE]
        os.write(self._output_pipe, struct.pack("=i", code) + data)

    # Attributes of the environment that Episode and published programs read.

    @property
    def clock(self) -> int:
        """Visible sequential tokens; only probes change them."""
        return self._words[self._layout.floats + memory_layout.CLOCK]

    def generation_confidence(self, i: int, window: int | None = None) -> float:
        """As :meth:`autotts_gym.gym_envs.episode_facts.EpisodeFacts.generation_confidence`."""
        sums, tokens = self._revealed_confidences(i)
        return mean_confidence(sums, tokens, 0, len(sums), check_window(window))

    def lowest_confidence(self, i: int, window: int | None = None) -> float:
        """As :meth:`autotts_gym.gym_envs.episode_facts.EpisodeFacts.lowest_confidence`."""
        sums, tokens = self._revealed_confidences(i)
        whole = len(sums) - self._columns[fields.FINISHED][i]
        lowest = lowest_confidence(sums, tokens, 0, whole, check_window(window))
        return lowest if lowest >= 0 else mean_confidence(sums, tokens, 0, len(sums), 0)

    def _revealed_confidences(self, i: int) -> tuple[list[float], list[int]]:
        layout, first = self._layout, i * self._layout.depth
        count = self._columns[fields.REVEALED][i] if layout.generation_confidences else 0
        sums: list[Any] = self._floats[layout.sums + first :][:count].tolist()
        return sums, self._words[layout.tokens + first :][:count].tolist()

    def is_null(self, answer: int) -> bool:
        """Whether a class of this episode is a null answer."""
        layout = self._layout
        if not 0 <= answer < layout.classes:
            return False
        return self._words[layout.nulls + answer] == 1

    def answer_text(self, answer: int) -> str:
        """Text of an answer class of this episode; empty for -1."""
        if answer == -1:
            return ""
        ends = self._words[self._layout.ends :][: self._layout.classes]
        if not 0 <= answer < len(ends) or ends[answer] < 0:
            raise ValueError(f"there is no answer class {answer} in this episode")
        first = self._layout.texts * memory_layout.WORD
        start = ends[answer - 1] if answer else 0
        return bytes(self._slot[first + start : first + ends[answer]]).decode(
            "utf-8", "surrogatepass"
        )

    @contextlib.contextmanager
    def billed_by_tokens(self) -> Iterator[None]:
        """Bill branches that are opened in this context by their generated tokens."""
        before, self._billing_flag = self._billing_flag, actions.BY_TOKENS
        try:
            yield
        finally:
            self._billing_flag = before


class GuestEpisode(Episode):
    """The episode that an untrusted program plays, over a :class:`GuestEnv`."""

    def probe_all(self) -> int:
        """PROBE every branch that can be probed, in one round trip; returns how many."""
        env: Any = self._env
        if not env.predicts:
            return super().probe_all()
        branches = [i for i in range(self.opened) if self.can_probe(i)]
        env.probe_all(branches)
        first = self._action_id(actions.PROBE, 0)
        self.log.extend([first + i for i in branches])
        return len(branches)
