"""YAML of unknown origin is parsed within bounds."""

from __future__ import annotations

import time
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from autotts_gym.utils import bounded_yaml
from autotts_gym.utils.bounded_yaml import YamlError

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=12,
)


@given(plain)
def test_round_trip(content: Any) -> None:
    assert bounded_yaml.load(bounded_yaml.dump(content)) == content


@given(st.text())
def test_any_text_is_parsed_as_by_the_safe_loader_or_refused(text: str) -> None:
    try:
        content = bounded_yaml.load(text)
    except YamlError:
        return
    # libyaml accepts some texts that the loader in Python does not.
    loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
    expected = yaml.load(text, Loader=loader)
    assert content == expected or content != content


def test_equal_objects_are_written_out() -> None:
    shared = [1, 2]
    assert bounded_yaml.load(bounded_yaml.dump({"a": shared, "b": shared})) == {
        "a": [1, 2],
        "b": [1, 2],
    }


#: Each doubles the one before: 2^60 values in a few lines.
LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{k}: &a{k} [*a{k - 1}, *a{k - 1}]\n" for k in range(1, 60))


@pytest.mark.parametrize(
    "text",
    [
        LAUGHS,
        "a: &a [*a]",
        "a: &a {b: *a}",
        "[" * 100_000,
        "{" * 100_000,
        "- " * 100_000,
        "? " * 100_000,
        "a: 1" + "0" * 100_000,
        "a: 1" + ":59" * 100_000,
        "a: 1" + ":59" * 100_000 + ".5",
        "a: 0x" + "f" * 100_000,
        "x" * 2_000_000,
        "a: 1\na: 1",
        "!!int ''",
        "!!bool x",
        "!!timestamp x",
        "2026-13-01",
        "!!python/object/apply:os.getcwd []",
        "? [a]\n: 1",
        "a: 1\n---\nb: 2",
        "\x00",
    ],
    ids=lambda text: repr(text[:20]),
)
def test_refused_at_once(text: str) -> None:
    start = time.process_time()
    with pytest.raises(YamlError):
        bounded_yaml.load(text)
    assert time.process_time() - start < 5
