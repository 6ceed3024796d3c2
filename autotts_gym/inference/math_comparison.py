"""Comparison of answers with math-verify under limits of time and memory, in child processes."""

from __future__ import annotations

import cmath
import contextlib
import dataclasses
import importlib
import logging
import re
import signal
import sys
import warnings
import zlib
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, NamedTuple

from autotts_gym.inference.answer_merging import FUNCTIONS, AnswerGroup, Verdict, merge_group

#: An operation with a time limit: parsing an answer (one string), or comparing two.
Operation = tuple[str, ...]

#: The time limit is in CPU seconds. A process that takes this many times as long in wall time is
#: killed, since it may be blocked without computing.
WALL_TIME_FACTOR: Final = 4.0

#: Bytes that a process may allocate in addition to its initial size.
_EXTRA_MEMORY: Final = 2 << 30

#: Values with a larger relative difference are different for math-verify, which compares 6 decimals
#: or 15 digits.
_TOLERANCE: Final = 1e-4


def serve(pipe: Connection, timeout: float) -> None:
    """Merge the groups that arrive on a pipe until it is closed: the main function of a process.

    It sends ``("started",)``; ``("begin", operation)`` and ``("result", operation, verdict)``
    around operations; and ``("merged", mapping)`` for each group.

    Args:
        pipe: the connection to the parent.
        timeout: CPU seconds of an operation.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    logging.disable()
    warnings.simplefilter("ignore")
    for module in ("sympy", "math_verify"):  # before any time limit
        importlib.import_module(module)
    _limit_memory()
    pipe.send(("started",))
    while True:
        try:
            gold, answers, known = pipe.recv()
        except (EOFError, OSError):
            return
        compare = _MathComparison(pipe, known, timeout)
        pipe.send(("merged", merge_group(AnswerGroup(gold, answers), compare)))


def _limit_memory() -> None:
    if sys.platform == "linux":
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + _EXTRA_MEMORY
        _, hard_limit = resource.getrlimit(resource.RLIMIT_AS)
        if hard_limit == resource.RLIM_INFINITY or limit < hard_limit:
            resource.setrlimit(resource.RLIMIT_AS, (limit, hard_limit))


class _TimeUpError(BaseException):
    """The time limit is exceeded. Not an ``Exception``, since math-verify catches these."""


@contextlib.contextmanager
def _cpu_time_limit(seconds: float) -> Iterator[None]:
    """Raise ``_TimeUpError`` after this many seconds of CPU time; main thread only."""
    if not hasattr(signal, "setitimer"):  # Windows: only the parent's limit applies
        yield
        return

    def time_up(*_: object) -> None:
        raise _TimeUpError

    signal.signal(signal.SIGPROF, time_up)
    signal.setitimer(signal.ITIMER_PROF, seconds, 1.0)  # repeats, in case the error is caught
    # This signal has no handler: it kills the process, even without a parent.
    signal.setitimer(signal.ITIMER_REAL, WALL_TIME_FACTOR * seconds + 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.setitimer(signal.ITIMER_REAL, 0.0)


class _ParsedAnswer(NamedTuple):
    """A parsed answer: its sympy expression, and its numeric value if it has one."""

    expression: Any
    value: complex | None


class _MathComparison:
    """Compares answers of one group, and announces each operation to the parent.

    Args:
        pipe: the connection to the parent.
        known: results of earlier processes; an operation that ended one is not repeated.
        timeout: CPU seconds of an operation.
    """

    def __init__(
        self, pipe: Connection, known: Mapping[Operation, Verdict], timeout: float
    ) -> None:
        self._pipe = pipe
        self._known = known
        self._timeout = timeout
        self._parsed: dict[str, _ParsedAnswer | None] = {}

    def __call__(self, one: str, other: str) -> Verdict:
        a, b = self._parse(one), self._parse(other)
        if a is None or b is None or _clearly_different(a.value, b.value):
            return False
        if (one, other) in self._known:
            return self._known[one, other]
        verdict: Verdict = None
        self._pipe.send(("begin", (one, other)))
        try:
            with _cpu_time_limit(self._timeout):
                verify = importlib.import_module("math_verify").verify
                verdict = bool(verify(a.expression, b.expression, timeout_seconds=None))
        except _TimeUpError:
            pass
        except Exception:  # any error of math-verify, including MemoryError
            verdict = False
        self._pipe.send(("result", (one, other), verdict))
        return verdict

    def _parse(self, answer: str) -> _ParsedAnswer | None:
        if answer not in self._parsed:
            parsed = None
            if (answer,) not in self._known:
                self._pipe.send(("begin", (answer,)))
                try:
                    with _cpu_time_limit(self._timeout):
                        parsed = _parse_answer(answer)
                except _TimeUpError:
                    self._pipe.send(("result", (answer,), None))
                except Exception:
                    parsed = None
            self._parsed[answer] = parsed
        return self._parsed[answer]


_SCIENTIFIC: Final = re.compile(r"(-?[0-9.]+)[eE]([-+]?[0-9]+)")
#: 15 minutes, 12 square meters, 5cm^2. math-verify's own list has letters that may be variables.
_UNIT: Final = re.compile(
    rf"(?<=[0-9)}}])(?:\s+(?!(?:{FUNCTIONS})\b)[A-Za-z]{{3,}}(?:\s+[A-Za-z]{{2,}}){{0,2}}"
    r"|\s*(?:cm|mm|km|kg|mg|ml|ft|hr))(?:\^[23]|\^\{[23]\})?$"
)


def _parse_answer(answer: str) -> _ParsedAnswer | None:
    """Parse an answer; None if math-verify cannot."""
    math_verify = importlib.import_module("math_verify")
    config = math_verify.LatexExtractionConfig()
    spelling = dataclasses.replace(config.normalization_config, units=False, boxed="none")
    config = dataclasses.replace(config, boxed_match_priority=-1, normalization_config=spelling)
    # Otherwise e would be Euler's number, and a line break would end the formula.
    latex = _SCIENTIFIC.sub(r"\1 \\cdot 10^{\2}", _UNIT.sub("", answer))
    latex = " ".join(latex.split())
    # Only as LaTeX: a plain expression that math-verify finds may be only a part of the answer.
    expressions = math_verify.parse(
        f"${latex}$", [config], fallback_mode="no_fallback", parsing_timeout=None
    )
    return _ParsedAnswer(expressions[0], _value(expressions[0])) if expressions else None


def _value(expression: Any) -> complex | None:
    """The value of an expression at a point that is a function of the names of its variables.

    None if it is not a number, or if math-verify does not compare such expressions by value.
    """
    sympy = importlib.import_module("sympy")
    excluded = sympy.Symbol, sympy.MatrixExpr
    if not isinstance(expression, sympy.Expr) or isinstance(expression, excluded):
        return None
    try:
        if expression.has(sympy.UnevaluatedExpr):  # a percentage
            return None
        point = {
            symbol: 1.5 + zlib.crc32(symbol.name.encode()) / (1 << 33)
            for symbol in expression.free_symbols
        }
        value = complex(expression.evalf(15, subs=point))
    except Exception:  # any error of sympy: the expression has no value
        return None
    return value if cmath.isfinite(value) else None


def _clearly_different(a: complex | None, b: complex | None) -> bool:
    """Whether both values exist and differ by more than math-verify's tolerance."""
    if a is None or b is None:
        return False
    return abs(a - b) > _TOLERANCE * max(1.0, abs(a), abs(b))
