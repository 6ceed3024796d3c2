"""``EngineWatch``: reports a collection's progress while its engine is silent or fails."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Final

from autotts_gym.collection.collector import CollectionProgress
from autotts_gym.inference.engine import Engine

#: Seconds between two reports.
_EVERY: Final = 1.0


class EngineWatch:
    """Adds the state of the engine to the progress of a collection, and repeats it every second.

    Args:
        engine: the engine.
        total: number of traces of the collection.
        report: called with the progress.
    """

    def __init__(
        self, engine: Engine, total: int, report: Callable[[CollectionProgress], None]
    ) -> None:
        self._engine = engine
        self._report = report
        self._progress = CollectionProgress(total)

    def update(self, progress: CollectionProgress) -> None:
        """Report the progress of the collector."""
        self._progress = progress
        progress.retries = self._engine.retries
        progress.failure = self._engine.last_failure
        progress.silent_seconds = self._engine.silent_seconds
        self._report(progress)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Repeat the reports in this context."""

        async def repeat() -> None:
            while True:
                await asyncio.sleep(_EVERY)
                self.update(self._progress)

        task = asyncio.get_running_loop().create_task(repeat())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error
