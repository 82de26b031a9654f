"""What is counted of reviews: how they ended, what they were about, how long they took."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from smi_xds.metrics import Counter, Histogram
from smi_xds.objects.versions import SMI_KINDS

OTHER: Final = "other"


def kind_label(kind: str) -> str:
    """A kind that has reviews; whoever reaches the port may send any, which must not add up."""
    return kind if kind in SMI_KINDS else OTHER


@dataclass(frozen=True, slots=True, eq=False)
class ReviewMeter:
    """That of one form. Moved in the event loop, though reviews are answered in threads."""

    verdicts: Counter
    objects: Counter
    seconds: Histogram

    def count(self, verdict: str, kinds: Mapping[str, int], seconds: float) -> None:
        """One review has been answered; it was about so many objects of each kind."""
        self.verdicts.add(verdict)
        for kind, number in kinds.items():
            self.objects.add(kind_label(kind), number)
        self.seconds.observe(seconds)

    def all(self) -> tuple[Counter | Histogram, ...]:
        """Each of its metrics."""
        return (self.verdicts, self.objects, self.seconds)


def _conversion() -> ReviewMeter:
    return ReviewMeter(
        Counter(
            "smi_xds_conversion_reviews",
            "Reviews of API servers that want objects in another version.",
            "verdict",
        ),
        Counter("smi_xds_conversion_objects", "Objects in these reviews.", "kind"),
        Histogram("smi_xds_conversion_seconds", "From such a review to its answer."),
    )


def _validation() -> ReviewMeter:
    return ReviewMeter(
        Counter(
            "smi_xds_validation_reviews",
            "Reviews of API servers that ask whether a change is allowed.",
            "verdict",
        ),
        Counter("smi_xds_validation_objects", "Objects in these reviews.", "kind"),
        Histogram("smi_xds_validation_seconds", "From such a review to its answer."),
    )


@dataclass(frozen=True, slots=True, eq=False)
class ReviewMeters:
    """Those of both forms."""

    conversion: ReviewMeter = field(default_factory=_conversion)
    validation: ReviewMeter = field(default_factory=_validation)

    def all(self) -> tuple[Counter | Histogram, ...]:
        """Each of their metrics."""
        return (*self.conversion.all(), *self.validation.all())
