"""Panels of an agent's notes follow the scale of the numbers."""

from __future__ import annotations

from autotts_gym.report.note_panels import NotePanel, NoteRanges, note_panels


def panels(*episodes: list[tuple[int, str, float]]) -> list[NotePanel]:
    ranges = NoteRanges()
    for notes in episodes:
        ranges.add(notes)
    return note_panels(ranges)


def series(name: str, *values: float) -> list[tuple[int, str, float]]:
    return [(step, name, value) for step, value in enumerate(values)]


def test_numbers_of_one_scale_share_a_panel() -> None:
    notes = [*series("a", 0.5, 0.8), *series("b", 0.2, 0.9), (0, "limit", 0.7)]
    assert panels(notes) == [NotePanel(["a", "b", "limit"], False)]


def test_negative_and_small_numbers_have_a_panel_of_their_own() -> None:
    signed = [*series("a", 0.5, 0.8), *series("b", -0.2, 0.9)]
    assert panels(signed) == [NotePanel(["a"], False), NotePanel(["b"], True)]
    small = [*series("a", 0.5, 0.8), *series("b", 0.01, 0.02)]
    assert panels(small) == [NotePanel(["a"], False), NotePanel(["b"], False)]


def test_levels_are_in_the_panel_of_their_scale() -> None:
    notes = [*series("a", 0.5, 0.8), *series("b", -0.1, 0.1), (0, "high", 0.9), (0, "low", 0.03)]
    assert panels(notes) == [NotePanel(["a", "high"], False), NotePanel(["b", "low"], True)]


def test_a_name_is_a_level_only_if_it_is_one_in_every_episode() -> None:
    assert panels([(0, "a", 1.0)], series("a", 1, 2), series("b", -1, 1))[0].names == ["a"]


def test_other_notes() -> None:
    assert panels() == panels([]) == []
    assert panels([(0, "level", 3.0)]) == [NotePanel(["level"], False)]
    nan = [(0, "x", float("nan")), (1, "x", float("inf"))]
    assert panels(nan) == [NotePanel(["x"], False)]
