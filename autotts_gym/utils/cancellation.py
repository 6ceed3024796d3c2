"""Cancellation of asyncio tasks that may lose it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

#: Seconds after which a task that goes on is cancelled again.
_AGAIN: Final = 0.5


async def cancel_and_wait(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait for their ends; their results and errors are dropped.

    A library can lose a cancellation: while a connection opens or closes, its own scopes are
    cancelled as well. So tasks that do not end are cancelled again.
    """
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        done, pending = await asyncio.wait(pending, timeout=_AGAIN)
        for task in done:
            if not task.cancelled():
                task.exception()  # retrieved, so that asyncio does not log it
