"""Trace stores: recorded reasoning traces, their import, generation, lookup and statistics."""

from autotts_gym.traces.store import Branch, FrozenError, Question, TraceError, TraceStore

__all__ = ["Branch", "FrozenError", "Question", "TraceError", "TraceStore"]
