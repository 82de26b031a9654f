"""Derived EndpointSlices are those that Kubernetes would make."""

from dataclasses import replace

import pytest

from smi_xds.objects.derive import derive_slices
from smi_xds.objects.kube import (
    ContainerPort,
    EndpointSlice,
    Pod,
    Service,
    ServicePort,
    SliceEndpoint,
    SlicePort,
    Transport,
)

WEB = Service(
    namespace="shop",
    name="web",
    selector=frozenset({("app", "web")}),
    ports=(ServicePort(port=80, name="http", target_port="http", app_protocol="http"),),
)
POD = Pod(
    namespace="shop",
    name="web-1",
    ips=("10.1.0.1",),
    labels=frozenset({("app", "web"), ("v", "1")}),
    ports=(ContainerPort(port=8080, name="http"),),
    ready=True,
    node="n",
)
HTTP = SlicePort(port=8080, name="http", app_protocol="http")


def endpoints(service: Service, *pods: Pod) -> list[SliceEndpoint]:
    return [endpoint for it in derive_slices([service], pods) for endpoint in it.endpoints]


def test_a_slice() -> None:
    """The pods that a Service selects become the endpoints of one slice, by name."""
    other = replace(POD, name="web-0", ips=("10.1.0.9",))

    assert derive_slices([WEB], [POD, other]) == (
        EndpointSlice(
            namespace="shop",
            name="web.derived-ipv4",
            service="web",
            ports=(HTTP,),
            endpoints=(
                SliceEndpoint(addresses=("10.1.0.9",), pod="web-0", node="n"),
                SliceEndpoint(addresses=("10.1.0.1",), pod="web-1", node="n"),
            ),
        ),
    )


@pytest.mark.parametrize(
    "service, pod",
    [
        (replace(WEB, selector=frozenset()), POD),
        (replace(WEB, type="ExternalName"), POD),
        (replace(WEB, selector=frozenset({("app", "web"), ("v", "2")})), POD),
        (replace(WEB, namespace="other"), POD),
        (WEB, replace(POD, labels=frozenset())),
        (WEB, replace(POD, ips=())),
        (WEB, replace(POD, done=True)),
    ],
)
def test_pods_that_are_not_behind_it(service: Service, pod: Pod) -> None:
    """Other namespaces, other labels, no address or a finished pod: no endpoint."""
    assert endpoints(service, pod) == []


@pytest.mark.parametrize(
    "ready, terminating, publish, conditions",
    [
        (True, False, False, (True, True, False)),
        (False, False, False, (False, False, False)),
        (True, True, False, (False, True, True)),
        (False, True, False, (False, False, True)),
        (False, False, True, (True, False, False)),
        (True, True, True, (True, True, True)),
    ],
)
def test_conditions(
    ready: bool, terminating: bool, publish: bool, conditions: tuple[bool, bool, bool]
) -> None:
    """Ready excludes terminating pods, serving does not; a Service may publish all as ready."""
    service = replace(WEB, publish_not_ready=publish)

    (it,) = endpoints(service, replace(POD, ready=ready, terminating=terminating))

    assert (it.ready, it.serving, it.terminating) == conditions


def test_named_target_ports() -> None:
    """A name is looked up in each pod, and pods with other numbers stand in another slice."""
    other = replace(POD, name="web-2", ports=(ContainerPort(port=9090, name="http"),))
    none = replace(
        POD, name="web-3", ports=(ContainerPort(port=1, name="http", transport=Transport.UDP),)
    )

    slices = derive_slices([WEB], [POD, other, none])

    assert [(it.name, it.ports, [e.pod for e in it.endpoints]) for it in slices] == [
        ("web.derived-ipv4", (), ["web-3"]),
        ("web.derived-ipv4-1", (HTTP,), ["web-1"]),
        ("web.derived-ipv4-2", (replace(HTTP, port=9090),), ["web-2"]),
    ]


def test_numbered_target_ports() -> None:
    """A number needs no container port."""
    service = replace(WEB, ports=(ServicePort(port=53, target_port=53, transport=Transport.UDP),))

    (it,) = derive_slices([service], [replace(POD, ports=())])

    assert it.ports == (SlicePort(port=53, transport=Transport.UDP),)


def test_families() -> None:
    """A pod of two families stands in two slices; a cluster IP says which ones a Service has."""
    pod = replace(POD, ips=("10.1.0.1", "fd00::1", "10.1.0.2"))

    both = derive_slices([WEB], [pod])
    six = derive_slices([replace(WEB, cluster_ips=("fd00:96::7",))], [pod])

    assert [(it.address_type, it.endpoints[0].addresses) for it in both] == [
        ("IPv4", ("10.1.0.1",)),
        ("IPv6", ("fd00::1",)),
    ]
    assert [(it.name, it.endpoints[0].addresses) for it in six] == [
        ("web.derived-ipv6", ("fd00::1",))
    ]


def test_hostnames() -> None:
    """A pod with hostname and this Service's subdomain is known by its hostname."""
    named = replace(POD, hostname="web-1", subdomain="web")

    assert [it.hostname for it in endpoints(WEB, named)] == ["web-1"]
    assert [it.hostname for it in endpoints(WEB, replace(named, subdomain="db"))] == [""]


def test_the_order_of_pods_does_not_matter() -> None:
    """The same objects in another order give the same slices."""
    pods = [replace(POD, name=f"web-{i}", ips=(f"10.1.0.{i}",)) for i in range(5)]

    assert derive_slices([WEB], pods) == derive_slices([WEB], pods[::-1])
