import datetime
import operator
import struct
import subprocess
import sys
from collections.abc import Callable
from random import Random

import pytest
from envoy_data_plane.envoy.config.accesslog.v3 import AccessLog
from envoy_data_plane.envoy.config.bootstrap.v3 import Bootstrap
from envoy_data_plane.envoy.config.cluster.v3 import (
    Cluster,
    ClusterDiscoveryType,
    ClusterTransportSocketMatch,
)
from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    ConfigSource,
    GrpcService,
    HealthStatus,
    Http2ProtocolOptions,
    Metadata,
    SocketAddress,
    TransportSocket,
    TypedExtensionConfig,
)
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    Endpoint,
    LbEndpoint,
    LocalityLbEndpoints,
)
from envoy_data_plane.envoy.config.listener.v3 import (
    Filter,
    FilterChain,
    FilterChainMatch,
    Listener,
    ListenerFilter,
    UdpListenerConfig,
)
from envoy_data_plane.envoy.config.rbac.v3 import Permission, Policy, Principal
from envoy_data_plane.envoy.config.rbac.v3 import Rbac as RbacRules
from envoy_data_plane.envoy.config.route.v3 import (
    HeaderMatcher,
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
    WeightedCluster,
)
from envoy_data_plane.envoy.extensions.access_loggers.file.v3 import FileAccessLog
from envoy_data_plane.envoy.extensions.access_loggers.stream.v3 import StdoutAccessLog
from envoy_data_plane.envoy.extensions.filters.http.credential_injector.v3 import CredentialInjector
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import Rbac as HttpRbac
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import RbacPerRoute
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.http.upstream_codec.v3 import UpstreamCodec
from envoy_data_plane.envoy.extensions.filters.listener.original_dst.v3 import OriginalDst
from envoy_data_plane.envoy.extensions.filters.listener.tls_inspector.v3 import TlsInspector
from envoy_data_plane.envoy.extensions.filters.network.direct_response.v3 import (
    Config as DirectResponse,
)
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
)
from envoy_data_plane.envoy.extensions.filters.network.rbac.v3 import Rbac as NetworkRbac
from envoy_data_plane.envoy.extensions.filters.network.tcp_proxy.v3 import TcpProxy
from envoy_data_plane.envoy.extensions.filters.udp.udp_proxy.session.http_capsule.v3 import (
    FilterConfig as HttpCapsule,
)
from envoy_data_plane.envoy.extensions.filters.udp.udp_proxy.v3 import UdpProxyConfig
from envoy_data_plane.envoy.extensions.http.injected_credentials.generic.v3 import Generic
from envoy_data_plane.envoy.extensions.transport_sockets.raw_buffer.v3 import RawBuffer
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    DownstreamTlsContext,
    Secret,
    TlsCertificate,
    UpstreamTlsContext,
)
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import HttpProtocolOptions
from envoy_data_plane.envoy.type.matcher.v3 import PathMatcher, RegexMatcher, StringMatcher
from envoy_data_plane.google.protobuf import Any, DoubleValue, Int32Value, Struct
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smi_xds.xds.encode import (
    encode,
    fragment,
    length_delimited,
    pack,
    splice,
    type_url,
)
from smi_xds.xds.fields import Message, fields_of, graph_of
from tests.support.messages import (
    all_classes,
    differences,
    full_name,
    independent_class,
    random_message,
    random_value,
)

# Random messages set deprecated fields too, which betterproto2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

USED: tuple[type[Message], ...] = (
    AccessLog,
    Address,
    Bootstrap,
    Cluster,
    ClusterLoadAssignment,
    ClusterTransportSocketMatch,
    ConfigSource,
    CredentialInjector,
    DirectResponse,
    DownstreamTlsContext,
    Endpoint,
    FileAccessLog,
    Filter,
    FilterChain,
    FilterChainMatch,
    Generic,
    GrpcService,
    HeaderMatcher,
    Http2ProtocolOptions,
    HttpCapsule,
    HttpConnectionManager,
    HttpProtocolOptions,
    HttpRbac,
    LbEndpoint,
    Listener,
    ListenerFilter,
    LocalityLbEndpoints,
    Metadata,
    NetworkRbac,
    OriginalDst,
    PathMatcher,
    Permission,
    Policy,
    Principal,
    RawBuffer,
    RbacPerRoute,
    RbacRules,
    RegexMatcher,
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    Router,
    Secret,
    StdoutAccessLog,
    StringMatcher,
    Struct,
    TcpProxy,
    TlsInspector,
    TransportSocket,
    TypedExtensionConfig,
    UdpListenerConfig,
    UdpProxyConfig,
    UpstreamCodec,
    UpstreamTlsContext,
    VirtualHost,
    WeightedCluster,
)


def mk_endpoint(last_octet: int) -> LbEndpoint:
    address = SocketAddress(address=f"10.0.0.{last_octet}", port_value=8080)
    return LbEndpoint(
        endpoint=Endpoint(address=Address(socket_address=address)),
        health_status=HealthStatus.HEALTHY,
        load_balancing_weight=1,
    )


@pytest.mark.parametrize("cls", USED, ids=full_name)
@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(random=st.randoms(use_true_random=False))
def test_messages_in_use_have_the_bytes_of_betterproto2(cls: type[Message], random: Random) -> None:
    """Every message class that we emit is encoded as `bytes(message)` does."""
    message = random_message(random, cls)

    assert encode(message) == bytes(message)


@pytest.mark.parametrize("cls", USED, ids=full_name)
@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(random=st.randoms(use_true_random=False))
def test_messages_in_use_mean_the_same_to_another_decoder(
    cls: type[Message], random: Random
) -> None:
    """What protoc's own classes read from our bytes is what was written."""
    other = independent_class(full_name(cls))
    message = random_message(random, cls)

    assert other is not None
    assert differences(message, other.FromString(encode(message))) == []


def test_any_other_message_has_the_bytes_of_betterproto2() -> None:
    """A wide random sample of all classes is encoded as `bytes(message)` does, and read alike."""
    random = Random(20260101)
    compared = 0
    for cls in random.sample(all_classes(), 300):
        other = None if _is_read_otherwise(cls) else independent_class(full_name(cls))
        for _ in range(3):
            message = random_message(random, cls)
            encoded = encode(message)

            assert encoded == bytes(message), message
            if other is not None:
                assert differences(message, other.FromString(encoded)) == [], message
                compared += 1
    assert compared > 600


def _is_read_otherwise(cls: type[Message]) -> bool:
    """Whether xds-protos, which is older, gives one of the field numbers another type."""
    rewritten = {
        "envoy.config.endpoint.v3.LbEndpointCollection",
        "envoy.extensions.filters.http.mcp.v3.ParserConfig.MethodConfig",
        "envoy.service.ext_proc.v3.ProcessingResponse",
    }
    # descriptor.proto is proto2, whose decoders drop unknown values of enums.
    held = [full_name(held) for held in graph_of([cls])]
    return any(name in rewritten or name.startswith("google.protobuf.F") for name in held)


def test_every_field_of_every_class_is_written() -> None:
    """Each field of each class in use, set alone, is encoded as `bytes(message)` does."""
    random = Random(7)
    checked = 0
    for cls in graph_of(USED):
        for field in fields_of(cls):
            message = cls()
            while not encode(message):
                message = cls(**{field.name: random_value(random, field, depth=1)})

            assert encode(message) == bytes(message), message
            checked += 1
    assert checked > 1500


def test_unknown_fields_are_kept() -> None:
    """What a message was parsed with and did not know is written again."""
    message = Address.parse(bytes(Address()) + b"\xf8\x07\x01")

    assert encode(message) == b"\xf8\x07\x01"


def test_maps_keep_their_order() -> None:
    """Map entries stand in the order of their insertion: sorting is the writer's business."""
    first = Metadata(filter_metadata={"b": Struct(), "a": Struct()})
    second = Metadata(filter_metadata={"a": Struct(), "b": Struct()})

    assert encode(first) == bytes(first)
    assert encode(first) != encode(second)


@pytest.mark.parametrize(
    "delta, seconds, nanos",
    [
        (datetime.timedelta(seconds=-1), -1, 0),
        (datetime.timedelta(milliseconds=-250), 0, -250_000_000),
        (datetime.timedelta(seconds=-1, milliseconds=-500), -1, -500_000_000),
        (datetime.timedelta(days=3650 * 27, microseconds=999_999), 8_514_720_000, 999_999_000),
    ],
)
def test_durations_that_betterproto2_gets_wrong(
    delta: datetime.timedelta, seconds: int, nanos: int
) -> None:
    """Negative durations carry the sign on both parts; long ones keep their microseconds."""
    other = independent_class("envoy.config.cluster.v3.Cluster")
    assert other is not None
    decoded = other.FromString(encode(Cluster(connect_timeout=delta)))

    timeout = operator.attrgetter("connect_timeout")(decoded)
    assert (timeout.seconds, timeout.nanos) == (seconds, nanos)


def test_type_urls_name_nested_messages_in_full() -> None:
    """Type URLs are the proto names, not the flattened names of Python classes."""
    assert type_url(Cluster) == "type.googleapis.com/envoy.config.cluster.v3.Cluster"
    assert type_url(ClusterTransportSocketMatch).endswith("v3.Cluster.TransportSocketMatch")


def test_type_url_refuses_foreign_classes() -> None:
    """A class that envoy-data-plane does not know has no type URL."""
    with pytest.raises(ValueError, match="Message is no message of envoy-data-plane"):
        type_url(Message)


def test_pack_gives_what_any_pack_gives() -> None:
    """An `Any` of ours equals betterproto2's own."""
    assert pack(mk_endpoint(1)) == Any.pack(mk_endpoint(1))


def test_warm_leaves_only_encoders_to_the_first_use() -> None:
    """After warming, nothing is left to build: no validators, nor what constructors look up."""
    code = """
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment
from smi_xds.xds.encode import warm
from smi_xds.xds.fields import fields_of, graph_of
warm(ClusterLoadAssignment)
held = graph_of([ClusterLoadAssignment])
assert all(vars(cls)["__pydantic_complete__"] for cls in held)
with_oneofs = [cls for cls in held if any(field.oneof for field in fields_of(cls))]
assert with_oneofs
for cls in with_oneofs:
    described = vars(cls)["_betterproto_meta"]
    assert "_type_hints" not in vars(cls)
    kept = described.cls_by_field
    del cls._betterproto_meta
    assert cls._betterproto.cls_by_field == kept, cls
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_warm_is_not_fooled_by_names_of_its_caller() -> None:
    """Pydantic resolves annotations in the caller's namespace first; `warm` keeps it out."""
    code = """
from envoy_data_plane.envoy.config.cluster import v3
from envoy_data_plane.envoy.config.listener.v3 import Filter
from smi_xds.xds.encode import warm
warm(v3.Cluster)
v3.Cluster(filters=[v3.Filter()])
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# ------------------------------------------------------------------ joining cached bytes


def test_fragments_join_to_the_whole_message() -> None:
    """Cached endpoints, joined, give the bytes of the whole load assignment."""
    endpoints = [mk_endpoint(octet) for octet in range(3)]
    cached = [fragment(LocalityLbEndpoints, "lb_endpoints", encode(e)) for e in endpoints]
    locality = splice(LocalityLbEndpoints(priority=2), "lb_endpoints", cached)
    tagged = [fragment(ClusterLoadAssignment, "endpoints", locality)]

    joined = splice(ClusterLoadAssignment(cluster_name="books"), "endpoints", tagged)

    whole = ClusterLoadAssignment(
        cluster_name="books",
        endpoints=[LocalityLbEndpoints(lb_endpoints=endpoints, priority=2)],
    )
    assert joined == encode(whole) == bytes(whole)


def test_virtual_hosts_join_to_the_whole_route_configuration() -> None:
    """Fragments stand where their field stands, between the others."""
    hosts = [VirtualHost(name=name, domains=[name]) for name in ("a", "b")]
    around = RouteConfiguration(name="routes", response_headers_to_remove=["x"])
    whole = RouteConfiguration(name="routes", virtual_hosts=hosts, response_headers_to_remove=["x"])

    tagged = [fragment(RouteConfiguration, "virtual_hosts", encode(host)) for host in hosts]

    assert splice(around, "virtual_hosts", tagged) == bytes(whole)


def test_length_delimited_is_a_tagged_field() -> None:
    """A payload gets its field's tag and its length, both as varints."""
    assert length_delimited(2, b"abc") == b"\x12\x03abc"
    assert length_delimited(200, b"x" * 300)[:4] == b"\xc2\x0c\xac\x02"


@pytest.mark.parametrize(
    "use, message",
    [
        (lambda: fragment(Cluster, "nope", b""), "Cluster has no field 'nope'"),
        (lambda: fragment(Cluster, "name", b""), "Cluster.name holds no messages"),
        (lambda: splice(Cluster(), "name", []), "Cluster.name is no list of messages"),
        (lambda: splice(Cluster(), "load_assignment", []), "is no list of messages"),
        (
            lambda: splice(RouteConfiguration(virtual_hosts=[VirtualHost()]), "virtual_hosts", []),
            "the field that fragments are given for is not empty",
        ),
    ],
)
def test_misuse_of_fragments_is_refused(use: Callable[[], bytes], message: str) -> None:
    """Fragments only stand for empty repeated message fields."""
    with pytest.raises(ValueError, match=message):
        use()


# ------------------------------------------------------------------ refusing


def changed(message: Message, **fields: object) -> Message:
    """The message after assignments, which betterproto2 does not validate."""
    for name, value in fields.items():
        setattr(message, name, value)
    return message


@pytest.mark.parametrize(
    "mk_message, reason",
    [
        (
            lambda: changed(SocketAddress(), port_value=2**32),
            "SocketAddress.port_value: 4294967296 is out of range for uint32",
        ),
        (lambda: changed(SocketAddress(), port_value=-1), "-1 is out of range for uint32"),
        (
            lambda: changed(Struct(), fields={"a": "b"}),
            "Struct.fields: str stands where Value is expected",
        ),
        (
            lambda: changed(LbEndpoint(), endpoint=Endpoint(), endpoint_name="a"),
            "LbEndpoint: more than one member of the oneof 'host_identifier' is set",
        ),
        (
            lambda: changed(Filter(), typed_config=Router()),
            r"Filter.typed_config: Router stands where Any is expected: use pack\(\)",
        ),
        (
            lambda: changed(Cluster(), connect_timeout=datetime.timedelta(days=10**8 * 5)),
            "Cluster.connect_timeout: .* is out of range for google.protobuf.Duration",
        ),
        (lambda: changed(Cluster(), name=5), "Cluster.name: its value does not fit"),
        (lambda: changed(Cluster(), name="\ud800"), "Cluster.name: its value does not fit"),
        (
            lambda: changed(SocketAddress(), ipv4_compat="yes"),
            "SocketAddress.ipv4_compat: str is no bool",
        ),
        (
            lambda: changed(VirtualHost(), domains="a.b"),
            "VirtualHost.domains: str stands where a list",
        ),
        (lambda: changed(Any(), value="text"), "Any.value: str is not bytes"),
        (lambda: changed(Cluster(), type=ClusterDiscoveryType(2**31)), "out of range for int32"),
        (
            lambda: changed(RouteConfiguration(), virtual_hosts=[VirtualHost(), None]),
            r"virtual_hosts",
        ),
    ],
)
def test_what_does_not_fit_is_refused_and_named(
    mk_message: Callable[[], Message], reason: str
) -> None:
    """A value that its field cannot hold is a ValueError that names the field."""
    message = mk_message()

    with pytest.raises(ValueError, match=reason):
        encode(message)


def test_a_refusal_names_the_way_to_the_field() -> None:
    """In nested messages the whole path is named, through lists and maps."""
    endpoint = mk_endpoint(1)
    locality = LocalityLbEndpoints(lb_endpoints=[mk_endpoint(0), endpoint])
    endpoint.load_balancing_weight = -3
    cluster = Cluster(typed_extension_protocol_options={"a": Any(), "b": (bad := Any())})
    bad.type_url = 3  # type: ignore[assignment] # the point of the test

    with pytest.raises(
        ValueError, match=r"LocalityLbEndpoints\.lb_endpoints\[1\]\.load_balancing_weight: -3 is"
    ):
        encode(locality)
    with pytest.raises(
        ValueError, match=r"Cluster\.typed_extension_protocol_options\['b'\]\.type_url: "
    ):
        encode(cluster)


def test_a_refusal_does_not_show_the_value() -> None:
    """Private keys are values of fields, so a message never repeats one."""
    certificate = changed(TlsCertificate(), certificate_chain="-----BEGIN")

    with pytest.raises(ValueError, match="certificate_chain: str stands where") as caught:
        encode(certificate)

    assert "BEGIN" not in str(caught.value)


def test_a_time_without_zone_is_refused() -> None:
    """A naive datetime could be any time."""
    cls = next(c for c in all_classes() if full_name(c).endswith("UpdateFailureState"))
    message = changed(cls(), last_update_attempt=datetime.datetime(2026, 1, 1))  # noqa: DTZ001 - the point

    with pytest.raises(ValueError, match="last_update_attempt: a time without a time zone"):
        encode(message)


@pytest.mark.parametrize(
    "mk_message, payload",
    [
        (lambda: Int32Value(value=-1), b"\x08" + b"\xff" * 9 + b"\x01"),
        (lambda: DoubleValue(value=1.0), b"\x09" + struct.pack("<d", 1.0)),
        (lambda: DoubleValue(value=-0.0), b""),
    ],
)
def test_wire_format(mk_message: Callable[[], Message], payload: bytes) -> None:
    """Known bytes, written by hand from the specification."""
    assert encode(mk_message()) == payload
