"""Tasks end although they lose cancellations."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from autotts_gym.utils.cancellation import cancel_and_wait


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_tasks_that_lose_cancellations_end(lost: int) -> None:
    async def stubborn() -> None:
        for _ in range(lost):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        await asyncio.Event().wait()

    async def main() -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(stubborn()) for _ in range(3)]
        await asyncio.sleep(0)
        await cancel_and_wait(tasks)
        return tasks

    assert all(task.cancelled() for task in asyncio.run(main()))


def test_errors_and_results_are_dropped() -> None:
    async def fail() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("of the cleanup")

    async def main() -> bool:
        ended = asyncio.create_task(asyncio.sleep(0))
        failing = asyncio.create_task(fail())
        await ended
        await cancel_and_wait([ended, failing])
        return ended.done() and isinstance(failing.exception(), ValueError)

    assert asyncio.run(main())
    assert asyncio.run(cancel_and_wait([])) is None
