"""Resources and sets of them."""

from types import MappingProxyType

from smi_xds.xds.resources import (
    CLUSTER,
    EMPTY,
    ROUTES,
    Need,
    Resource,
    ResourceSet,
    content_version,
)

A, OTHER_A = Resource.of(CLUSTER, "a", b"1"), Resource.of(CLUSTER, "a", b"2")
B = Resource.of(CLUSTER, "b", b"1", needs=[Need(ROUTES, "r")])


def mk_set(*layers: dict[str, Resource]) -> ResourceSet:
    return ResourceSet(MappingProxyType({CLUSTER: layers}))


def test_the_version_is_the_content() -> None:
    """Equal bytes have equal versions, on every replica and after a restart."""
    assert content_version(b"") == "2d06800538d394c2"
    assert A.version == B.version != OTHER_A.version
    assert Resource.of(CLUSTER, "a", b"1") == A != OTHER_A


def test_an_earlier_layer_hides_a_later_one() -> None:
    """A proxy's own resource stands before a shared one of the same name."""
    found = mk_set({"a": A}, {"a": OTHER_A, "b": B})
    assert found.get(CLUSTER, "a") is A
    assert found.get(CLUSTER, "b") is B
    assert found.all(CLUSTER) == {"a": A, "b": B}
    assert found.get(CLUSTER, "c") is None


def test_a_type_that_is_not_there_is_empty() -> None:
    """And a single layer is handed out as it is."""
    layer = {"a": A}
    assert mk_set(layer).all(CLUSTER) is layer
    assert mk_set(layer).all(ROUTES) == {}
    assert EMPTY.all(CLUSTER) == {}
    assert EMPTY.get(CLUSTER, "a") is None


def test_sets_are_compared_by_identity() -> None:
    """Two proxies of one class share the very same set; comparing contents would cost too much."""
    assert mk_set({"a": A}) != mk_set({"a": A})
