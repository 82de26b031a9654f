"""Envelopes: what xds-protos writes we read, and what we write it reads."""

from typing import Any

import pytest
from envoy.service.discovery.v3 import discovery_pb2 as pb
from hypothesis import given
from hypothesis import strategies as st

from smi_xds.ads import wire
from smi_xds.ads.session import Node, Response
from smi_xds.ads.session.pictures import Picture
from smi_xds.ads.stream import DELTA, SOTW, Dialect
from smi_xds.values import TypeUrl
from smi_xds.xds.resources import CLUSTER, Resource

NAMES = st.text(min_size=1, max_size=200)
RESOURCES = st.builds(
    lambda name, body: Resource.of(CLUSTER, name, body), NAMES, st.binary(max_size=40_000)
)


def response(*resources: Resource, removed: tuple[str, ...] = (), serial: int = 7) -> Response:
    """A response of clusters."""
    return Response(
        type=CLUSTER,
        serial=serial,
        version="v1",
        resources=resources,
        removed=removed,
        told=Picture(CLUSTER, {}),
        replaced={},
    )


@given(st.lists(RESOURCES, max_size=5), st.lists(NAMES, max_size=3), st.integers(1, 1 << 40))
def test_delta_response(resources: list[Resource], removed: list[str], serial: int) -> None:
    """Every field of a delta response is where an independent decoder looks for it."""
    made = response(*resources, removed=tuple(removed), serial=serial)
    parsed = pb.DeltaDiscoveryResponse.FromString(wire.Bodies("who").get(made, wire.join_delta))

    assert parsed.type_url == CLUSTER
    assert parsed.system_version_info == "v1"
    assert parsed.nonce == str(serial)
    assert parsed.control_plane.identifier == "who"
    assert list(parsed.removed_resources) == removed
    assert [
        (r.name, r.version, r.resource.type_url, r.resource.value) for r in parsed.resources
    ] == [(r.name, r.version, CLUSTER, r.body) for r in resources]


@given(st.lists(RESOURCES, max_size=5), st.integers(1, 1 << 40))
def test_sotw_response(resources: list[Resource], serial: int) -> None:
    """E3: the same for state of the world."""
    made = response(*resources, serial=serial)
    parsed = pb.DiscoveryResponse.FromString(wire.Bodies("who").get(made, wire.join_sotw))

    assert (parsed.type_url, parsed.version_info, parsed.nonce) == (CLUSTER, "v1", str(serial))
    assert parsed.control_plane.identifier == "who"
    assert [(r.type_url, r.value) for r in parsed.resources] == [
        (CLUSTER, r.body) for r in resources
    ]


def test_s18_resources_are_not_wrapped() -> None:
    """S18: the Any holds the resource itself."""
    made = response(Resource.of(CLUSTER, "a", b"body"))
    (packed,) = pb.DiscoveryResponse.FromString(wire.join_sotw(made, b"")).resources

    assert (packed.type_url, packed.value) == (CLUSTER, b"body")


def test_sotw_request() -> None:
    """All of a DiscoveryRequest that the protocol needs."""
    message = pb.DiscoveryRequest(
        type_url=CLUSTER, resource_names=["a", "b"], version_info="v", response_nonce="n"
    )
    message.node.id = "default/a"
    message.node.user_agent_name = "envoy"
    raw = message.SerializeToString()

    read = wire.read_sotw(raw, with_node=True)

    assert (read.type, read.names, read.version, read.nonce) == (CLUSTER, ("a", "b"), "v", "n")
    assert read.error is None
    assert read.node == Node("default/a", "envoy")
    assert wire.read_sotw(raw).node is None


def test_of_a_node_no_more_is_kept_than_is_shown() -> None:
    """What it says of itself is held as long as its stream, and may be megabytes."""
    message = pb.DiscoveryRequest()
    message.node.id = "default/a"
    message.node.user_agent_name = "x" * (1 << 20)

    node = wire.read_sotw(message.SerializeToString(), with_node=True).node

    assert node == Node("default/a", "x" * 100)


@pytest.mark.parametrize("more", ["resource_names_subscribe", "resource_names_unsubscribe"])
def test_requests_with_too_many_names_are_not_read(more: str) -> None:
    """They may be but two characters each, and the same: a string of Python takes fifty bytes."""
    names = ["aa"] * 100_000
    with_names = pb.DiscoveryRequest(type_url=CLUSTER, resource_names=names)
    versions = {f"{n:06}": "" for n in range(99_999)}
    mixed = pb.DeltaDiscoveryRequest(type_url=CLUSTER, initial_resource_versions=versions)
    getattr(mixed, more).append("aa")
    assert len(wire.read_sotw(with_names.SerializeToString()).names) == 100_000
    assert len(wire.read_delta(mixed.SerializeToString()).known) == 99_999

    with_names.resource_names.append("aa")
    getattr(mixed, more).append("aa")
    with pytest.raises(wire.MalformedError, match="names 100001 resources, and may name 100000"):
        wire.read_sotw(with_names.SerializeToString())
    with pytest.raises(wire.MalformedError, match="names 100001 resources"):
        wire.read_delta(mixed.SerializeToString())


def test_of_an_error_no_more_is_read_than_says_something() -> None:
    """A request may have 16 MiB, and each name that was sent is looked for in it."""
    message = pb.DeltaDiscoveryRequest(type_url=CLUSTER)
    message.error_detail.message = "x" * (1 << 20)

    error = wire.read_delta(message.SerializeToString()).error

    assert error == "x" * (256 << 10)


def test_delta_request() -> None:
    """All of a DeltaDiscoveryRequest that the protocol needs."""
    message = pb.DeltaDiscoveryRequest(
        type_url="x/y",
        resource_names_subscribe=["a"],
        resource_names_unsubscribe=["b"],
        initial_resource_versions={"c": "1"},
        response_nonce="n",
    )

    read = wire.read_delta(message.SerializeToString(), with_node=True)

    assert read.type == TypeUrl("x/y")
    assert (read.subscribe, read.unsubscribe, read.known) == (("a",), ("b",), {"c": "1"})
    assert (read.nonce, read.error, read.node) == ("n", None, None)


@pytest.mark.parametrize(
    "detail, text",
    [({"message": "no"}, "no"), ({"code": 13}, "status code 13"), ({}, "status code 0")],
)
def test_s4_the_presence_of_an_error_makes_a_refusal(detail: dict[str, object], text: str) -> None:
    """S4, D9: also where it says nothing."""
    sotw = pb.DiscoveryRequest(type_url=CLUSTER, error_detail=detail)
    delta = pb.DeltaDiscoveryRequest(type_url=CLUSTER, error_detail=detail)

    assert wire.read_sotw(sotw.SerializeToString()).error == text
    assert wire.read_delta(delta.SerializeToString()).error == text


def test_type_urls_are_the_constants() -> None:
    """A thousand streams hold one string per type."""
    raw = pb.DiscoveryRequest(type_url=CLUSTER).SerializeToString()

    assert wire.read_sotw(raw).type is CLUSTER


@pytest.mark.parametrize("read", [wire.read_sotw, wire.read_delta])
def test_what_is_no_request_is_refused(read: object) -> None:
    """Whatever does not parse is one kind of error."""
    assert read in (wire.read_sotw, wire.read_delta)
    function = wire.read_sotw if read is wire.read_sotw else wire.read_delta

    with pytest.raises(wire.MalformedError, match="no discovery request"):
        function(b"\xff\xff")


@given(st.binary(max_size=200))
def test_random_bytes_are_read_or_refused(raw: bytes) -> None:
    """No input makes any other error."""
    for function in (wire.read_sotw, wire.read_delta):
        try:
            function(raw, with_node=True)
        except wire.MalformedError:
            continue


def test_bodies_are_joined_once_and_bounded() -> None:
    """The same response gives the same object; old ones go when there are too many bytes."""
    bodies = wire.Bodies("who")
    one = response(Resource.of(CLUSTER, "a", b"x"))
    first = bodies.get(one, wire.join_delta)
    assert bodies.get(one, wire.join_delta) is first

    for serial in range(4):
        big = Resource.of(CLUSTER, "b", bytes(20 << 20))
        bodies.get(response(big, serial=serial), wire.join_delta)

    assert bodies._size <= 64 << 20
    assert bodies.get(one, wire.join_delta) is not first


def test_bodies_that_no_round_needs_are_forgotten() -> None:
    """What was sent in the last round is kept for this one; what was not, is not."""
    bodies = wire.Bodies("who")
    one = response(Resource.of(CLUSTER, "a", b"x"))
    first = bodies.get(one, wire.join_delta)

    bodies.round_begins(2)
    assert bodies.get(one, wire.join_delta) is first
    bodies.round_begins(3)
    bodies.round_begins(4)

    assert bodies.get(one, wire.join_delta) is not first
    assert len(bodies._kept) + len(bodies._old) == 1


@pytest.mark.parametrize("dialect", [SOTW, DELTA])
def test_equal_acknowledgements_are_read_once(dialect: Dialect[Any, Any]) -> None:
    """Bytes that were read lately are not read again; a request over 32 kB is not kept."""
    kind = pb.DeltaDiscoveryRequest if dialect is DELTA else pb.DiscoveryRequest
    envelope = kind(type_url=CLUSTER, response_nonce="7")
    raw = envelope.SerializeToString()
    first = dialect.read(raw)
    assert first.nonce == "7"
    assert dialect.read(bytes(bytearray(raw))) is first
    envelope.node.id = "a" * (32 << 10)
    large = envelope.SerializeToString()
    assert dialect.read(large) is not dialect.read(large)
    assert dialect.read(large) == first
