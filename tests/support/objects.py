"""Objects for tests, written in few words, and their grouped picture."""

from collections.abc import Iterable, Mapping
from decimal import Decimal

from smi_xds.objects.derive import derive_slices
from smi_xds.objects.kube import (
    ContainerPort,
    EndpointSlice,
    Namespace,
    Pod,
    Service,
    ServiceAccount,
    ServicePort,
    Transport,
)
from smi_xds.objects.parse import MeshObject
from smi_xds.objects.smi import (
    Backend,
    HTTPMatch,
    HTTPRouteGroup,
    Rule,
    SplitMatch,
    Subject,
    TCPRoute,
    TrafficSplit,
    TrafficTarget,
    UDPRoute,
)
from smi_xds.objects.store import Origin, Replaced, Store
from smi_xds.objects.views import Objects
from smi_xds.values import ServiceAccountRef, SpiffeId

NS = "shop"


def mk_account(name: str, *, namespace: str = NS) -> ServiceAccount:
    """An account that nobody has to run as."""
    return ServiceAccount(namespace=namespace, name=name)


def mk_namespace(name: str = NS, **ours: str) -> Namespace:
    """A Namespace with annotations of ours: `access="permissive"`."""
    return Namespace(name=name, annotations=_annotations(ours))


def mk_pod(
    name: str,
    ip: str = "10.0.0.1",
    *,
    account: str | None = None,
    namespace: str = NS,
    app: str | None = None,
    ports: Mapping[str, int] | None = None,
    ready: bool = True,
    terminating: bool = False,
    done: bool = False,
    **ours: str,
) -> Pod:
    """A Pod with a bound sidecar that runs as the account of its own name.

    `ours` are annotations (`access="permissive"`); `sidecar=""` makes it one outside the mesh.
    """
    ours = {"sidecar": "bound"} | ours
    return Pod(
        namespace=namespace,
        name=name,
        service_account=account or name,
        ips=tuple(ip.split()),
        labels=frozenset({("app", app or name)}),
        annotations=_annotations({key: value for key, value in ours.items() if value}),
        ports=tuple(ContainerPort(port=port, name=key) for key, port in (ports or {}).items()),
        ready=ready,
        terminating=terminating,
        done=done,
    )


def _annotations(ours: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((f"smi-xds.io/{k.replace('_', '-')}", v) for k, v in ours.items()))


def mk_port(
    port: int,
    name: str | None = None,
    *,
    target: int | str | None = None,
    app_protocol: str = "",
    transport: Transport = Transport.TCP,
) -> ServicePort:
    """A port of a Service; its target port is its own number, its name says no protocol."""
    return ServicePort(
        port=port,
        name=f"p{port}" if name is None else name,
        target_port=target or port,
        app_protocol=app_protocol,
        transport=transport,
    )


def mk_service(
    name: str, *ports: ServicePort, namespace: str = NS, app: str | None = None
) -> Service:
    """A Service that selects the pods labelled `app: NAME`; with one HTTP port 80 by default."""
    return Service(
        namespace=namespace,
        name=name,
        selector=frozenset({("app", app or name)}),
        ports=ports or (mk_port(80),),
    )


def mk_target(
    name: str,
    sources: Iterable[str | Subject],
    destination: str | Subject | None,
    *rules: Rule,
    namespace: str = NS,
    port: int | None = None,
) -> TrafficTarget:
    """A TrafficTarget; sources and destination are accounts, `NAME` or `NAMESPACE/NAME`."""
    return TrafficTarget(
        namespace=namespace,
        name=name,
        destination=None if destination is None else subject(destination),
        destination_port=port,
        sources=tuple(subject(source) for source in sources),
        rules=rules,
    )


def subject(account: str | Subject) -> Subject:
    """A ServiceAccount, `NAME` or `NAMESPACE/NAME`."""
    if isinstance(account, Subject):
        return account
    namespace, _, name = account.rpartition("/")
    return Subject(kind="ServiceAccount", name=name, namespace=namespace or None)


def http(name: str, *matches: str) -> Rule:
    """A rule that refers to an HTTPRouteGroup."""
    return Rule(kind="HTTPRouteGroup", name=name, matches=matches or None)


def tcp(name: str) -> Rule:
    """A rule that refers to a TCPRoute."""
    return Rule(kind="TCPRoute", name=name)


def udp(name: str) -> Rule:
    """A rule that refers to a UDPRoute."""
    return Rule(kind="UDPRoute", name=name)


def mk_http_routes(name: str, *matches: HTTPMatch, namespace: str = NS) -> HTTPRouteGroup:
    """An HTTPRouteGroup."""
    return HTTPRouteGroup(namespace=namespace, name=name, matches=matches)


def mk_match(
    name: str,
    path: str | None = None,
    methods: tuple[str, ...] | None = None,
    **headers: str,
) -> HTTPMatch:
    """A match; the headers' names have hyphens for underscores."""
    pairs = tuple((key.replace("_", "-"), value) for key, value in headers.items())
    return HTTPMatch(name=name, path_regex=path, methods=methods, headers=pairs or None)


def mk_tcp_route(name: str, *ports: int, namespace: str = NS) -> TCPRoute:
    """A TCPRoute; without ports it means all."""
    return TCPRoute(namespace=namespace, name=name, ports=ports or None)


def mk_udp_route(name: str, *ports: int, namespace: str = NS) -> UDPRoute:
    """A UDPRoute; without ports it means all."""
    return UDPRoute(namespace=namespace, name=name, ports=ports or None)


def mk_split(
    name: str,
    root: str,
    backends: Mapping[str, Decimal | int | str | None],
    *,
    matches: tuple[str | SplitMatch, ...] | None = None,
    namespace: str = NS,
    created: str = "",
) -> TrafficSplit:
    """A TrafficSplit; its matches name HTTPRouteGroups."""
    return TrafficSplit(
        namespace=namespace,
        name=name,
        service=root,
        created=created,
        backends=tuple(
            Backend(service=service, weight=None if weight is None else Decimal(weight))
            for service, weight in backends.items()
        ),
        matches=None
        if matches is None
        else tuple(
            m if isinstance(m, SplitMatch) else SplitMatch(kind="HTTPRouteGroup", name=m)
            for m in matches
        ),
    )


def with_slices(objects: Iterable[MeshObject]) -> tuple[MeshObject, ...]:
    """The objects, with EndpointSlices for those services that have none among them."""
    objects = tuple(objects)
    given = {it.owner for it in objects if isinstance(it, EndpointSlice)}
    services = [it for it in objects if isinstance(it, Service) and it.service not in given]
    return (*objects, *derive_slices(services, [it for it in objects if isinstance(it, Pod)]))


def picture(*objects: MeshObject) -> Objects:
    """The grouped picture of some objects, with EndpointSlices derived."""
    store = Store(["test"])
    store.apply(Origin("test"), Replaced(with_slices(objects)))
    return store.objects()


def spiffe(account: str, namespace: str = NS) -> SpiffeId:
    """The identity of an account in the mesh of the tests."""
    return SpiffeId.of("cluster.local", ServiceAccountRef(namespace, account))
