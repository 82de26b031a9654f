"""What watches need of an API server: requests, and the ways in which they fail."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol


class RefusedError(Exception):
    """The API server answered with an error; the text is what it said."""

    def __init__(self, status: int, message: str, *, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        """Seconds after which it wants to be asked again; 0 where it did not say."""


class UnreachableError(Exception):
    """There is no connection, or it broke."""


class SilentError(UnreachableError):
    """The connection seems to stand, and nothing came in time."""


class Api(Protocol):
    """Requests to one API server."""

    def get(
        self, path: str, params: Mapping[str, str], *, silence: float
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The chunks of an answer; RefusedError or UnreachableError, also amid the chunks."""

    async def renew(self) -> None:
        """Read the credentials again, as the API server refuses them; SourceError where bad."""
