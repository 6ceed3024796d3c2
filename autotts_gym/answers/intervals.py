"""Unions of intervals: their normal form, complements, and comparison."""

from __future__ import annotations

import math
from collections.abc import Sequence as List
from typing import Final

from autotts_gym.answers.evaluation import Evaluation
from autotts_gym.answers.exact_math import NoValueError
from autotts_gym.answers.identity import equal_expressions
from autotts_gym.answers.nodes import Node, NotAnExpressionError
from autotts_gym.answers.values import Answer, Interval, Intervals, Quantity, Sequence

REALS: Final = Intervals((Interval(None, None, False, False),))


def as_intervals(value: Answer) -> Intervals | None:
    """A pair of numbers or a set of numbers as intervals; None if it is something else."""
    if isinstance(value, Intervals):
        return value
    if not isinstance(value, Sequence):
        return None
    nodes = [item.node for item in value.items if isinstance(item, Quantity)]
    if len(nodes) != len(value.items):
        return None
    if value.kind in ("tuple", "square") and len(nodes) == 2:
        closed = value.kind == "square"
        return Intervals((Interval(nodes[0], nodes[1], closed, closed),))
    if value.kind == "set":
        return union([Intervals((Interval(node, node, True, True),)) for node in nodes])
    return None


def _position(node: Node | None, default: float) -> float:
    """The place of an end on the line."""
    if node is None:
        return default
    try:
        evaluation = Evaluation({})
        value = evaluation.inexact(evaluation.value(node))
        if getattr(value, "imag", 0) != 0:
            raise NotAnExpressionError("a complex end")
        return float(value.real)
    except (NoValueError, OverflowError, TypeError) as error:
        raise NotAnExpressionError(f"an end of an interval without value: {error}") from None


def union(sets: List[Intervals]) -> Intervals:
    """The union, with intervals joined where they overlap or touch.

    Raises:
        NotAnExpressionError: an end has no value, and there are several intervals.
    """
    pieces = [piece for each in sets for piece in each.pieces]
    if len(pieces) < 2:
        return Intervals(tuple(pieces))
    ordered = sorted(pieces, key=lambda p: (_position(p.low, -math.inf), not p.low_closed))
    joined = [ordered[0]]
    for piece in ordered[1:]:
        last = joined[-1]
        high, low = _position(last.high, math.inf), _position(piece.low, -math.inf)
        if low < high or (low == high and (last.high_closed or piece.low_closed)):
            end = _position(piece.high, math.inf)
            if end > high:
                joined[-1] = Interval(last.low, piece.high, last.low_closed, piece.high_closed)
            elif end == high and piece.high_closed:
                joined[-1] = Interval(last.low, last.high, last.low_closed, True)
        else:
            joined.append(piece)
    return Intervals(tuple(joined))


def without(base: Intervals, removed: Intervals) -> Intervals:
    """The difference, if only points are removed.

    Raises:
        NotAnExpressionError: something else is removed.
    """
    points = [p.low for p in removed.pieces if p.low is not None and p.low == p.high]
    if len(points) != len(removed.pieces):
        raise NotAnExpressionError("a difference of intervals")
    pieces = list(base.pieces)
    for point in points:
        at = _position(point, 0.0)
        next_pieces = []
        for piece in pieces:
            low, high = _position(piece.low, -math.inf), _position(piece.high, math.inf)
            if low < at < high:
                next_pieces.append(Interval(piece.low, point, piece.low_closed, False))
                next_pieces.append(Interval(point, piece.high, False, piece.high_closed))
            elif at in (low, high):
                next_pieces.append(
                    Interval(
                        piece.low,
                        piece.high,
                        piece.low_closed and at != low,
                        piece.high_closed and at != high,
                    )
                )
            else:
                next_pieces.append(piece)
        pieces = next_pieces
    return Intervals(tuple(pieces))


def both_or_union(sets: List[Intervals]) -> Intervals:
    """Sets joined by "and" or a comma: their intersection, or their union if that is empty."""
    common = sets[0]
    for other in sets[1:]:
        common = _intersection(common, other)
    return common if common.pieces else union(sets)


def _intersection(a: Intervals, b: Intervals) -> Intervals:
    return Intervals(tuple(piece for p in a.pieces for q in b.pieces for piece in _overlap(p, q)))


def _overlap(p: Interval, q: Interval) -> List[Interval]:
    lows = _position(p.low, -math.inf), _position(q.low, -math.inf)
    highs = _position(p.high, math.inf), _position(q.high, math.inf)
    low, low_closed = (p.low, p.low_closed) if lows[0] > lows[1] else (q.low, q.low_closed)
    high, high_closed = (p.high, p.high_closed) if highs[0] < highs[1] else (q.high, q.high_closed)
    if lows[0] == lows[1]:
        low_closed = p.low_closed and q.low_closed
    if highs[0] == highs[1]:
        high_closed = p.high_closed and q.high_closed
    if max(lows) > min(highs) or (max(lows) == min(highs) and not (low_closed and high_closed)):
        return []
    return [Interval(low, high, low_closed, high_closed)]


def equal_intervals(a: Intervals, b: Intervals) -> bool:
    """Whether two unions of intervals are equal."""
    return len(a.pieces) == len(b.pieces) and all(
        (p.low_closed, p.high_closed) == (q.low_closed, q.high_closed)
        and _equal_ends(p.low, q.low)
        and _equal_ends(p.high, q.high)
        for p, q in zip(a.pieces, b.pieces, strict=True)
    )


def _equal_ends(a: Node | None, b: Node | None) -> bool:
    if a is None or b is None:
        return a is b
    return equal_expressions(a, b)
