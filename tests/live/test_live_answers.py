"""Answers of a live episode: the classes of collection, while they grow."""

from __future__ import annotations

from autotts_gym.inference.protocol import Probe
from autotts_gym.live.live_traces import LiveTraces


def _traces(gold: str | None) -> LiveTraces:
    traces = LiveTraces("live", 10, 4, 8, 40.0, 5)
    traces.start_question(gold)
    return traces


def _codes(traces: LiveTraces, *answers: tuple[str, bool]) -> list[int]:
    for i, (answer, null) in enumerate(answers):
        traces.record_probe(i, 1, Probe(answer, 1.0, 1, null))
    offsets = traces.traces.branches["offset"][: len(answers)]
    return [int(traces.traces.probes[at]) for at in offsets]


def test_an_answer_that_equals_the_gold_answer_is_correct() -> None:
    traces = _traces("1/2")
    assert traces.questions["gold"][0] == 0
    assert _codes(traces, ("0.5", False), (r"\frac12", False), ("2", False)) == [0, 0, 1]
    assert traces.answers(0) == ["1/2", "2"]


def test_a_real_no_is_not_a_null_answer() -> None:
    traces = _traces("No")
    assert _codes(traces, ("No", True), ("no", False), ("ERR", True)) == [1, 0, 2]
    assert traces.traces.nulls[:3].tolist() == [0, 1, 1]


def test_a_class_never_changes() -> None:
    answers = ("5 cm", False), ("5", False), ("5 m", False), ("5.0", False)
    assert _codes(_traces(None), *answers) == [0, 0, 1, 0]
    answers = ("5 cm", False), ("5 m", False), ("5", False), ("5.0", False)
    assert _codes(_traces(None), *answers) == [0, 1, 2, 2]


def test_answers_that_must_be_written_alike() -> None:
    traces = _traces(None)
    traces.start_question("1/2", "form")
    assert _codes(traces, ("2/4", False), (r"\frac12", False), ("0.5", False)) == [1, 0, 2]
