"""Access logs: one JSON object a line on stdout, for requests and connections alike.

Every line names who called whom, where it went, Envoy's response flags, and the TrafficTarget
that decided (`policy`). In shadow mode `shadow` says what would have been decided, and
`shadow_policy` by which TrafficTarget. Operators: Envoy, "Access logging / Command operators".
"""

from functools import lru_cache

from envoy_data_plane.envoy.config.accesslog.v3 import AccessLog
from envoy_data_plane.envoy.config.core.v3 import SubstitutionFormatString
from envoy_data_plane.envoy.extensions.access_loggers.stream.v3 import StdoutAccessLog
from envoy_data_plane.google.protobuf import Struct, Value

from smi_xds.values import SpiffeId
from smi_xds.xds.encode import pack
from smi_xds.xds.rbac import FILTER, NETWORK_FILTER

_COMMON = {
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "downstream": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "duration_ms": "%DURATION%",
    "flags": "%RESPONSE_FLAGS%",
    "time": "%START_TIME%",
    "upstream": "%UPSTREAM_HOST%",
    "upstream_failure": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    "backend": "%UPSTREAM_CLUSTER%",
}

# Messages are kept for so many identities: building one takes a millisecond.
_IDENTITIES = 4096

_HTTP = {
    "authority": "%REQ(:AUTHORITY)%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "method": "%REQ(:METHOD)%",
    # As it was judged: normalised.
    "path": "%REQ(:PATH)%",
    "protocol": "%PROTOCOL%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "route": "%ROUTE_NAME%",
    "status": "%RESPONSE_CODE%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
}

_TCP = {
    "details": "%CONNECTION_TERMINATION_DETAILS%",
    "protocol": "TCP",
    "tls_failure": "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%",
}


# Envoy, "UDP proxy / Access log": what only these sessions tell.
_SESSION = "udp.proxy.session"
_SESSION_FIELDS = ("datagrams_received", "datagrams_sent")


# Who a sidecar is, as its bootstrap says: for listeners that are the same for all callers.
_OWN_IDENTITY = "%CEL(xds.node.metadata['identity'])%"


@lru_cache(_IDENTITIES)
def inbound_log(identity: SpiffeId | None, *, http: bool) -> AccessLog:
    """Traffic that arrives at `identity` (None: whoever the sidecar says it is).

    The caller is in its certificate.
    """
    judge = FILTER if http else NETWORK_FILTER
    return _log(
        (_HTTP if http else _TCP)
        | {
            "direction": "inbound",
            "source": "%DOWNSTREAM_PEER_URI_SAN%",
            "destination": str(identity or _OWN_IDENTITY),
            "policy": f"%DYNAMIC_METADATA({judge}:enforced_effective_policy_id)%",
            "shadow": f"%DYNAMIC_METADATA({judge}:shadow_engine_result)%",
            "shadow_policy": f"%DYNAMIC_METADATA({judge}:shadow_effective_policy_id)%",
        }
    )


@lru_cache(_IDENTITIES)
def outbound_log(identity: SpiffeId | None, *, http: bool) -> AccessLog:
    """Traffic that `identity` sends: the one called is in the peer's certificate.

    None is whoever the sidecar says it is.
    """
    return _log(
        (_HTTP if http else _TCP)
        | {
            "direction": "outbound",
            "source": str(identity or _OWN_IDENTITY),
            "destination": "%UPSTREAM_PEER_URI_SAN%",
        }
    )


@lru_cache(_IDENTITIES)
def session_log(identity: SpiffeId) -> AccessLog:
    """UDP sessions of `identity`, a line at the end of each."""
    return _log(
        {"direction": "outbound", "source": str(identity), "protocol": "UDP"}
        | {name: f"%DYNAMIC_METADATA({_SESSION}:{name})%" for name in _SESSION_FIELDS}
    )


def _log(fields: dict[str, str]) -> AccessLog:
    text = {name: Value(string_value=value) for name, value in sorted((_COMMON | fields).items())}
    log_format = SubstitutionFormatString(json_format=Struct(fields=text), omit_empty_values=True)
    return AccessLog(
        name="envoy.access_loggers.stdout",
        typed_config=pack(StdoutAccessLog(log_format=log_format)),
    )
