"""What is counted of the streams: declared here, moved by `status` and `server`."""

from dataclasses import dataclass, field
from typing import Final

from smi_xds.metrics import Counter, Histogram, Metric
from smi_xds.values import TypeUrl
from smi_xds.xds.resources import TYPES

GRPC_LIMIT: Final = 4 << 20
"""What gRPC's own clients take at most unless they are told to take more (E8)."""

# The weight of a split takes 1 kB, what a sidecar gets first some 100 kB; E8 is a bound of its own.
_BYTES: Final = (
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262144.0,
    1048576.0,
    float(GRPC_LIMIT),
    16777216.0,
)

_WORDS: Final = {type_: str(type_).rpartition(".")[2] for type_ in TYPES}


def type_label(type_: TypeUrl) -> str:
    """The last word of a type that we know; clients may ask for any, which must not add up."""
    return _WORDS.get(type_, "other")


@dataclass(frozen=True, slots=True, eq=False)
class Meters:
    """All that is counted of one server's streams."""

    pushes: Counter = field(
        default_factory=lambda: Counter("smi_xds_pushes", "Responses sent to proxies.", "type")
    )
    acks: Counter = field(
        default_factory=lambda: Counter("smi_xds_acks", "Responses that proxies accepted.", "type")
    )
    nacks: Counter = field(
        default_factory=lambda: Counter("smi_xds_nacks", "Responses that proxies refused.", "type")
    )
    stale: Counter = field(
        default_factory=lambda: Counter(
            "smi_xds_stale_nonces", "Requests that answered an older response.", "type"
        )
    )
    rejected: Counter = field(
        default_factory=lambda: Counter(
            "smi_xds_rejected_streams", "Streams that were refused or broken off.", "code"
        )
    )
    unproven: Counter = field(
        default_factory=lambda: Counter(
            "smi_xds_refused_callers",
            "Callers that did not prove to be who they said, or did no longer.",
            "reason",
        )
    )
    handshakes: Counter = field(
        default_factory=lambda: Counter(
            "smi_xds_tls_handshakes", "TLS connections that clients began.", "port"
        )
    )
    unread: Counter = field(
        default_factory=lambda: Counter(
            "smi_xds_unread_streams", "Streams ended while their client did not read a response."
        )
    )
    oversized: Counter = field(
        default_factory=lambda: Counter(
            "smi_xds_oversized_responses",
            "Responses over 4 MiB, which gRPC's own clients refuse unless told otherwise.",
            "type",
        )
    )
    config_bytes: Histogram = field(
        default_factory=lambda: Histogram(
            "smi_xds_config_bytes", "Size of the responses sent to proxies.", _BYTES, "type"
        )
    )
    convergence: Histogram = field(
        default_factory=lambda: Histogram(
            "smi_xds_convergence_seconds",
            "From a change of the objects until the last proxy that it concerns has answered.",
        )
    )
    queue: Histogram = field(
        default_factory=lambda: Histogram(
            "smi_xds_push_queue_seconds",
            "From the moment there is something to tell a proxy until it is written.",
        )
    )
    send: Histogram = field(
        default_factory=lambda: Histogram(
            "smi_xds_push_send_seconds", "How long a response waited for its connection."
        )
    )

    def all(self) -> tuple[Metric, ...]:
        """Each of them."""
        return (
            self.convergence,
            self.queue,
            self.send,
            self.pushes,
            self.acks,
            self.nacks,
            self.stale,
            self.rejected,
            self.unproven,
            self.handshakes,
            self.unread,
            self.oversized,
            self.config_bytes,
        )
