"""How objects name themselves."""

import pytest

from smi_xds.objects.kube import EndpointSlice, Namespace, Pod, Service, ServiceAccount
from smi_xds.objects.parse import MeshObject
from smi_xds.objects.smi import (
    HTTPRouteGroup,
    IdentityBinding,
    TCPRoute,
    TrafficSplit,
    TrafficTarget,
    UDPRoute,
)
from smi_xds.values import ObjectRef, ProxyId, ServiceAccountRef, ServiceRef


@pytest.mark.parametrize(
    "it",
    [
        ServiceAccount(namespace="shop", name="it"),
        Service(namespace="shop", name="it"),
        Pod(namespace="shop", name="it"),
        EndpointSlice(namespace="shop", name="it", service="web"),
        TrafficTarget(namespace="shop", name="it"),
        IdentityBinding(namespace="shop", name="it"),
        HTTPRouteGroup(namespace="shop", name="it"),
        TCPRoute(namespace="shop", name="it"),
        UDPRoute(namespace="shop", name="it"),
        TrafficSplit(namespace="shop", name="it"),
    ],
)
def test_refs(it: MeshObject) -> None:
    """An object is named by its kind, namespace and name."""
    assert it.ref == ObjectRef(type(it).__name__, "shop", "it")


def test_namespace() -> None:
    """A namespace is in none."""
    assert Namespace(name="shop").ref == ObjectRef("Namespace", "", "shop")


def test_other_names() -> None:
    """Services, pods, accounts and slices also say what they are to the mesh."""
    pod = Pod(namespace="shop", name="it", service_account="web")

    assert Service(namespace="shop", name="it").service == ServiceRef("shop", "it")
    assert ServiceAccount(namespace="shop", name="it").account == ServiceAccountRef("shop", "it")
    assert (pod.proxy, pod.account) == (ProxyId("shop", "it"), ServiceAccountRef("shop", "web"))
    assert EndpointSlice(namespace="shop", name="it", service="web").owner == ServiceRef(
        "shop", "web"
    )
