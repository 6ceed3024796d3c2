"""What was recorded: stores of reasoning traces, where they come from, and how they are found."""

from autotts_gym.traces.store import Branch, Question, TraceError, TraceStore

__all__ = ["Branch", "Question", "TraceError", "TraceStore"]
