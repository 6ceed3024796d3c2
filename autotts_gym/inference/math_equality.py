r"""Answers that are equal as mathematics, though not as strings: ``0.5`` and ``\frac12``.

math-verify decides. What it compares was written by a language model, and may keep it busy for
good (``9^{9^{9^9}}``) or take its process down. So that is done in processes that are watched, and
a comparison that comes to no end counts as "not equal".
"""

from __future__ import annotations

import cmath
import contextlib
import dataclasses
import importlib
import importlib.util
import logging
import multiprocessing
import re
import signal
import sys
import time
import warnings
import zlib
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Final, NamedTuple

from autotts_gym.inference.answer_extraction import normalize
from autotts_gym.traces.store import NULL_ANSWERS
from autotts_gym.utils.processes import core_count

#: What math-verify is asked: to understand an answer, or to compare two.
_Question = tuple[str, ...]
#: Whether two answers are equal; None where comparing them comes to no end.
_Verdict = bool | None
_Judge = Callable[[str, str], _Verdict]

#: Comparisons of an answer that may come to no end, after which it stays by itself; and processes
#: in a row that may end before they were asked anything.
_PATIENCE: Final = 2

#: The time limit is counted in seconds of computing. So many times that, in seconds of the clock,
#: a process is ended from outside: it may be held up where nothing reaches it.
_GRACE: Final = 4.0

#: Seconds between two looks at the processes; one look counts at most twice that, since more means
#: that this process was held up as well, as by Ctrl-Z.
_LOOK: Final = 0.25

#: Bytes that a process may take beyond what it starts with.
_MEMORY: Final = 2 << 30

#: Values that are further apart than this fraction are different to math-verify, which looks at
#: 6 decimals or 15 digits.
_APART: Final = 1e-4


class Group(NamedTuple):
    """A question's answers.

    Attributes:
        gold: its gold answer; empty, or another null answer, where there is none.
        answers: every answer, and how often it was given.
    """

    gold: str
    answers: Mapping[str, int]


def merge_equal(
    groups: Sequence[Group],
    workers: int | None = None,
    timeout: float = 5.0,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, str]]:
    """Find the answers to each question that are mathematically equal.

    An answer is compared with one representative of each class: the gold answer first, then the
    others in the order of how often they were given. Null answers are equal to nothing, and prose
    to the same words alone; units behind a value (``15 minutes``) are passed over. The result does
    not depend on ``workers``, nor on the machine, as long as no comparison comes close to the time
    limit.

    Args:
        groups: the questions.
        workers: processes; as many as this process has cores by default. There are none where all
            answers are plain integers.
        timeout: seconds of computing after which a comparison counts as "not equal".
        progress: called after each question with how many are done and how many there are.

    Returns:
        A mapping a question, from each of its answers to the one that represents it. That is the
        gold answer if equal to it, else the most common of those that are equal (of several, the
        one that stands first).

    Raises:
        ModuleNotFoundError: math-verify is not installed.
        RuntimeError: its processes do not start.
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
            merged.append(_merge(group, _nobody))
        except _MathematicsError:
            merged.append(None)
    left = [number for number, mapping in enumerate(merged) if mapping is None]
    settled = len(groups) - len(left)
    if progress is not None and settled:
        progress(settled, len(groups))
    with contextlib.closing(_watched(groups, left, workers or core_count(), timeout)) as results:
        for done, (number, mapping) in enumerate(results, settled + 1):
            merged[number] = mapping
            if progress is not None:
                progress(done, len(groups))
    return [mapping for mapping in merged if mapping is not None]


# --- classes -------------------------------------------------------------------------------------

_FUNCTIONS: Final = "sin|cos|tan|cot|log|ln|exp|sqrt|max|min|pi"
_INTEGER: Final = re.compile(r"-?[0-9]+")
#: A word at the front. math-verify reads the product of its letters, in any order.
_PROSE: Final = re.compile(rf"[^\w\\{{^=<>]*(?!(?:{_FUNCTIONS})\b)(?:[^\W\d_]\s+)?[^\W\d_]{{2}}")


class _MathematicsError(Exception):
    """It takes mathematics to tell whether two answers are equal."""


def _nobody(one: str, other: str) -> _Verdict:
    raise _MathematicsError


def _merge(group: Group, judge: _Judge) -> dict[str, str]:
    """The representative of each answer."""
    by_spelling: dict[str, str] = {}
    candidates: list[str] = []  # the spellings that others are compared with
    merged = {answer: answer for answer in group.answers}
    # Sorting keeps the order of those that are equally common.
    order = sorted(group.answers, key=group.answers.__getitem__, reverse=True)
    for answer in [group.gold, *order]:
        if answer in NULL_ANSWERS:
            continue
        spelling = normalize(answer)
        if spelling not in by_spelling:
            equal, settled = _find_equal(spelling, candidates, judge)
            by_spelling[spelling] = answer if equal is None else by_spelling[equal]
            if equal is None and settled:
                candidates.append(spelling)
        if answer in merged:
            merged[answer] = by_spelling[spelling]
    return merged


def _find_equal(spelling: str, candidates: Sequence[str], judge: _Judge) -> tuple[str | None, bool]:
    """The candidate that is equal, if one is; and whether that could be settled."""
    endless = 0
    for candidate in candidates:
        if _INTEGER.fullmatch(spelling) and _INTEGER.fullmatch(candidate):
            verdict: _Verdict = False  # there is one spelling for each
        elif _PROSE.match(spelling) or _PROSE.match(candidate):
            verdict = spelling.casefold() == candidate.casefold()
        else:
            verdict = judge(candidate, spelling)
        if verdict:
            return candidate, True
        endless += verdict is None
        if endless == _PATIENCE:
            return None, False
    return None, True


# --- the processes, from outside -----------------------------------------------------------------


class _Process:
    """A process that merges groups, and what it was last heard to be at."""

    def __init__(self, timeout: float) -> None:
        # Fork would copy whatever state the threads of this process are in.
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, timeout), daemon=True)
        self._process.start()
        theirs.close()
        self.started = False
        self.number = -1
        self.asked: _Question | None = None
        self.seconds = 0.0

    def give(self, number: int, group: Group, known: Mapping[_Question, _Verdict]) -> None:
        self.number, self.asked = number, None
        with contextlib.suppress(OSError):  # it has ended, which will be noticed
            self.pipe.send((group.gold, dict(group.answers), dict(known)))

    def hear(self) -> tuple[Any, ...]:
        self.seconds = 0.0
        try:
            message: tuple[Any, ...] = self.pipe.recv()
        except (EOFError, OSError):
            return ("ended",)
        return message

    def stop(self) -> None:
        self._process.kill()
        self._process.join()
        self.pipe.close()


def _watched(
    groups: Sequence[Group], numbers: Sequence[int], workers: int, timeout: float
) -> Generator[tuple[int, dict[str, str]], None, None]:
    """Merge the groups with these numbers in processes; yields each when it is done."""
    left = deque(numbers)
    known: defaultdict[int, dict[_Question, _Verdict]] = defaultdict(dict)
    processes: list[_Process] = []
    idle_ends = 0

    def put_to_work(process: _Process, number: int) -> None:
        process.give(number, groups[number], known[number])

    try:
        for _ in range(min(workers, len(left))):
            processes.append(_Process(timeout))
            put_to_work(processes[-1], left.popleft())
        looked = time.monotonic()
        while processes:
            heard = wait([process.pipe for process in processes], _LOOK)
            now = time.monotonic()
            passed, looked = min(now - looked, 2 * _LOOK), now
            for process in list(processes):
                if process.pipe in heard:
                    message = process.hear()
                elif process.asked and process.seconds + passed > _GRACE * timeout:
                    message = ("ended",)
                else:
                    process.seconds += passed
                    continue
                number = process.number
                match message:
                    case ("started",):
                        process.started = True
                    case ("asks", question):
                        process.asked = question
                    case ("says", question, verdict):
                        known[number][question] = verdict
                        idle_ends = 0
                    case ("merged", mapping):
                        del known[number]
                        if left:
                            put_to_work(process, left.popleft())
                        else:
                            process.stop()
                            processes.remove(process)
                        yield number, mapping
                    case _:
                        process.stop()
                        processes.remove(process)
                        if process.asked:
                            known[number][process.asked] = None
                        else:
                            idle_ends += 1
                        if not process.started or idle_ends > _PATIENCE:
                            raise RuntimeError(
                                "a process that compares answers ended before it was asked "
                                "anything; its error output may say why (a script that starts "
                                "this needs `if __name__ == '__main__':`)"
                            )
                        processes.append(_Process(timeout))
                        put_to_work(processes[-1], number)
    finally:
        for process in processes:
            process.stop()


# --- and from inside -----------------------------------------------------------------------------


def _serve(pipe: Connection, timeout: float) -> None:
    """What a process does: merge the groups that it is sent, until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    logging.disable()
    warnings.simplefilter("ignore")
    for module in ("sympy", "math_verify"):  # here, where there is no limit on time
        importlib.import_module(module)
    _limit_memory()
    pipe.send(("started",))
    while True:
        try:
            gold, answers, known = pipe.recv()
        except (EOFError, OSError):
            return
        pipe.send(("merged", _merge(Group(gold, answers), _Mathematician(pipe, known, timeout))))


def _limit_memory() -> None:
    if sys.platform == "linux":
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + _MEMORY
        _, limit = resource.getrlimit(resource.RLIMIT_AS)
        if limit == resource.RLIM_INFINITY or most < limit:
            resource.setrlimit(resource.RLIMIT_AS, (most, limit))


class _TimeUpError(BaseException):
    """The time limit; not an ``Exception``, which mathematics catches on its way."""


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raise ``_TimeUpError`` after so many seconds of computing in the main thread."""
    if not hasattr(signal, "setitimer"):  # then there is only the limit from outside
        yield
        return

    def end(*_: object) -> None:
        raise _TimeUpError

    signal.signal(signal.SIGPROF, end)
    signal.setitimer(signal.ITIMER_PROF, seconds, 1.0)  # and again, should it be caught
    # Nobody handles this one: it ends the process, even when there is no parent left to do so.
    signal.setitimer(signal.ITIMER_REAL, _GRACE * seconds + 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.setitimer(signal.ITIMER_REAL, 0.0)


class _Meaning(NamedTuple):
    """An answer as sympy has it, and its value at one point, if it has one."""

    expression: Any
    value: complex | None


class _Mathematician:
    """Compares the answers of one group, and says beforehand what is compared.

    Args:
        pipe: where that is said to.
        known: verdicts of processes before this one; a question that ended one is not asked again.
        timeout: seconds of computing a comparison may take.
    """

    def __init__(
        self, pipe: Connection, known: Mapping[_Question, _Verdict], timeout: float
    ) -> None:
        self._pipe = pipe
        self._known = known
        self._timeout = timeout
        self._meanings: dict[str, _Meaning | None] = {}

    def __call__(self, one: str, other: str) -> _Verdict:
        a, b = self._meaning(one), self._meaning(other)
        if a is None or b is None or _apart(a.value, b.value):
            return False
        if (one, other) in self._known:
            return self._known[one, other]
        verdict: _Verdict = None
        self._pipe.send(("asks", (one, other)))
        try:
            with _limited(self._timeout):
                verify = importlib.import_module("math_verify").verify
                verdict = bool(verify(a.expression, b.expression, timeout_seconds=None))
        except _TimeUpError:
            pass
        except Exception:  # whatever mathematics raises, want of memory included
            verdict = False
        self._pipe.send(("says", (one, other), verdict))
        return verdict

    def _meaning(self, answer: str) -> _Meaning | None:
        if answer not in self._meanings:
            meaning = None
            if (answer,) not in self._known:
                self._pipe.send(("asks", (answer,)))
                try:
                    with _limited(self._timeout):
                        meaning = _understood(answer)
                except _TimeUpError:
                    self._pipe.send(("says", (answer,), None))
                except Exception:
                    meaning = None
            self._meanings[answer] = meaning
        return self._meanings[answer]


_SCIENTIFIC: Final = re.compile(r"(-?[0-9.]+)[eE]([-+]?[0-9]+)")
#: 15 minutes, 12 square meters, 5cm^2. math-verify's own list has letters that are variables too.
_UNIT: Final = re.compile(
    rf"(?<=[0-9)}}])(?:\s+(?!(?:{_FUNCTIONS})\b)[A-Za-z]{{3,}}(?:\s+[A-Za-z]{{2,}}){{0,2}}"
    r"|\s*(?:cm|mm|km|kg|mg|ml|ft|hr))(?:\^[23]|\^\{[23]\})?$"
)


def _understood(answer: str) -> _Meaning | None:
    """What an answer means, or None where math-verify makes nothing of it."""
    math_verify = importlib.import_module("math_verify")
    config = math_verify.LatexExtractionConfig()
    spelling = dataclasses.replace(config.normalization_config, units=False, boxed="none")
    config = dataclasses.replace(config, boxed_match_priority=-1, normalization_config=spelling)
    # Else the e would be Euler's number, and a line end the end of the mathematics.
    latex = _SCIENTIFIC.sub(r"\1 \\cdot 10^{\2}", _UNIT.sub("", answer))
    latex = " ".join(latex.split())
    # As LaTeX alone, all of it: what math-verify takes for a plain expression may be a part.
    found = math_verify.parse(
        f"${latex}$", [config], fallback_mode="no_fallback", parsing_timeout=None
    )
    return _Meaning(found[0], _value(found[0])) if found else None


def _value(expression: Any) -> complex | None:
    """The value of an expression where each variable has a value that goes with its name.

    None for what is no number, and for what math-verify compares otherwise than by value.
    """
    sympy = importlib.import_module("sympy")
    others = sympy.Symbol, sympy.MatrixExpr
    if not isinstance(expression, sympy.Expr) or isinstance(expression, others):
        return None
    try:
        if expression.has(sympy.UnevaluatedExpr):  # a percentage
            return None
        point = {
            symbol: 1.5 + zlib.crc32(symbol.name.encode()) / (1 << 33)
            for symbol in expression.free_symbols
        }
        value = complex(expression.evalf(15, subs=point))
    except Exception:  # whatever sympy raises: there is no value then
        return None
    return value if cmath.isfinite(value) else None


def _apart(a: complex | None, b: complex | None) -> bool:
    if a is None or b is None:
        return False
    return abs(a - b) > _APART * max(1.0, abs(a), abs(b))
