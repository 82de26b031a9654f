"""Which namespaces get our roots."""

from smi_xds.app.meshed import Namespaces, meshed_namespaces
from smi_xds.mesh.model import Mesh
from tests.support.mesh import build_mesh
from tests.support.objects import mk_namespace, mk_pod, picture


def test_a_pod_without_an_address_has_roots_already() -> None:
    """It mounts them before it gets one; so do all pods of a namespace that asks for sidecars."""
    found = meshed_namespaces(
        picture(
            mk_namespace("plain"),
            mk_namespace("asks", sidecar="intercepted"),
            mk_namespace("declines", sidecar="none"),
            mk_pod("one", namespace="plain", sidecar=""),
            mk_pod("two", "", namespace="some", sidecar="bound"),
            mk_pod("three", "", namespace="grpc", sidecar="proxyless"),
            mk_pod("four", "", namespace="typo", sidecar="bond"),
        )
    )

    assert found == {"asks", "some", "grpc", "typo"}


def test_our_own_namespace_has_them_always() -> None:
    """Also before there is a mesh; and what a mesh has is looked at again when it changed."""
    meshes: list[Mesh | None] = [None]
    namespaces = Namespaces(lambda: meshes[-1], own=frozenset({"smi-xds"}))
    found = [namespaces()]
    for name in ("shop", "shop", "bank"):
        meshes.append(build_mesh(mk_pod("web", namespace=name, sidecar="bound")))
        found.append(namespaces())

    assert found == [{"smi-xds"}, {"smi-xds", "shop"}, {"smi-xds", "shop"}, {"smi-xds", "bank"}]
