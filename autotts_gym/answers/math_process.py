r"""Comparison of sums, integrals and limits with math-verify, in a process of its own.

math-verify and sympy read what the parser of this package does not. They may compute forever, or
take all memory, so they run in a child process under limits of its own CPU time and memory: a busy
machine does not change a verdict. Beside the verdict of math-verify in both directions, the values
must agree to 20 digits: its own tolerance would make ``1/20!`` equal ``1/21!``.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
import warnings
from functools import lru_cache
from typing import Any, Final

#: CPU seconds of a comparison.
CPU_SECONDS: Final = 5
#: Bytes that the process may allocate beyond its initial size.
_EXTRA_MEMORY: Final = 2 << 30
_DIGITS: Final = 30
_TOLERANCE: Final = 1e-20


class _Client:
    """The child process, started on first use and replaced when it ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def compare(self, one: str, other: str) -> bool | None:
        """The verdict; None if the comparison exceeded its limits."""
        with self._lock:
            process = self._started()
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(json.dumps([one, other]).encode() + b"\n")
                process.stdin.flush()
                reply = process.stdout.readline()
            except OSError:
                reply = b""
            if not reply:
                self.stop()
                return None
            verdict = json.loads(reply)
            return verdict if isinstance(verdict, bool) else None

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._owner != os.getpid():
            self._process = subprocess.Popen(
                [sys.executable, "-c", f"from {__name__} import serve; serve()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                },
            )
            self._owner = os.getpid()
        return self._process

    def stop(self) -> None:
        """End the process, if this process started it."""
        if self._process is not None and self._owner == os.getpid():
            with contextlib.suppress(OSError):
                self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
        self._process = None


_client: Final = _Client()
atexit.register(_client.stop)


@lru_cache(maxsize=4096)
def equal_by_math_verify(one: str, other: str) -> bool:
    """Whether two formulas in LaTeX are equal; False if that exceeds the limits."""
    return bool(_client.compare(one, other))


# --- in the child process ------------------------------------------------------------------------


def serve() -> None:
    """Answer comparisons from standard input until it is closed."""
    logging.disable()
    warnings.simplefilter("ignore")
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what a library prints is no reply
    import math_verify

    math_verify.parse("$1$", parsing_timeout=None)  # imports everything before the limits
    _limit_memory()
    for line in sys.stdin.buffer:
        one, other = json.loads(line)
        _limit_cpu_time()
        try:
            verdict: bool | None = _compare(one, other)
        except (Exception, MemoryError, RecursionError):
            verdict = None
        replies.write(json.dumps(verdict).encode() + b"\n")


def _limit_memory() -> None:
    if sys.platform == "linux":
        import resource
        from pathlib import Path

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + _EXTRA_MEMORY
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        if hard == resource.RLIM_INFINITY or limit < hard:
            resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _limit_cpu_time() -> None:
    """Let the kernel end this process after some more seconds of its own CPU time."""
    if sys.platform != "win32":
        import resource

        usage = resource.getrusage(resource.RUSAGE_SELF)
        limit = int(usage.ru_utime + usage.ru_stime) + 1 + CPU_SECONDS
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        if hard == resource.RLIM_INFINITY or limit < hard:
            resource.setrlimit(resource.RLIMIT_CPU, (limit, hard))


def _compare(one: str, other: str) -> bool:
    a, b = _parse(one), _parse(other)
    if a is None or b is None or a.free_symbols != b.free_symbols:
        return False
    import math_verify

    same_values = _same_values(a, b)
    if same_values is not None:
        return same_values
    return all(
        math_verify.verify(*pair, strict=True, timeout_seconds=None, float_rounding=20)
        for pair in ((a, b), (b, a))
    )


def _parse(latex: str) -> Any:
    import dataclasses

    import math_verify
    import sympy

    config = math_verify.LatexExtractionConfig()
    # Units are read before, and a box is extracted before.
    spelling = dataclasses.replace(config.normalization_config, units=False, boxed="none")
    config = dataclasses.replace(config, boxed_match_priority=-1, normalization_config=spelling)
    parsed = math_verify.parse(
        f"${latex}$", [config], fallback_mode="no_fallback", parsing_timeout=None
    )
    return parsed[0] if parsed and isinstance(parsed[0], sympy.Expr) else None


def _same_values(a: Any, b: Any) -> bool | None:
    """Whether two expressions without symbols have the same value; None if that is not known."""
    import sympy

    if a.free_symbols:
        difference = sympy.simplify(a.doit() - b.doit())
        return True if difference == 0 else None
    values = [expression.doit().evalf(_DIGITS) for expression in (a, b)]
    if not all(value.is_number and value.is_finite for value in values):
        return False
    difference, size = abs(values[0] - values[1]), max(abs(value) for value in values)
    return bool(difference <= _TOLERANCE * size)
