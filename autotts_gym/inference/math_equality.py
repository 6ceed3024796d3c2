r"""Merging of answers that are mathematically equal, such as ``0.5`` and ``\frac12``.

math-verify compares the answers. An answer of a language model may keep it busy forever
(``9^{9^{9^9}}``) or crash its process. Therefore the comparisons run in monitored processes, and a
comparison that does not finish counts as "not equal".
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Sequence

from autotts_gym.inference.answer_merging import AnswerGroup, Verdict, merge_group
from autotts_gym.inference.comparison_pool import merge_in_processes
from autotts_gym.utils.processes import core_count

__all__ = ["AnswerGroup", "merge_equal"]


class _MathematicsRequiredError(Exception):
    """A comparison of two answers requires mathematics."""


def _require_mathematics(one: str, other: str) -> Verdict:
    raise _MathematicsRequiredError


def merge_equal(
    groups: Sequence[AnswerGroup],
    workers: int | None = None,
    timeout: float = 5.0,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, str]]:
    """Find the mathematically equal answers of each question.

    An answer is compared with one representative of each class: the gold answer first, then the
    others by decreasing frequency. Null answers equal no answer. Prose equals only the same words.
    Units after a value (``15 minutes``) are ignored. The result does not depend on ``workers`` or
    the machine, unless a comparison is close to the time limit.

    Args:
        groups: the answers to each question.
        workers: number of processes; by default, the number of available cores. No process is
            started if all answers are plain integers.
        timeout: seconds of CPU time after which a comparison counts as "not equal".
        progress: called after each question with the number of questions done, and their total.

    Returns:
        A mapping per question, from each answer to its representative. That is the gold answer if
        both are equal, else the most common equal answer (the first of several).

    Raises:
        ModuleNotFoundError: math-verify is not installed.
        RuntimeError: the processes do not start.
        ValueError: ``workers`` or ``timeout`` is not positive.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    if not timeout > 0:
        raise ValueError(f"timeout must be a positive number of seconds, got {timeout}")
    if importlib.util.find_spec("math_verify") is None:
        raise ModuleNotFoundError(
            "comparing answers as mathematics needs math-verify: "
            "pip install 'autotts-gym[collect]', or pip install math-verify"
        )
    merged: list[dict[str, str] | None] = []
    for group in groups:
        try:
            merged.append(merge_group(group, _require_mathematics))
        except _MathematicsRequiredError:
            merged.append(None)
    remaining = [number for number, mapping in enumerate(merged) if mapping is None]
    done_without = len(groups) - len(remaining)
    if progress is not None and done_without:
        progress(done_without, len(groups))
    results = merge_in_processes(groups, remaining, workers or core_count(), timeout)
    with contextlib.closing(results):
        for done, (number, mapping) in enumerate(results, done_without + 1):
            merged[number] = mapping
            if progress is not None:
                progress(done, len(groups))
    return [mapping for mapping in merged if mapping is not None]
