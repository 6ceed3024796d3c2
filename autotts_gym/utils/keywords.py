"""Suggestions for misspelt keyword arguments."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar, is_typeddict

_P = ParamSpec("_P")
_R = TypeVar("_R")

_KINDS = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def keywords_of(function: Callable[..., object]) -> set[str]:
    """Names of the keyword arguments of a function, or the keys of a ``TypedDict``."""
    if is_typeddict(function):
        return set(function.__annotations__)
    parameters = inspect.signature(function).parameters.values()
    return {p.name for p in parameters if p.kind in _KINDS and p.name != "self"}


def suggest_keywords(
    *others: Callable[..., object],
) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Decorate a function to suggest the argument that a misspelt keyword was meant to be.

    Args:
        others: functions that the function passes its ``**kwargs`` on to, or their
            ``TypedDict``.

    Raises:
        TypeError: when the decorated function is called with an unknown keyword argument; the
            message names the most similar one.
    """

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        known = set.union(*map(keywords_of, (function, *others)))
        name = function.__qualname__.removesuffix(".__init__")

        @functools.wraps(function)
        def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            for keyword in kwargs.keys() - known:
                raise TypeError(unknown_keyword_message(name, keyword, known))
            return function(*args, **kwargs)

        return call

    return decorate


def unknown_keyword_message(function: str, keyword: str, known: set[str]) -> str:
    """The message about an unknown keyword argument of a function."""
    message = f"{function}() got an unexpected keyword argument {keyword!r}"
    similar = difflib.get_close_matches(keyword, sorted(known), n=1)
    if similar:
        return f"{message}; did you mean {similar[0]!r}?"
    return f"{message}; it takes {', '.join(sorted(known))}"
