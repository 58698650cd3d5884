"""Tasks have a name, an owner, and someone who hears them fail (design-examples 18)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class Tasks:
    """The tasks of one owner. Keeps them alive, and reports what ends by an error.

    `on_failure(name, error)` is called once for each task that raised; without one the error goes
    to the event loop's exception handler, so that it is never lost.
    """

    def __init__(self, on_failure: Callable[[str, BaseException], None] | None = None) -> None:
        self._on_failure = on_failure
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, name: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run `work` beside the caller. Has to be called in the event loop's thread."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def close(self) -> None:
        """Cancel all tasks, and wait until they have ended; their failures are reported."""
        while waiting := [task for task in self._tasks if task is not asyncio.current_task()]:
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)
            # The callbacks that take the ended tasks out of the set are due in the next turn.
            await asyncio.sleep(0)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        if self._on_failure is not None:
            self._on_failure(task.get_name(), error)
        else:
            task.get_loop().call_exception_handler(
                {
                    "message": f"task {task.get_name()} failed",
                    "exception": error,
                    "task": task,
                }
            )
