"""Looks after open streams, again and again, for as long as they are served."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def looking(look: Callable[[], None], *, every: float) -> Iterator[None]:
    """Call it now, and again after each pause of so many seconds, while the block runs."""
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle

    def again() -> None:
        nonlocal timer
        look()
        timer = loop.call_later(every, again)

    look()
    timer = loop.call_later(every, again)
    try:
        yield
    finally:
        timer.cancel()
