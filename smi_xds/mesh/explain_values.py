"""What is asked of `mesh.explain`, and what it answers: frozen values that become JSON as they are.

Every field of an answer is always there, so that scripts need no defaults; an empty text or list
says that there is nothing to tell.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from smi_xds.values import ServiceAccountRef, ServiceRef, SpiffeId

Source: TypeAlias = ServiceAccountRef | SpiffeId | None
"""A service account, any other identity, or None: a caller outside the mesh, without identity."""


class Kind(StrEnum):
    """What is sent. `auto` is what the port speaks."""

    AUTO = "auto"
    HTTP = "http"
    TCP = "tcp"
    UDP = "udp"


class Verdict(StrEnum):
    """`partly`: some of the traffic is allowed, some is not. `nowhere`: nothing could answer."""

    ALLOWED = "allowed"
    DENIED = "denied"
    PARTLY = "partly"
    NOWHERE = "nowhere"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """May `source` call this port of `service`, like that?

    `path` is the target as the application writes it, with its query. Of several headers with one
    name the values are joined by commas, as Envoy does. Without a `host` header it is
    `NAME.NAMESPACE`, with the port where that is not 80.
    """

    source: Source
    service: ServiceRef
    port: int
    kind: Kind = Kind.AUTO
    method: str = "GET"
    path: str = "/"
    headers: tuple[tuple[str, str], ...] = ()
    pod: str = ""
    """One pod of a headless service, called by its own name or address."""
    address: str = ""
    """Where it calls from, for IdentityBindings by labels; empty: from wherever the source is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The request as it was judged.

    `routed_path` is what the caller's sidecar makes of the path, `judged_path` what the
    destination's does, both without the query. `redirect` is where a 307 sends the client first,
    empty where it is passed on as it is.
    """

    method: str
    path: str
    routed_path: str
    judged_path: str
    redirect: str
    host: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The TrafficSplit that decides, `NAMESPACE/NAME`, and the match by which it got the request.

    All empty where the root service itself is called.
    """

    name: str = ""
    group: str = ""
    match: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PassedSplit:
    """A TrafficSplit of the same root that does not decide, and why."""

    name: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """One TrafficTarget that allows it: `NAMESPACE/NAME`, the rule (`KIND NAME`) and its match.

    `rule` is the HTTPRouteGroup where there is one, else the route of the port; `match` is empty
    for the latter. `port_rule` is the route that lists the port, empty where none restricts it.
    """

    target: str
    rule: str
    match: str = ""
    port_rule: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """A TrafficTarget that does not allow it, with everything that is missing.

    Where an HTTPRouteGroup fails, `rule` and `match` name the match that came nearest.
    """

    target: str
    reasons: tuple[str, ...]
    rule: str = ""
    match: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Workloads that are judged alike, on their own (target) port.

    `identity` is empty outside the mesh, where nobody judges. With `access: shadow` everything is
    let in, and `shadow` says what strict access would have said. `ready` counts endpoints, `share`
    is what gets there now, in percent of everything.
    """

    identity: str
    port: int
    protocol: str
    access: str
    mtls: str
    workloads: tuple[str, ...]
    ready: int
    share: float
    verdict: Verdict
    why: str
    shadow: str = ""
    allowed_by: tuple[Admission, ...] = ()
    nearest: tuple[Miss, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """One backend, and its share of the traffic in percent.

    The verdict is that of its ready endpoints, of all where none is ready.
    """

    service: str
    weight: int
    share: float
    verdict: Verdict
    destinations: tuple[Destination, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The answer. `source` is an identity, empty outside the mesh."""

    verdict: Verdict
    why: str
    source: str
    service: str
    port: int
    protocol: str
    request: Request | None = None
    split: Split = field(default_factory=Split)
    branches: tuple[Branch, ...] = ()
    passed_splits: tuple[PassedSplit, ...] = ()
    notes: tuple[str, ...] = ()
