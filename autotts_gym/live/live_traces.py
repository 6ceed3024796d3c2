"""``LiveTraces``: the trace dataset of a live episode, filled in while the episode is played.

The rules play recorded traces. A live episode gives them the arrays of a dataset that starts with
placeholders and is filled in as branches grow. Nothing visible depends on what is not yet revealed,
so the rules are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from autotts_gym.answers.answer_pairs import Equality
from autotts_gym.answers.classes import fitting_class
from autotts_gym.inference.protocol import Probe
from autotts_gym.mdp import state as s
from autotts_gym.mdp.trace_dataset import TraceDataset
from autotts_gym.traces.store import Card, Tables, TraceStore

#: Maximum number of answer classes of an episode: codes are int16.
_MAX_CLASSES: Final = np.iinfo(np.int16).max


class LiveTraces(TraceDataset):
    """A dataset of one question, whose branches grow while they are played.

    Args:
        name: name of the environment in results.
        interval: Δ, tokens.
        depth: depth limit, intervals.
        width: number of branches.
        mean_tokens: expected tokens of a whole branch, for C.
        probe_tokens: maximum tokens of a probe.
        longest_tokens: expected longest of ``width`` branches, tokens, for L; by default the
            maximum length of a branch.
    """

    def __init__(
        self,
        name: str,
        interval: int,
        depth: int,
        width: int,
        mean_tokens: float,
        probe_tokens: int,
        longest_tokens: float | None = None,
    ) -> None:
        self._interval, self._depth, self._width = interval, depth, width
        classes = min(width * depth + 1, _MAX_CLASSES)
        # A branch has at most depth - 1 probes; the extra cell keeps the arrays non-empty.
        cells = width * depth
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
            confidence_sums=np.zeros(cells + width, np.float32),
            confidence_tokens=np.zeros(cells + width, np.int32),
        )
        card = Card(
            interval=interval,
            questions=1,
            branches=width,
            probes=cells,
            depth=depth,
            mean_tokens=mean_tokens,
            longest_of=width,
            longest_tokens=depth * interval if longest_tokens is None else longest_tokens,
            fingerprint="live",
        )
        super().__init__({name: TraceStore(card, tables=tables)})
        # Compiled code gets read-only views, as of recorded traces; this object writes to the
        # arrays behind them.
        arrays: dict[str, Any] = {k: array.copy() for k, array in self.traces._asdict().items()}
        self._traces = s.Traces(**arrays)
        self.traces = s.Traces(**{k: _read_only(array) for k, array in arrays.items()})
        self.start_question(None)

    def start_question(self, gold: str | None, equality: Equality = "value") -> None:
        """Reset all branches for a new question.

        Args:
            gold: its gold answer; None if it is not known.
            equality: which answers are equal.
        """
        self._gold = gold
        self._equality = equality
        self._codes: dict[tuple[str, bool], int] = {}
        self._classes: list[list[str]] = []  # the answers of each code; empty for a null answer
        self._answers = [[]]
        self._traces.nulls[:] = 0
        self._traces.branches["length"] = self._depth - 1
        self._traces.branches["tokens"] = self._depth * self._interval
        self._traces.branches["final"] = 0
        self._traces.confidence_tokens[:] = 0
        self.questions["gold"][0] = -1 if gold is None else self._answer_code(gold, False)
        self.has_gold[0] = gold is not None

    def gold(self, row: int) -> str | None:
        return self._gold

    def record_probe(self, i: int, depth: int, probe: Probe) -> None:
        """Record a probe of branch ``i`` at ``depth`` intervals, before the branch's end."""
        at = self._traces.branches["offset"][i] + depth - 1
        self._traces.probes[at] = self._answer_code(probe.answer, probe.null)
        self._traces.confidences[at] = probe.confidence
        self._traces.probe_tokens[at] = probe.tokens

    def record_confidences(self, i: int, sums: Sequence[float], tokens: Sequence[int]) -> None:
        """Record the generation confidence of branch ``i`` so far, before a probe reveals it.

        Args:
            i: number of the branch.
            sums: sum of the token confidences of interval 1, 2, ...
            tokens: number of tokens in each sum.
        """
        first = int(self._traces.branches["offset"][i]) + i
        cells = slice(first, first + len(sums))
        self._traces.confidence_sums[cells] = sums
        self._traces.confidence_tokens[cells] = tokens

    def record_end(self, i: int, length: int, tokens: int, final: str, null: bool = False) -> None:
        """Record the end of branch ``i``.

        Args:
            i: number of the branch.
            length: n, whole intervals before the last.
            tokens: T, its tokens, including the closing text.
            final: its final answer.
            null: whether it has none.
        """
        row = self._traces.branches[i]
        row["length"] = length
        row["tokens"] = tokens
        row["final"] = self._answer_code(final, null)

    def _answer_code(self, answer: str, null: bool) -> int:
        """The code of an answer's class: of the only one whose answers all equal it, or a new one.

        A class that a controller has seen never changes, so an answer that two classes fit is a
        class of its own.
        """
        code = self._codes.get((answer, null))
        if code is None:
            code = None if null else fitting_class(answer, self._classes, self._equality)
            if code is None:
                code = self._new_code(answer, null)
            else:
                self._classes[code].append(answer)
            self._codes[answer, null] = code
        return code

    def _new_code(self, answer: str, null: bool) -> int:
        # All answers beyond the maximum number share the last code.
        code = min(len(self._classes), self.classes - 1)
        if code == len(self._classes):
            self._classes.append([] if null else [answer])
            self._answers[0].append(answer)
        self._traces.nulls[code] = null
        return code


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view
