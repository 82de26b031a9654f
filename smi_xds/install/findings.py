"""What `smi-xds verify` finds: one thing each, and how to mend it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

INSTALL: Final = "Run `smi-xds install`."
_LONGEST: Final = 400


class State(StrEnum):
    """How it is with one thing."""

    OK = "ok"
    WARNING = "warning"
    """It works, and should be seen to."""
    FAILED = "failed"
    UNKNOWN = "unknown"
    """It could not be looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    what: str
    state: State
    detail: str
    cure: str
    """Empty where all is well."""


Findings: TypeAlias = AsyncIterator[Finding]


def well(what: str, detail: str) -> Finding:
    """As it should be."""
    return Finding(what=what, state=State.OK, detail=detail, cure="")


def warned(what: str, detail: str, *, cure: str) -> Finding:
    """It works, and should be seen to."""
    return Finding(what=what, state=State.WARNING, detail=_one_line(detail), cure=cure)


def failed(what: str, detail: str, *, cure: str) -> Finding:
    """Not as it should be."""
    return Finding(what=what, state=State.FAILED, detail=_one_line(detail), cure=cure)


def unknown(what: str, detail: str, *, cure: str) -> Finding:
    """Nobody knows."""
    return Finding(what=what, state=State.UNKNOWN, detail=_one_line(detail), cure=cure)


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    # The text of an API server may hold a certificate's hundred names.
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"
