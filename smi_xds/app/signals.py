"""Running until a signal says stop: every child task is cancelled and cleans up."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")

# The last is what a terminal that closes sends.
_STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def run_until_signal(main: Coroutine[Any, Any, T]) -> T | None:
    """Run it on uvloop; None where a signal ended it."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_until_signal(main))


async def _until_signal(main: Coroutine[Any, Any, T]) -> T | None:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    signalled = False

    def stop() -> None:
        nonlocal signalled
        signalled = True
        task.cancel()

    for number in _STOP:
        loop.add_signal_handler(number, stop)
    try:
        return await main
    except asyncio.CancelledError:
        # The root of all tasks, and it was we who cancelled it.
        if signalled:
            return None
        raise
