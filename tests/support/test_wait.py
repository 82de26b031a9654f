"""The waiting helpers themselves."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from tests.support.wait import NotInTimeError, eventually, eventually_async


def test_returns_the_first_true_result() -> None:
    """A predicate is asked again until it returns something true, which is handed on."""
    answers: Iterator[str | None] = iter([None, "", "third"])

    assert eventually(lambda: next(answers)) == "third"


def test_failed_asserts_mean_not_yet() -> None:
    """An AssertionError inside the predicate is retried."""
    calls: list[int] = []

    def three_calls() -> bool:
        calls.append(1)
        assert len(calls) == 3
        return True

    assert eventually(three_calls)


def test_other_errors_leave_at_once() -> None:
    """An error that was not declared as "not yet" is no reason to wait."""
    nothing: dict[str, str] = {}

    with pytest.raises(KeyError):
        eventually(lambda: nothing["missing"], deadline=60)


def test_lateness_tells_what_was_last_seen() -> None:
    """The error at the deadline names the condition and the last result, and comes in time."""
    begin = time.monotonic()
    with pytest.raises(NotInTimeError, match=r"0\.1 s: the moon; last seen: 0"):
        eventually(lambda: 0, deadline=0.1, what="the moon")
    assert time.monotonic() - begin < 5


def test_the_last_failure_is_the_cause() -> None:
    """Where the last call failed, its exception is the cause."""
    nothing: dict[str, str] = {}

    with pytest.raises(NotInTimeError) as caught:
        eventually(lambda: nothing["missing"], deadline=0.05, retry_on=(KeyError,))
    assert isinstance(caught.value.__cause__, KeyError)


async def test_async_takes_coroutine_functions_and_plain_ones() -> None:
    """Both kinds of predicate are awaited as they need."""
    answers: Iterator[int | None] = iter([0, None, 7])

    async def answer() -> int | None:
        await asyncio.sleep(0)
        return next(answers)

    assert await eventually_async(answer) == 7
    assert await eventually_async(lambda: "plain") == "plain"


async def test_async_cancels_a_call_that_hangs() -> None:
    """A predicate that never returns ends at the deadline, not with the test."""
    with pytest.raises(NotInTimeError, match="last seen: None"):
        await eventually_async(asyncio.Event().wait, deadline=0.05)


async def test_async_keeps_a_timeout_of_the_predicate_apart() -> None:
    """A TimeoutError of the predicate's own is an error like any other."""

    async def own_timeout() -> bool:
        raise TimeoutError("own")

    with pytest.raises(TimeoutError, match="own"):
        await eventually_async(own_timeout)
