"""What is counted of writing back."""

from dataclasses import dataclass, field

from smi_xds.metrics import Counter


@dataclass(frozen=True, slots=True, eq=False)
class Meters:
    """What the writer and the recorder move."""

    status: Counter = field(
        default_factory=lambda: Counter(
            "smi_xds_status_writes",
            "Writes to the status of objects: written, outdated (changed meanwhile), "
            "gone, forbidden, failed (tried again); unchanged were not needed.",
            "result",
        )
    )
    events: Counter = field(
        default_factory=lambda: Counter(
            "smi_xds_events",
            "Events for problems: posted, known (there already), repeated, lost, "
            "forbidden, failed (tried again).",
            "result",
        )
    )

    def all(self) -> tuple[Counter, ...]:
        """Each of them."""
        return (self.status, self.events)
