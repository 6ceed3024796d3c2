"""``ServerCurve``: how fast a model server generates, by the number of its concurrent sequences.

The curve is measured on a running server (:mod:`autotts_gym.simulation.calibration`) or written by
hand, and is kept in a JSON file::

    {
      "concurrency": [1, 16, 256],
      "tokens_per_second": [62.0, 55.1, 21.4],
      "max_sequences": 256
    }
"""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from autotts_gym.utils.bounded_files import SMALL_FILE, read_bytes
from autotts_gym.utils.files import write_text

#: Most sequences of a server.
MAX_SEQUENCES: Final = 1_000_000

_Positive = Annotated[float, Meta(gt=0, lt=1e12)]
_NotNegative = Annotated[float, Meta(ge=0, lt=1e12)]
_Sequences = Annotated[int, Meta(ge=1, le=MAX_SEQUENCES)]


class RequestCost(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a request costs beside the tokens that it generates.

    Attributes:
        seconds: latency during which the server does nothing for the request: the network, and the
            server's queues.
        tokens: work that competes with generation, such as reading the prompt, in generated tokens
            that take the server as long.
    """

    seconds: _NotNegative = 0.0
    tokens: _NotNegative = 0.0


class ServerCurve(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How fast one server generates.

    Attributes:
        concurrency: numbers of concurrent sequences at which the rate was measured, ascending.
        tokens_per_second: tokens per second of *each* sequence at these numbers.
        max_sequences: largest number of sequences that the server generates at a time; further
            requests wait in its queue.
        request: cost of a request to generate text.
        probe: cost of a probe, its generated tokens included.
        text_seconds: latency of a request that converts text to tokens or back. An episode starts
            with one, and the end of a branch is read by one.
        details: where the curve comes from; not used by the simulation.

    Raises:
        ValueError: the numbers are no curve; the message names what is wrong.
    """

    concurrency: Annotated[tuple[_Sequences, ...], Meta(min_length=1, max_length=10_000)]
    tokens_per_second: Annotated[tuple[_Positive, ...], Meta(min_length=1, max_length=10_000)]
    max_sequences: _Sequences = 256
    request: RequestCost = RequestCost()
    probe: RequestCost = RequestCost()
    text_seconds: _NotNegative = 0.0
    details: dict[str, Any] = {}

    def __post_init__(self) -> None:
        points, rates = len(self.concurrency), len(self.tokens_per_second)
        if points != rates:
            raise ValueError(
                f"concurrency has {points} numbers and tokens_per_second {rates}; "
                f"they must have the same length"
            )
        for lower, higher in pairwise(self.concurrency):
            if higher <= lower:
                raise ValueError(f"concurrency must ascend, got {higher} after {lower}")

    @classmethod
    def create(cls, **values: Any) -> ServerCurve:
        """Create a curve from values that are checked; arguments are the attributes.

        Raises:
            ValueError: a value is missing, unknown or out of range.
        """
        try:
            return msgspec.convert(values, cls, strict=False)
        except msgspec.ValidationError as error:
            raise ValueError(f"server curve: {error}") from None

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ServerCurve:
        """Read a curve from a JSON file.

        Raises:
            OSError: the file cannot be read.
            ValueError: the file does not hold a valid curve.
        """
        content = read_bytes(path, SMALL_FILE)
        try:
            return msgspec.json.decode(content, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"{os.fspath(path)}: not a server curve: {error}") from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the curve to a JSON file; an existing file is replaced atomically.

        Raises:
            OSError: the file cannot be written.
        """
        encoded = msgspec.json.format(msgspec.json.encode(self), indent=2)
        write_text(Path(path), encoded.decode() + "\n")

    def rates(self) -> NDArray[np.float64]:
        """Tokens per second of each sequence, by the number of sequences.

        The total is interpolated between the measured numbers, and constant beyond the last. Below
        the first, every sequence has the rate that was measured there.

        Returns:
            float64[max_sequences + 1]; entry n is the rate of each of n sequences, entry 0 is 0.
        """
        n = np.arange(1, self.max_sequences + 1, dtype=np.float64)
        measured = np.array(self.concurrency, np.float64)
        totals = measured * np.array(self.tokens_per_second)
        rates = np.interp(n, measured, totals) / n
        rates[n < measured[0]] = self.tokens_per_second[0]
        return np.concatenate([[0.0], rates])

    @property
    def max_tokens_per_second(self) -> float:
        """The largest total rate of the server, tokens per second."""
        rates = self.rates()
        return float((rates * np.arange(len(rates))).max())
