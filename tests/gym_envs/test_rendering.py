"""Rendering: the image, the text and the window of a scene, for any answers."""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from autotts_gym.gym_envs.rendering import PALETTE, Scene, Window, image, render_ansi, render_image
from autotts_gym.gym_envs.rendering.scene import NULL_GRAY

ANSWERS = ["204", "No", r"\frac{17}{2}", "", "70", "ERR", "x = 3", "1" * 60, "½", "-1"]
NULLS = {"No", "", "ERR"}


def blank(branches: int = 4, depth: int = 10, **facts: Any) -> Scene:
    """A scene before the first action, with some attributes replaced."""
    start = Scene(
        plane=np.full((branches, depth), -1, np.int16),
        status=np.zeros(branches, np.int16),
        requested=np.zeros(branches, np.int16),
        latest=np.full(branches, -1, np.int16),
        finished=np.zeros(branches, np.int16),
        nulls=[],
        labels=[],
        depth_limit=depth,
        spent=0,
        clock=0,
        budget=None,
        beta=0.5,
        last_action="",
        outcome="",
        title="model/benchmark, question 3",
    )
    return replace(start, **facts)


def revealed(*rows: str, depth: int = 10, **facts: Any) -> Scene:
    """Active branches from strings: letters are classes, '/' is requested, '|' is the end."""
    letters = sorted({c for row in rows for c in row} - {"/", "|"})
    start = blank(len(rows), depth, labels=letters, nulls=[False] * len(letters))
    for i, row in enumerate(rows):
        cells = row.rstrip("|")
        start.status[i], start.requested[i], start.finished[i] = 1, len(cells), "|" in row
        for k, letter in enumerate(cells):
            if letter != "/":
                start.plane[i, k] = start.latest[i] = letters.index(letter)
    return replace(start, **facts)


def episode(seed: int, branches: int, depth: int, steps: int = 60) -> Iterator[Scene]:
    """Scenes of an episode of random actions."""
    state = ("plane", "status", "requested", "latest", "finished")
    rng = np.random.default_rng(seed)
    budget = int(rng.integers(1, 40_000)) if rng.random() < 0.5 else None
    s = blank(branches, depth, budget=budget, beta=float(rng.random()))
    classes: dict[str, int] = {}
    for step in range(steps):
        i = int(rng.integers(branches))
        action = "BRANCH"
        if s.status[i] == 0:
            s.status[i] = s.requested[i] = 1
        elif s.status[i] == 1 and rng.random() < 0.05:
            s.status[i], action = 2, f"PRUNE({i})"
        elif s.status[i] == 1 and not s.finished[i] and rng.random() < 0.5:
            s.requested[i], action = min(s.requested[i] + 1, depth), f"CONTINUE({i})"
        elif s.status[i] == 1 and s.plane[i, s.requested[i] - 1] < 0:
            answer = ANSWERS[min(int(rng.geometric(0.3)) - 1, len(ANSWERS) - 1)]
            s.latest[i] = s.plane[i, s.requested[i] - 1] = classes.setdefault(answer, len(classes))
            s.finished[i], action = s.requested[i] == depth or rng.random() < 0.1, f"PROBE({i})"
        yield replace(
            s,
            **{name: getattr(s, name).copy() for name in state},
            labels=list(classes),
            nulls=[answer in NULLS for answer in classes],
            spent=500 * int(s.requested.sum()),
            clock=500 * int(s.requested.max()),
            last_action=action,
            outcome="answered 204: correct" if step == steps - 1 else "",
        )


def cell(scene: Scene, i: int, k: int) -> NDArray[np.uint8]:
    """The pixels of branch i, interval k + 1."""
    layout = image.layout_for(len(scene.status), scene.depth_limit)
    width, height = layout.cell
    plane = render_image(scene)[layout.plane]
    return plane[i * height : (i + 1) * height, k * width : (k + 1) * width]


def regions(before: Scene, after: Scene) -> set[str]:
    """The parts of the image that change."""
    layout = image.layout_for(len(before.status), before.depth_limit)
    changed = np.any(render_image(before) != render_image(after), axis=2)
    parts = {"plane": layout.plane, "margin": (slice(104, None), slice(0, layout.plane[1].start))}
    parts |= {"figures": (slice(0, 85), slice(None))}
    parts |= {"vote": (slice(85, None), slice(layout.plane[1].stop, None))}
    return {name for name, part in parts.items() if changed[part].any()}


def plain_lines(scene: Scene, width: int = 120) -> list[str]:
    return re.sub(r"\x1b\[[\d;]*m", "", render_ansi(scene, width)).split("\n")


def columns(line: str) -> int:
    marks = sum(unicodedata.category(c) in ("Mn", "Me") for c in line)
    return len(line) - marks + sum(unicodedata.east_asian_width(c) in "WF" for c in line)


# --- image ----------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 70), st.integers(1, 90))
def test_all_images_of_an_episode_have_the_same_size(seed: int, branches: int, depth: int) -> None:
    frames = [render_image(scene) for scene in [*episode(seed, branches, depth)][::6]]
    first = render_image(blank(branches, depth))
    assert first.dtype == np.uint8
    assert first.shape[2] == 3
    assert first.shape[0] % 2 == first.shape[1] % 2 == 0
    assert {frame.shape for frame in frames} == {first.shape}
    assert first.flags.writeable


def test_the_image_depends_only_on_the_scene() -> None:
    scenes = list(episode(1, 8, 12))
    once = [render_image(scene) for scene in scenes]
    render_image(blank(2, 30))[:] = 0  # a caller may modify a frame
    for scene, frame in zip(reversed(scenes), reversed(once), strict=True):
        np.testing.assert_array_equal(render_image(scene), frame)


@pytest.mark.parametrize("depth", [7, 10, 25])
def test_depth_limit_determines_the_drawn_depth(depth: int) -> None:
    scene = revealed("ab/", "a|")
    plane = np.full((2, depth), -1, np.int16)
    plane[:, :7] = scene.plane[:, :7]
    np.testing.assert_array_equal(render_image(replace(scene, plane=plane)), render_image(scene))
    assert render_ansi(replace(scene, plane=plane)) == render_ansi(scene)


def test_cells_of_different_states_differ() -> None:
    scene = revealed("ab/a|", "ab", "/b//")
    drawn = {
        "class a": cell(scene, 0, 0),
        "class b": cell(scene, 0, 1),
        "requested": cell(scene, 0, 2),
        "not requested": cell(scene, 0, 4),
        "end": cell(scene, 0, 3),
    }
    for one, other in combinations(drawn, 2):
        assert np.any(drawn[one] != drawn[other]), (one, other)
    for k in (0, 2, 3):
        np.testing.assert_array_equal(cell(scene, 2, k), drawn["requested"])
    np.testing.assert_array_equal(cell(scene, 2, 4), drawn["not requested"])
    np.testing.assert_array_equal(cell(scene, 1, 0), drawn["class a"])
    assert drawn["not requested"].min() > 220 > drawn["requested"].min()


def test_the_end_of_a_branch_is_marked_on_its_last_cell_only() -> None:
    going, ended = revealed("aaa", "aa"), revealed("aaa|", "aa")
    assert regions(going, ended) == {"plane"}
    for k in range(10):
        assert np.any(cell(going, 0, k) != cell(ended, 0, k)) == (k == 2)
    assert np.all(cell(ended, 0, 2)[:, -1] < 60)


def test_a_pruned_branch_is_lighter_and_does_not_vote() -> None:
    active = revealed("ab/a|", "aa")
    pruned = replace(active, status=np.array([2, 1]))
    assert regions(active, pruned) == {"plane", "vote"}
    for k in range(4):
        assert cell(pruned, 0, k).mean() > cell(active, 0, k).mean()
        np.testing.assert_array_equal(cell(pruned, 1, k), cell(active, 1, k))


def test_only_null_answers_are_gray() -> None:
    scene = revealed("aab", "ab", depth=80, nulls=[True, False])

    def saturation(k: int) -> int:
        return int(np.ptp(cell(scene, 0, k).astype(int), axis=2).max())

    assert saturation(0) < 10
    assert saturation(2) > 50


def test_answers_of_a_single_branch_are_drawn_smaller() -> None:
    single, shared = revealed("a", "b", depth=80), revealed("a", "a", depth=80)
    assert cell(single, 0, 0).mean() > cell(shared, 0, 0).mean()
    middle = np.s_[cell(single, 0, 0).shape[0] // 2, cell(single, 0, 0).shape[1] // 2]
    np.testing.assert_array_equal(cell(single, 0, 0)[middle], cell(shared, 0, 0)[middle])


def test_a_class_keeps_its_color_when_others_appear() -> None:
    middles: dict[int, NDArray[np.uint8]] = {}
    scenes = list(episode(5, 12, 80, steps=400))
    for scene in scenes[::10]:
        for c in range(len(scene.labels)):
            i, k = np.argwhere(scene.plane == c)[0]
            if scene.status[i] == 1:
                drawn = cell(scene, i, k)
                middle = drawn[drawn.shape[0] // 2, drawn.shape[1] // 2 - 1]
                np.testing.assert_array_equal(middles.setdefault(c, middle), middle)
    assert len(middles) == len(scenes[-1].labels) > 5


def test_sixty_classes_look_different() -> None:
    letters = "".join(chr(ord("A") + c) for c in range(60))
    scene = revealed(letters, letters, depth=80)
    drawn = {cell(scene, 0, c).tobytes() for c in range(60)}
    assert len(drawn) == 60


@pytest.mark.parametrize(
    ("facts", "where"),
    [
        ({"spent": 900}, "figures"),
        ({"clock": 900}, "figures"),
        ({"budget": 20_000}, "figures"),
        ({"beta": 0.25}, "figures"),
        ({"latency_weight": 0.25}, "figures"),
        ({"last_action": "BRANCH"}, "figures"),
        ({"outcome": "cut off"}, "figures"),
        ({"title": "another"}, "figures"),
        ({"labels": ["left", "right"]}, "vote"),
    ],
)
def test_each_attribute_changes_one_part_of_the_image(facts: dict[str, Any], where: str) -> None:
    scene = revealed("ab", "a", depth=80)
    assert regions(scene, replace(scene, **facts)) == {where}


def test_the_branch_of_the_last_action_is_marked() -> None:
    scene = revealed("ab", "a")
    assert regions(scene, replace(scene, last_action="PROBE(1)")) == {"figures", "margin"}
    assert regions(scene, replace(scene, last_action="PROBE(2)")) == {
        "figures"
    }  # branch 2 does not exist


def test_the_bar_of_spent_tokens_ends_at_the_budget() -> None:
    def bar_length(spent: int) -> int:
        frame = render_image(blank(spent=spent, budget=1000))
        return int(np.count_nonzero(frame[77].max(axis=1) < 60))

    lengths = [bar_length(spent) for spent in (0, 250, 500, 1000)]
    assert lengths[0] == 0
    assert np.all(np.diff(lengths) > 0)
    assert bar_length(1700) == lengths[-1]
    render_image(blank(spent=0, budget=0))


def test_bars_show_shares_of_the_active_branches() -> None:
    def bar_width(*rows: str) -> int:
        scene = revealed(*rows, labels=["a"], nulls=[False])
        layout = image.layout_for(len(rows), 10)
        vote = render_image(scene)[104:127, layout.vote_left + image.BAR_LEFT :]
        return int(np.count_nonzero(np.all(vote == PALETTE[0], axis=2)[12]))

    whole = bar_width("a", "a", "a", "a")
    assert bar_width("a", "a", "/", "a") == pytest.approx(whole * 3 / 4, abs=1)
    assert bar_width("/", "a", "/", "a") == pytest.approx(whole / 2, abs=1)


def test_more_classes_than_fit_into_the_vote() -> None:
    rows = [chr(ord("A") + i) for i in range(64)]
    scene = revealed(*rows, depth=80)
    assert render_image(scene).shape == render_image(blank(64, 80)).shape
    assert "and 61 more" not in render_ansi(scene)
    assert "and 7 more" in render_ansi(revealed("abcdefghi", "a", "i"))


def test_palette_is_distinguishable_with_color_blindness() -> None:
    """No two colors are closer than the closest two of Okabe and Ito."""
    # Machado, Oliveira and Fernandes (2009), severity 1, in linear RGB.
    visions = np.array(
        [
            np.eye(3),
            [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
             [-0.011820, 0.042940, 0.968881]],
            [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
             [-0.003882, -0.048116, 1.051998]],
        ]
    )  # fmt: skip
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    colors = np.array([*PALETTE, NULL_GRAY]) / 255
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.einsum("vij,cj->vci", visions, linear), 0, 1)
    scaled = seen @ to_xyz.T / to_xyz.sum(axis=1)
    f = np.where(scaled > 0.008856, np.cbrt(scaled), 7.787 * scaled + 16 / 116)
    x, y, z = np.moveaxis(f, -1, 0)
    lab = np.stack([116 * y, 500 * (x - y), 200 * (y - z)], axis=-1)
    apart = np.linalg.norm(lab[:, :, None] - lab[:, None], axis=-1).min(axis=0)
    np.fill_diagonal(apart, np.inf)
    assert len(set(PALETTE)) == 12
    assert apart.min() == apart[:7, :7].min() > 16


# --- text -----------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 100), st.integers(1, 200))
def test_text_has_one_row_for_each_branch_and_fits_the_terminal(
    seed: int, branches: int, depth: int
) -> None:
    for scene in [*episode(seed, branches, depth)][::20]:
        lines = plain_lines(scene)
        assert len(lines) == 4 + branches + 1
        assert all(columns(line) <= 120 for line in lines)
        for i, line in enumerate(lines[4:-1]):
            assert int(line[1:].split()[0].lstrip(">")) == i


def test_rows_show_the_cells() -> None:
    scene = revealed("ab/a|", "/", "bb//", "aaaaaaaaaa|", nulls=[False, True], labels=["7", "No"])
    rows = [line[: 3 + 11] for line in plain_lines(scene)[3:-1]]
    assert rows == [
        "   1   5   10 ",
        " 0 a-/a|      ",
        " 1 /          ",
        " 2 --//       ",
        " 3 aaaaaaaaaa|",
    ]
    assert plain_lines(replace(scene, last_action="PROBE(2)"))[6].startswith(">2 ")


def test_deep_planes_show_the_latest_interval_of_every_group() -> None:
    scene = revealed("aa/b//", "b/aa|", "aba|", depth=168)
    rows = [line[3 : 3 + 85] for line in plain_lines(scene)[3:-1]]
    assert rows[0].startswith("2  10   20   30")
    assert [row.rstrip() for row in rows[1:]] == ["ab/", "ba|", "ba|"]


def test_a_tie_goes_to_the_class_that_was_voted_for_first() -> None:
    def leaders(scene: Scene) -> list[str]:
        return [line.split(" > ")[1] for line in plain_lines(scene)[4:-1] if " > " in line]

    tied = revealed("b", "a", "a", "b", "c")
    assert [line.split() for line in leaders(tied)] == [["b", "b", "2"]]
    pruned = replace(tied, status=np.array([2, 1, 1, 1, 1]))
    assert [line.split() for line in leaders(pruned)] == [["a", "a", "2"]]
    assert leaders(blank()) == []


def test_pruned_branches_are_not_filled() -> None:
    active = revealed("ab", "a")
    pruned = replace(active, status=np.array([2, 1]))
    assert "48;5;" in render_ansi(active).split("\n")[4].split("  ")[0]
    assert "48;5;" not in render_ansi(pruned).split("\n")[4].split("  ")[0]
    assert [line[:14] for line in plain_lines(active)] == [
        line[:14] for line in plain_lines(pruned)
    ]


# --- arbitrary answers ----------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text(st.characters()), min_size=1, max_size=4),
    st.sampled_from([5, 60]),
    st.sampled_from([60, 80, 120]),
)
def test_no_label_breaks_the_image_or_controls_the_terminal(
    labels: list[str], depth: int, width: int
) -> None:
    letters = "abcd"[: len(labels)]
    facts: dict[str, Any] = {"labels": labels, "title": labels[0], "outcome": labels[-1]}
    scene = revealed(letters, *letters, depth=depth, **facts)
    assert render_image(scene).shape == render_image(blank(len(letters) + 1, depth)).shape
    lines = plain_lines(scene, width)
    assert len(lines) == 4 + len(letters) + 1 + 1
    for line in lines:
        assert line.isprintable()
        assert columns(line) <= width
        line.encode()


@pytest.mark.parametrize(
    "label",
    ["", " ", "x" * 100_000, "\x1b[31mred\x07", "a\nb\r\tc", "答" * 90, "x\u0301" * 90, "\ud800"],
    ids=["empty", "space", "long", "escape", "lines", "wide", "combining", "surrogate"],
)
def test_odd_labels(label: str) -> None:
    scene = revealed("a", "aa", labels=[label])
    assert render_image(scene).shape == render_image(blank(2, 10)).shape
    (leader,) = (line for line in plain_lines(scene) if " > " in line)
    assert leader.isprintable()
    assert columns(leader) == columns(plain_lines(revealed("a", "aa"))[4])
    if not label.strip():
        assert "(empty)" in leader


# --- window ---------------------------------------------------------------------------------------


@pytest.fixture(params=["", ":99"])
def _no_screen(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("DISPLAY", request.param)
    plt.close("all")
    plt.switch_backend("Agg")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    plt.close("all")


@pytest.mark.usefixtures("_no_screen")
def test_the_window_prints_nothing_without_a_screen(capfd: pytest.CaptureFixture[str]) -> None:
    window = Window()
    window.close()
    for scene in [*episode(2, 4, 10)][::15]:
        window.show(render_image(scene))
    window.show(render_image(blank(8, 12)))
    assert len(plt.get_fignums()) == 1
    window.close()
    window.close()
    assert plt.get_fignums() == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("_no_screen")
def test_the_window_shows_the_last_frame() -> None:
    window = Window()
    first, last = render_image(blank()), render_image(revealed("ab", "a", "b", "/"))
    window.show(first)
    window.show(last)
    figure = plt.figure(plt.get_fignums()[0])
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), last)
    window.close()


@pytest.mark.usefixtures("_no_screen")
def test_a_window_that_the_user_closed_stays_closed() -> None:
    window = Window()
    window.show(render_image(blank()))
    plt.close("all")
    window.show(render_image(blank()))
    window.show(render_image(blank(8, 12)))
    assert plt.get_fignums() == []
    window.close()
    window.show(render_image(blank()))
    assert len(plt.get_fignums()) == 1
    window.close()
