"""Programs are found in answers, changes are applied, and half of either is nothing."""

from __future__ import annotations

import contextlib
import difflib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proposals import BETTER, SEED

from autotts_gym.discovery.proposers.response_parser import ReplyError, blocks, patched, program

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
    "answer",
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
def test_answers_with_a_program(answer: str) -> None:
    assert program(answer, SEED).rstrip() == BETTER.rstrip()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "is empty"),
        ("<think>hm</think>  \n", "is empty"),
        ("I cannot help with that.", "has no block with a program"),
        (f"```python\n{BETTER}", "breaks off within a block"),
        (f"```python\n{BETTER}```\nand\n```python\ndef", "breaks off within a block"),
        ("```python\nx = 1\n```", "defines solve at the top"),
        ("```json\n{}\n```", "has no block with a program"),
        (
            BLOCK.replace("0, 2 +", "0, 3 +"),
            "begins with 'read(episode, 0, 3 + int(2 * beta))', does not",
        ),
        (
            BLOCK.replace("    read(episode, 0, 2 + int(2 * beta))\n", "\n"),
            "SEARCH block 1 is empty",
        ),
        (BLOCK.replace(">>>>>>> REPLACE\n", ""), "not ended by"),
        (BLOCK.replace("=======\n", ""), "not ended by"),
        (BLOCK.replace(">>>>>>> REPLACE\n", "") + BLOCK, "begins before"),
        (f"```diff\n{DIFF.replace('2 * beta', '3 * beta')}```", "hunk 1 of the diff does not fit"),
        ("```diff\n-a\n+b\n```", "no hunk"),
    ],
)
def test_answers_without(answer: str, reason: str) -> None:
    with pytest.raises(ReplyError) as caught:
        program(answer, SEED)
    assert reason in str(caught.value)


def test_a_passage_that_stands_twice() -> None:
    with pytest.raises(ReplyError, match="stands 2 times"):
        program(BLOCK, SEED + SEED)


LINES = st.lists(st.sampled_from(["", "a", "b", "  c", "def f():", "-x", "+y", "@@"]), max_size=12)


@given(LINES, LINES, st.integers(0, 3))
def test_any_diff_applies(old: list[str], new: list[str], context: int) -> None:
    """Whatever difflib writes, where the hunks are where they say."""
    diff = "\n".join(difflib.unified_diff(old, new, "a", "b", lineterm="", n=context))
    if old != new and old:
        assert patched(diff, "\n".join(old)).split("\n") == (new or [""])


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
def test_any_answer_is_read_or_refused(answer: str) -> None:
    list(blocks(answer))
    with contextlib.suppress(ReplyError):
        assert isinstance(program(answer, SEED), str)
