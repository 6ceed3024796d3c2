"""Parsers of lists of β and of integers, given as numbers or as on the command line."""

from __future__ import annotations

from collections.abc import Iterable


def beta_list(betas: float | str | Iterable[float]) -> list[float]:
    """Parse values of β: one number, several numbers, or text such as ``"0,0.5,1"``.

    Raises:
        ValueError: the text is not a list of numbers.
    """
    if isinstance(betas, str):
        try:
            return [float(part) for part in betas.split(",")]
        except ValueError:
            raise ValueError(f"betas must be numbers such as '0,0.5,1', got {betas!r}") from None
    return [float(betas)] if isinstance(betas, int | float) else [float(beta) for beta in betas]


def integer_list(numbers: int | str | Iterable[int], name: str) -> list[int]:
    """Parse integers: one, several, or text such as ``"0-9"`` or ``"0,3,5-7"``.

    Args:
        numbers: the integers.
        name: name of the argument, for error messages.

    Raises:
        ValueError: the text is not a list of integers and ranges.
    """
    if isinstance(numbers, str):
        found: list[int] = []
        for part in numbers.split(","):
            first, dash, last = part.partition("-")
            try:
                found += range(int(first), int(last if dash else first) + 1)
            except ValueError:
                raise ValueError(
                    f"{name} must be integers such as '0-9' or '0,3,5-7', got {numbers!r}"
                ) from None
        return list(dict.fromkeys(found))
    return [numbers] if isinstance(numbers, int) else [int(number) for number in numbers]
