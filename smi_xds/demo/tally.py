"""Counts of what was answered: per edge the status codes and a histogram of latencies.

Applications count, the demo adds up; between them a tally travels as JSON.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

RESET = "reset"
"""Stands for a status code where the connection was lost."""

# Buckets of 2 % width: a percentile is off by 1 % at most, and a histogram has some 200 buckets.
_BASE = math.log(1.02)


Row: TypeAlias = tuple[str, str, str, Mapping[str, int], Mapping[str, int]]
"""An edge as it travels: source, service, backend, codes, latencies (JSON makes keys of text)."""


class EdgeKey(NamedTuple):
    """Who asked which service, and who answered: "" where no application did."""

    source: str
    service: str
    backend: str


@dataclass(slots=True)
class Edge:
    """What became of the requests of one edge."""

    codes: Counter[str] = field(default_factory=Counter)
    latencies: Counter[int] = field(default_factory=Counter)

    @property
    def requests(self) -> int:
        """All of them, whatever became of them."""
        return self.codes.total()

    def percentile_ms(self, percent: float) -> float:
        """The latency that `percent` of the requests did not exceed; 0 without any."""
        rank = math.ceil(self.latencies.total() * percent / 100)
        for bucket in sorted(self.latencies):
            rank -= self.latencies[bucket]
            if rank <= 0:
                return math.exp((bucket + 0.5) * _BASE) / 1000
        return 0.0


class Tally:
    """Edges by key; the only mutable thing an application keeps."""

    def __init__(self) -> None:
        self.edges: dict[EdgeKey, Edge] = {}

    def count(self, key: EdgeKey, code: str, seconds: float) -> None:
        """Count one request."""
        edge = self.edges.setdefault(key, Edge())
        edge.codes[code] += 1
        edge.latencies[int(math.log(max(seconds * 1e6, 1)) / _BASE)] += 1

    def add(self, other: "Tally") -> None:
        """Add all of the other one."""
        for key, edge in other.edges.items():
            mine = self.edges.setdefault(key, Edge())
            mine.codes.update(edge.codes)
            mine.latencies.update(edge.latencies)

    def requests(self, source: str) -> int:
        """How many requests that source has made."""
        return sum(edge.requests for key, edge in self.edges.items() if key.source == source)

    def codes(self, source: str) -> Counter[str]:
        """The status codes that source has seen."""
        total: Counter[str] = Counter()
        for key, edge in self.edges.items():
            if key.source == source:
                total.update(edge.codes)
        return total

    def backends(self, source: str) -> Counter[str]:
        """Who answered that source, how often."""
        return Counter(
            {key.backend: edge.requests for key, edge in self.edges.items() if key.source == source}
        )

    def sources(self) -> list[str]:
        """Everyone who asked."""
        return sorted({key.source for key in self.edges})

    def to_json(self) -> list[list[object]]:
        """Rows for another process."""
        return [[*key, edge.codes, edge.latencies] for key, edge in self.edges.items()]

    @classmethod
    def from_json(cls, rows: Iterable[Row]) -> "Tally":
        """Read what `to_json` wrote (JSON has made text of the bucket numbers)."""
        tally = cls()
        for source, service, backend, codes, latencies in rows:
            histogram = Counter({int(bucket): count for bucket, count in latencies.items()})
            tally.edges[EdgeKey(source, service, backend)] = Edge(Counter(codes), histogram)
        return tally
