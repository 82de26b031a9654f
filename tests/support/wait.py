"""Waiting for a condition: poll with a deadline, and say at the end what was last seen."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar, overload

T = TypeVar("T")

# The first look comes soon enough that a test loses nothing by it; later ones leave the cores to
# whatever is being waited for.
FIRST_PAUSE = 0.005
LONGEST_PAUSE = 0.2


class NotInTimeError(AssertionError):
    """The condition did not come true before its deadline."""


def eventually(
    predicate: Callable[[], T | None],
    *,
    deadline: float = 15.0,
    retry_on: tuple[type[Exception], ...] = (AssertionError,),
    what: str = "",
) -> T:
    """
    Call `predicate` until it returns something true, and return that.

    None, False and empty results mean "not yet", and so do exceptions of `retry_on`; any other
    exception leaves at once. `deadline` is in seconds from now; there is always at least one call.
    """
    end = time.monotonic() + deadline
    last: object = None
    for pause in _pauses():
        try:
            result = predicate()
            if result:
                return result
            last = result
        except retry_on as error:
            last = error
        left = end - time.monotonic()
        if left <= 0:
            break
        time.sleep(min(pause, left))  # noqa: TID251 - this is how to wait with a deadline
    raise _late(what or _name(predicate), deadline, last)


@overload
async def eventually_async(
    predicate: Callable[[], Awaitable[T | None]],
    *,
    deadline: float = ...,
    retry_on: tuple[type[Exception], ...] = ...,
    what: str = ...,
) -> T: ...


@overload
async def eventually_async(
    predicate: Callable[[], T | None],
    *,
    deadline: float = ...,
    retry_on: tuple[type[Exception], ...] = ...,
    what: str = ...,
) -> T: ...


async def eventually_async(
    predicate: Callable[[], object],
    *,
    deadline: float = 15.0,
    retry_on: tuple[type[Exception], ...] = (AssertionError,),
    what: str = "",
) -> object:
    """
    Do the same in an event loop; `predicate` is a coroutine function or a plain one.

    A call that is still running at the deadline is cancelled.
    """
    end = asyncio.get_running_loop().time() + deadline
    limit = asyncio.timeout_at(end)
    last: object = None
    try:
        async with limit:
            for pause in _pauses():
                try:
                    called = predicate()
                    result = await called if inspect.isawaitable(called) else called
                    if result:
                        return result
                    last = result
                except retry_on as error:
                    last = error
                await asyncio.sleep(pause)
    except TimeoutError:
        if not limit.expired():  # the predicate's own
            raise
    raise _late(what or _name(predicate), deadline, last)


def _pauses() -> Iterator[float]:
    pause = FIRST_PAUSE
    while True:
        yield pause
        pause = min(pause * 1.5, LONGEST_PAUSE)


def _name(predicate: object) -> str:
    return str(getattr(predicate, "__qualname__", predicate))


def _late(what: str, deadline: float, last: object) -> NotInTimeError:
    error = NotInTimeError(f"not within {deadline:g} s: {what}; last seen: {last!r}")
    if isinstance(last, Exception):
        error.__cause__ = last
    return error
