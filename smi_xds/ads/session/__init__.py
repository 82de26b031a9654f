"""The xDS protocol without I/O: requests and resource sets in, responses and events out.

Read `stream` first: what a session is; then `delta` and `sotw`: how each dialect speaks; and
`ordering`: what a client must not be told yet. `subscription` is the state per type, `pictures`
and `memo` make thousands of streams in the same state cost little more than one.
"""

from smi_xds.ads.session.delta import DeltaSession
from smi_xds.ads.session.memo import Memo
from smi_xds.ads.session.messages import (
    WILDCARD,
    Acked,
    Close,
    DeltaRequest,
    Event,
    Node,
    Refusal,
    Rejected,
    Request,
    Response,
    SotwRequest,
    Stale,
    identify,
)
from smi_xds.ads.session.ordering import HOLD, PUSH_ORDER
from smi_xds.ads.session.sotw import SotwSession
from smi_xds.ads.session.stream import MAX_TYPES, Session

__all__ = [
    "HOLD",
    "MAX_TYPES",
    "PUSH_ORDER",
    "WILDCARD",
    "Acked",
    "Close",
    "DeltaRequest",
    "DeltaSession",
    "Event",
    "Memo",
    "Node",
    "Refusal",
    "Rejected",
    "Request",
    "Response",
    "Session",
    "SotwRequest",
    "SotwSession",
    "Stale",
    "identify",
]
