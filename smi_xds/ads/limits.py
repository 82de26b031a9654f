"""What a server allows its clients; each default with its reason, tests set others."""

from dataclasses import dataclass

from smi_xds.ads import admission

# More than there can be connections; who waits too long is refused by our own admission.
_PENDING = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """All times are in seconds."""

    rate: float = admission.RATE
    burst: int = admission.BURST
    longest_wait: float = admission.LONGEST

    receive_bytes: int = 16 << 20
    """The first request after a reconnection lists every resource the client has (D7): the most
    that a stream may have, in names of 150 characters."""

    streams_per_connection: int = 100
    """The least that HTTP/2 recommends to allow (RFC 9113, 6.5.2). An Envoy opens one, or one a
    type; what is more waits in the client until others end."""

    max_age: float = 1800.0
    """Of a connection, ±10 % by gRPC itself. A replica that is new gets its share of the proxies
    within this time; of 2,000, one reconnects every second, and brings what it has (D7)."""

    age_grace: float = 10.0
    """From GOAWAY to the end of an aged connection: the time for answers that are on their way.
    Clients do not move a stream that lives, so a longer one would be of no use."""

    write_timeout: float = 30.0
    """How long a response may wait for a client that does not read, before its state is freed.
    gRPC's keepalive finds machines that are gone; this finds programs that hang."""

    keepalive: float = 30.0
    """Silence after which a client is asked by a ping whether it is there (T2)."""

    keepalive_timeout: float = 10.0
    """How long it may take to answer: then its machine, or the way to it, is gone."""

    drain_rate: float = 600.0
    """Streams ended a second when we stop: no more than another server lets in (`rate`)."""

    drain_longest: float = 10.0
    """All are ended after this; Kubernetes kills after 30 s."""

    streams_per_caller: int = 20
    """Of one pod, or one client certificate. An Envoy has one, or one a type; while it reconnects
    the old ones may not be over yet."""

    first_request: float = 15.0
    """How long a stream of theirs may be silent before its first request. Clients that have
    nothing to ask for open none."""

    request_rate: float = 200.0
    """Requests a second on all streams of one of them; who asks faster is read later. One costs up
    to half a millisecond: no caller takes more than a tenth of our time."""

    request_burst: int = 5000
    """What may come at once: an Envoy that starts asks for each listener's routes by themselves."""

    def options(self) -> tuple[tuple[str, int], ...]:
        """In gRPC's words."""
        return (
            # A second server on the port would share its connections in silence.
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", self.receive_bytes),
            ("grpc.max_send_message_length", -1),
            # Calls that wait for a turn of our loop: beyond 1,000 gRPC would cancel some by lot.
            ("grpc.server.max_pending_requests", _PENDING),
            ("grpc.server.max_pending_requests_hard_limit", _PENDING),
            ("grpc.max_concurrent_streams", self.streams_per_connection),
            ("grpc.max_connection_age_ms", int(self.max_age * 1000)),
            ("grpc.max_connection_age_grace_ms", int(self.age_grace * 1000)),
            ("grpc.keepalive_time_ms", int(self.keepalive * 1000)),
            ("grpc.keepalive_timeout_ms", int(self.keepalive_timeout * 1000)),
            # It is this one, of 60 s unless set, that ends the connection (gRPC 1.85).
            ("grpc.http2.ping_timeout_ms", int(self.keepalive_timeout * 1000)),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_pings_without_data", 0),
            # A ping for what comes in, to find the best window for bulk: requests are small, and
            # each ping costs as much as the answer it follows (a seventh of a push).
            ("grpc.http2.bdp_probe", 0),
            # Clients may ask as well; more often than this is abuse.
            ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        )


DEFAULTS = Limits()
