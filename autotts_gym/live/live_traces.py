"""What a live episode has learned of its branches, in the form of recorded traces.

The rules play recorded traces. A live episode gives them arrays that begin with what is known of a
branch before it is generated, and are filled in as it grows: nothing that can be seen depends on
what is not yet revealed, so the rules need not know the difference.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from autotts_gym.inference.protocol import Probe, is_null
from autotts_gym.mdp import state as s
from autotts_gym.mdp.trace_dataset import TraceDataset
from autotts_gym.traces.store import Card, Tables, TraceStore

#: Answer classes that an episode can have: codes are int16.
_MOST_CLASSES: Final = np.iinfo(np.int16).max


class LiveTraces(TraceDataset):
    """One question whose branches grow while they are played.

    Args:
        name: what is played, for results.
        interval: Δ, tokens.
        depth: the depth limit, intervals.
        width: branches.
        mean_tokens: expected tokens of a whole branch, for C.
        probe_tokens: most tokens that a probe costs.
    """

    def __init__(
        self,
        name: str,
        interval: int,
        depth: int,
        width: int,
        mean_tokens: float,
        probe_tokens: int,
    ) -> None:
        self._interval, self._depth, self._width = interval, depth, width
        classes = min(width * depth + 1, _MOST_CLASSES)
        cells = width * depth  # one more a branch than it has probes, so that there is always one
        tables = Tables(
            ids=["live"],
            texts=[""],
            golds=[""],
            answers=[[""] * classes],
            nulls=[[False] * classes],
            branch_counts=np.array([width], np.int64),
            lengths=np.full(width, depth, np.int64),
            tokens=np.full(width, depth * interval, np.int64),
            finals=np.zeros(width, np.int16),
            probes=np.zeros(cells, np.int16),
            confidences=np.zeros(cells, np.float32),
            probe_tokens=np.full(cells, probe_tokens, np.int32),
        )
        card = Card(
            interval=interval,
            questions=1,
            branches=width,
            probes=cells,
            depth=depth,
            mean_tokens=mean_tokens,
            fingerprint="live",
        )
        super().__init__({name: TraceStore(card, tables=tables)})
        # Compiled code gets views that cannot be written to, as of any traces; these are behind.
        arrays: dict[str, Any] = {k: array.copy() for k, array in self.traces._asdict().items()}
        self._traces = s.Traces(**arrays)
        self.traces = s.Traces(**{k: _read_only(array) for k, array in arrays.items()})
        self.forget(None)

    def forget(self, gold: str | None) -> None:
        """Begin with a question of which nothing is known but its gold answer, if anything."""
        self._gold = gold
        self._codes: dict[str, int] = {}
        self._answers = [[]]
        self._traces.nulls[:] = 0
        self._traces.branches["length"] = self._depth - 1
        self._traces.branches["tokens"] = self._depth * self._interval
        self._traces.branches["final"] = 0
        self.questions["gold"][0] = -1 if gold is None else self._code(gold)

    def gold(self, row: int) -> str | None:
        return self._gold

    def show(self, i: int, depth: int, probe: Probe) -> None:
        """Branch ``i`` was probed at a depth, intervals, before its end."""
        at = self._traces.branches["offset"][i] + depth - 1
        self._traces.probes[at] = self._code(probe.answer)
        self._traces.confidences[at] = probe.confidence
        self._traces.probe_tokens[at] = probe.tokens

    def end(self, i: int, length: int, tokens: int, final: str) -> None:
        """Branch ``i`` has ended.

        Args:
            length: n, whole intervals before the last.
            tokens: T, its closing text included.
            final: its final answer.
        """
        row = self._traces.branches[i]
        row["length"] = length
        row["tokens"] = tokens
        row["final"] = self._code(final)

    def _code(self, answer: str) -> int:
        code = self._codes.get(answer)
        if code is None:
            # The last code is shared, should there ever be that many.
            code = min(len(self._codes), self.classes - 1)
            self._codes[answer] = code
            self._answers[0].append(answer)
            self._traces.nulls[code] = is_null(answer)
        return code


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view
