"""Exceptions of trace stores."""

from __future__ import annotations


class TraceError(ValueError):
    """Invalid traces or an unknown environment. The message says what is wrong and where."""


class FrozenError(TraceError):
    """The target of a write already exists. Stores are never overwritten."""
