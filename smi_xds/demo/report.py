"""What a run of the story showed: a result per step, its verdict, and all of it as JSON."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import sqrt

from smi_xds.demo.fleet import Counted
from smi_xds.demo.story import THIEF, Step
from smi_xds.demo.tally import Tally

# A share may be off by so many standard deviations: by chance once in 1.7 million.
_DEVIATIONS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What one step showed.

    `during` was counted from the change until its last ACK, `measured` from there until the
    next change. `retries` are those of all sidecars from change to change.
    """

    step: Step
    converged_ms: float
    retries: int
    during: Counted
    measured: Counted

    def to_json(self) -> dict[str, object]:
        """The step as it stands in the report."""
        return {
            "name": self.step.name,
            "change": self.step.change,
            "converged_ms": round(self.converged_ms, 1),
            "retries": self.retries,
            "edges": [
                {
                    "source": key.source,
                    "service": key.service,
                    "backend": key.backend or None,
                    "requests": edge.requests,
                    "codes": dict(sorted(edge.codes.items())),
                    "p50_ms": round(edge.percentile_ms(50), 2),
                    "p99_ms": round(edge.percentile_ms(99), 2),
                }
                for key, edge in sorted(self.measured.tally.edges.items())
            ],
        }


def to_json(results: Iterable[StepResult]) -> dict[str, object]:
    """The report of the whole story."""
    return {"steps": [result.to_json() for result in results]}


def failures(result: StepResult) -> list[str]:
    """What did not hold in a step, one sentence each."""
    return [f"{result.step.name}: {failure}" for failure in _failures(result)]


def _failures(result: StepResult) -> Iterator[str]:
    yield from _failed_requests(result)
    yield from _wrong_shares(result.measured.tally, result.step.shares)
    if strange := set(result.measured.tally.codes(THIEF)) - {result.step.thief}:
        yield f"{THIEF} saw {', '.join(sorted(strange))} instead of {result.step.thief}"
    # Otherwise what it saw was not on connections that were open before the change.
    if opened := result.during.opened.get(THIEF, 0) + result.measured.opened.get(THIEF, 0):
        yield f"{THIEF} had to open {opened} new connections"


def _failed_requests(result: StepResult) -> Iterator[str]:
    for when, counted in (("during the change", result.during), ("after it", result.measured)):
        for tally in (counted.tally, counted.strays):
            for source in tally.sources():
                bad = _bad_codes(tally.codes(source), may_be_denied=source == THIEF)
                if bad:
                    counts = ", ".join(f"{code} {times} times" for code, times in bad.items())
                    yield f"{source} saw {counts} {when}"


def _bad_codes(codes: Counter[str], *, may_be_denied: bool) -> Mapping[str, int]:
    good = {"200", "403"} if may_be_denied else {"200"}
    return {code: times for code, times in sorted(codes.items()) if code not in good}


def _wrong_shares(tally: Tally, shares: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    for source, weights in shares.items():
        backends, total = tally.backends(source), tally.requests(source)
        for backend, weight in weights.items():
            share = weight / sum(weights.values())
            expected, allowed = total * share, _DEVIATIONS * sqrt(total * share * (1 - share))
            if abs(backends[backend] - expected) > allowed:
                yield (
                    f"{backend} got {backends[backend]} of {total} requests of {source}, "
                    f"which is not within {_DEVIATIONS} standard deviations of {share:.0%}"
                )
