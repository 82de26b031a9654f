"""How long faults last and how many things change: short in CI, as long as asked for otherwise."""

import os
from dataclasses import dataclass, fields
from typing import Self

PREFIX = "SMI_XDS_FAULT_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """The measure of each fault."""

    outage: float = 11.0
    """Seconds without an API server: longer than that after which all is listed again."""
    cuts: float = 6.0
    """Seconds in each of which all watches are cut."""
    replicas: float = 5.0
    """Seconds in which splits move while a replica dies."""
    objects: int = 1000
    """Objects that change at once."""

    @classmethod
    def chosen(cls) -> Self:
        """As the environment says, which the tests' subprocesses inherit."""
        given = {
            field.name: os.environ[PREFIX + field.name.upper()]
            for field in fields(cls)
            if PREFIX + field.name.upper() in os.environ
        }
        objects = int(given.pop("objects", cls().objects))
        return cls(objects=objects, **{name: float(text) for name, text in given.items()})
