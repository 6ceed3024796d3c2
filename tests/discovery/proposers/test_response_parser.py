"""Tests of the response parser: programs, SEARCH/REPLACE blocks and diffs."""

from __future__ import annotations

import contextlib
import difflib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proposals import BETTER, SEED

from autotts_gym.discovery.proposers.response_parser import (
    NoProgramError,
    apply_diff,
    extract_program,
    fenced_blocks,
)

BLOCK = """<<<<<<< SEARCH
    read(episode, 0, 2 + int(2 * beta))
=======
    read(episode, 0, 2 + int(8 * beta))
>>>>>>> REPLACE
"""
DIFF = """--- a/controller.py
+++ b/controller.py
@@ -40,3 +40,3 @@ def solve(episode, beta):
 def solve(episode, beta):
-    read(episode, 0, 2 + int(2 * beta))
+    read(episode, 0, 2 + int(8 * beta))
     return episode.answer()
"""


@pytest.mark.parametrize(
    "response",
    [
        f"Here:\n```python\n{BETTER}```\nDone.",
        f"```py\n{BETTER}```",
        f"```\n{BETTER}```",
        f"````python\n{BETTER}````",
        f"~~~python\n{BETTER}~~~\n",
        f"```python\n{BETTER}```".replace("\n", "\r\n"),
        f"```python\n{SEED}```\nor better\n```python\n{BETTER}```\n```text\nx\n```",
        f"<think>```python\n{SEED}```</think>```python\n{BETTER}```".replace(
            "</think>", "</think>\n"
        ),
        BETTER,
        f"I change this:\n{BLOCK}",
        f"```\n{BLOCK}```",
        f"```python\n{BLOCK.replace('beta))', 'beta))  ', 1)}```",
        f"```diff\n{DIFF}```",
        f"```patch\n{DIFF[DIFF.index('@@') :]}```",
        "```diff\n"
        + DIFF.replace("@@ -40,3 +40,3 @@", "@@ @@")
        + "\\ No newline at end of file\n```",
    ],
)
def test_program_is_extracted(response: str) -> None:
    assert extract_program(response, SEED).rstrip() == BETTER.rstrip()


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ("", "is empty"),
        ("<think>hm</think>  \n", "is empty"),
        ("I cannot help with that.", "neither a program nor changes"),
        (f"```python\n{BETTER}", "block of the response is not closed"),
        (f"```python\n{BETTER}```\nand\n```python\ndef", "block of the response is not closed"),
        ("```python\nx = 1\n```", "defines solve at the top level"),
        ("```json\n{}\n```", "neither a program nor changes"),
        (
            BLOCK.replace("0, 2 +", "0, 3 +"),
            "begins with 'read(episode, 0, 3 + int(2 * beta))', does not",
        ),
        (
            BLOCK.replace("    read(episode, 0, 2 + int(2 * beta))\n", "\n"),
            "SEARCH block 1 is empty",
        ),
        (BLOCK.replace(">>>>>>> REPLACE\n", ""), "is not completed by"),
        (BLOCK.replace("=======\n", ""), "is not completed by"),
        (BLOCK.replace(">>>>>>> REPLACE\n", "") + BLOCK, "begins before"),
        (
            f"```diff\n{DIFF.replace('2 * beta', '3 * beta')}```",
            "hunk 1 of the diff does not match",
        ),
        ("```diff\n-a\n+b\n```", "no hunk"),
    ],
)
def test_no_program(response: str, reason: str) -> None:
    with pytest.raises(NoProgramError) as caught:
        extract_program(response, SEED)
    assert reason in str(caught.value)


def test_ambiguous_search_block() -> None:
    with pytest.raises(NoProgramError, match="occurs 2 times"):
        extract_program(BLOCK, SEED + SEED)


LINES = st.lists(st.sampled_from(["", "a", "b", "  c", "def f():", "-x", "+y", "@@"]), max_size=12)


@given(LINES, LINES, st.integers(0, 3))
def test_diffs_of_difflib_apply(old: list[str], new: list[str], context: int) -> None:
    """Diffs with correct line numbers."""
    diff = "\n".join(difflib.unified_diff(old, new, "a", "b", lineterm="", n=context))
    if old != new and old:
        assert apply_diff(diff, "\n".join(old)).split("\n") == (new or [""])


PIECES = [
    *BLOCK.split("\n"),
    *DIFF.split("\n"),
    "```",
    "```diff",
    "~~~",
    SEED,
    "<think>",
    "</think>",
]


@settings(max_examples=300)
@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES)).map("\n".join)))
def test_arbitrary_response(response: str) -> None:
    list(fenced_blocks(response))
    with contextlib.suppress(NoProgramError):
        assert isinstance(extract_program(response, SEED), str)
