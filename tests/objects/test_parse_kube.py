"""Kubernetes objects: what is read of them, and what is refused."""

from collections.abc import Mapping
from typing import Any

import pytest

from smi_xds.objects.kube import (
    ContainerPort,
    EndpointSlice,
    Namespace,
    Pod,
    Service,
    ServiceAccount,
    ServicePort,
    SliceEndpoint,
    SlicePort,
    Transport,
)
from smi_xds.objects.parse import Ignored, MeshObject, Parsed, Refused, parse
from smi_xds.problems import Problem, ProblemCode


def mk(kind: str, *, metadata: Mapping[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    api_version = "discovery.k8s.io/v1" if kind == "EndpointSlice" else "v1"
    head = {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": "web", **(metadata or {})},
    }
    return {**head, **fields}


def good(document: object) -> MeshObject:
    outcome = parse(document)
    assert isinstance(outcome, Parsed), outcome
    return outcome.object


def bad(document: object) -> Problem:
    outcome = parse(document)
    assert isinstance(outcome, Refused), outcome
    return outcome.problem


def test_namespace() -> None:
    """Of a namespace the name and our annotations are kept."""
    metadata = {"annotations": {"smi-xds.io/access": "permissive", "other.io/x": "y"}}

    assert good(mk("Namespace", metadata=metadata)) == Namespace(
        name="web", annotations=(("smi-xds.io/access", "permissive"),)
    )


def test_service_account() -> None:
    """A ServiceAccount is its name; without a namespace it is in the default one."""
    assert good(mk("ServiceAccount")) == ServiceAccount(namespace="default", name="web")
    assert good(mk("ServiceAccount", metadata={"namespace": "shop"})) == ServiceAccount(
        namespace="shop", name="web"
    )


def test_service() -> None:
    """A Service keeps its addresses, selector, ports and when it was made."""
    document = mk(
        "Service",
        metadata={
            "namespace": "shop",
            "creationTimestamp": "2024-01-01T00:00:00Z",
            "labels": {"a": "b"},
        },
        spec={
            "clusterIP": "10.96.0.7",
            "clusterIPs": ["10.96.0.7", "FD00:0::7"],
            "selector": {"app": "web", "tier": "1"},
            "publishNotReadyAddresses": True,
            "ports": [
                {"name": "http", "port": 80, "targetPort": "web", "appProtocol": "http"},
                {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 5353},
                {"name": "same", "port": 81, "targetPort": 0},
            ],
            "sessionAffinity": "None",
        },
        status={"loadBalancer": {}},
    )

    assert good(document) == Service(
        namespace="shop",
        name="web",
        cluster_ips=("10.96.0.7", "fd00::7"),
        selector=frozenset({("app", "web"), ("tier", "1")}),
        ports=(
            ServicePort(name="http", port=80, target_port="web", app_protocol="http"),
            ServicePort(name="dns", port=53, transport=Transport.UDP, target_port=5353),
            ServicePort(name="same", port=81, target_port=81),
        ),
        publish_not_ready=True,
        created="2024-01-01T00:00:00Z",
    )


def test_headless_service() -> None:
    """`clusterIP: None` is headless; no clusterIP at all just says nothing."""
    headless = good(mk("Service", spec={"clusterIP": "None", "clusterIPs": ["None"]}))

    assert headless == Service(namespace="default", name="web", headless=True)
    assert good(mk("Service")) == Service(namespace="default", name="web")


@pytest.mark.parametrize("name", ["a" * 64, "a" * 253, f"{'a' * 70}.b-{'c' * 100}.0"])
def test_names_may_be_long(name: str) -> None:
    """Kubernetes limits the whole, not what stands between the dots; told, they are whole, too."""
    pod = good(mk("Pod", metadata={"name": name}, spec={"serviceAccountName": name}))
    assert isinstance(pod, Pod)
    assert (pod.name, pod.service_account) == (name, name)

    assert bad(mk("Pod", metadata={"name": name, "namespace": "a.b"})).ref.name == name
    assert bad(mk("Pod", metadata={"name": f"{name}B" * 4})).ref.name.endswith("...")


def test_external_service() -> None:
    """An ExternalName Service keeps the name, which must be one."""
    spec = {"type": "ExternalName", "externalName": "db.example.com."}

    assert good(mk("Service", spec=spec)) == Service(
        namespace="default", name="web", type="ExternalName", external_name="db.example.com."
    )
    for host in ("a b", "a" * 64, f"{'a' * 63}." * 4 + "b"):
        assert bad(mk("Service", spec=spec | {"externalName": host})).field == "spec.externalName"


@pytest.mark.parametrize(
    "ports, field",
    [
        ([{"port": 0}], "spec.ports[0].port"),
        ([{"port": 65536}], "spec.ports[0].port"),
        ([{"port": "80"}], "spec.ports[0].port"),
        ([{"port": 80, "protocol": "tcp"}], "spec.ports[0].protocol"),
        ([{"port": 80, "targetPort": "8080"}], "spec.ports[0].targetPort"),
        ([{"port": 80, "targetPort": 70000}], "spec.ports[0].targetPort"),
        ([{"port": 80, "name": "a"}, {"port": 81, "name": "a"}], "spec.ports[1].name"),
        ([{"port": 80}, {"port": 81}], "spec.ports[1].name"),
        ([{"port": 80, "name": "a"}, {"port": 80, "name": "b"}], "spec.ports[1].port"),
        ([{}], "spec.ports[0].port"),
    ],
)
def test_bad_service_ports(ports: list[object], field: str) -> None:
    """A port that could not be told apart, or is none, makes the Service invalid and is named."""
    problem = bad(mk("Service", spec={"ports": ports}))

    assert (problem.code, problem.field) == (ProblemCode.INVALID_OBJECT, field)


def test_one_number_for_two_transports() -> None:
    """TCP and UDP on one number are two ports."""
    ports = [{"port": 53, "name": "a"}, {"port": 53, "name": "b", "protocol": "UDP"}]

    service = good(mk("Service", spec={"ports": ports}))

    assert isinstance(service, Service)
    assert [port.transport for port in service.ports] == ["TCP", "UDP"]


def test_pod() -> None:
    """A Pod keeps what addresses, identity and readiness need."""
    document = mk(
        "Pod",
        metadata={
            "namespace": "shop",
            "uid": "u-1",
            "labels": {"app": "web"},
            "annotations": {"smi-xds.io/sidecar": "enabled", "smi-xds.io/address": "10.9.9.9"},
            "ownerReferences": [
                {"kind": "Node", "name": "n", "apiVersion": "v1"},
                {"kind": "ReplicaSet", "name": "web-5d8f", "controller": True},
            ],
            "deletionTimestamp": "2024-01-01T00:00:00Z",
        },
        spec={
            "serviceAccountName": "web",
            "nodeName": "n",
            "hostname": "web-0",
            "subdomain": "web",
            "hostNetwork": True,
            "containers": [
                {"name": "app", "ports": [{"name": "http", "containerPort": 8080}]},
                {"name": "dns", "ports": [{"containerPort": 53, "protocol": "UDP"}]},
                {"name": "idle"},
            ],
            "initContainers": [
                {"name": "once", "ports": [{"containerPort": 1}]},
                {"name": "proxy", "restartPolicy": "Always", "ports": [{"containerPort": 15001}]},
            ],
        },
        status={
            "phase": "Running",
            "podIP": "10.244.0.1",
            "podIPs": [{"ip": "10.244.0.1"}, {"ip": "fd00::1"}, {}],
            "conditions": [
                {"type": "Initialized", "status": "True"},
                {"type": "Ready", "status": "True"},
            ],
        },
    )

    assert good(document) == Pod(
        namespace="shop",
        name="web",
        uid="u-1",
        service_account="web",
        ips=("10.244.0.1", "fd00::1"),
        labels=frozenset({("app", "web")}),
        annotations=(("smi-xds.io/address", "10.9.9.9"), ("smi-xds.io/sidecar", "enabled")),
        ports=(
            ContainerPort(port=8080, name="http"),
            ContainerPort(port=53, transport=Transport.UDP),
            ContainerPort(port=15001),
        ),
        node="n",
        owner="ReplicaSet/web-5d8f",
        hostname="web-0",
        subdomain="web",
        ready=True,
        terminating=True,
        host_network=True,
    )


@pytest.mark.parametrize(
    "status, ready, done",
    [
        ({"phase": "Pending"}, False, False),
        ({"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]}, False, False),
        ({"conditions": [{"type": "Ready", "status": "True"}]}, True, False),
        ({"phase": "Succeeded"}, False, True),
        ({"phase": "Failed"}, False, True),
        ({"podIP": "10.1.2.3"}, True, False),
        ({}, True, False),
        (None, True, False),
    ],
)
def test_readiness(status: object, ready: bool, done: bool) -> None:
    """Ready is the Ready condition; a pod written by hand, without phase, counts as ready."""
    pod = good(mk("Pod", status=status))

    assert isinstance(pod, Pod)
    assert (pod.ready, pod.done) == (ready, done)


def test_address_of_a_pod_written_by_hand() -> None:
    """It may stand in our annotation; what the API server says always comes first."""
    metadata = {"annotations": {"smi-xds.io/address": "10.1.2.3, FD00:0::3"}}

    by_hand = good(mk("Pod", metadata=metadata))
    in_status = good(mk("Pod", metadata=metadata, status={"podIP": "10.7.7.7"}))
    pending = good(mk("Pod", metadata=metadata, status={"phase": "Pending"}))

    assert isinstance(by_hand, Pod)
    assert isinstance(in_status, Pod)
    assert isinstance(pending, Pod)
    assert by_hand.ips == ("10.1.2.3", "fd00::3")
    assert in_status.ips == ("10.7.7.7",)
    assert pending.ips == ()


@pytest.mark.parametrize(
    "document, field",
    [
        (
            mk("Pod", metadata={"annotations": {"smi-xds.io/address": "web.example"}}),
            "metadata.annotations[smi-xds.io/address]",
        ),
        (mk("Pod", status={"podIP": "10.1.2.300"}), "status.podIP"),
        (mk("Pod", status={"podIP": "fe80::1%eth0"}), "status.podIP"),
        (mk("Pod", spec={"serviceAccountName": "../x"}), "spec.serviceAccountName"),
        (mk("Pod", spec={"hostname": "A.b"}), "spec.hostname"),
        (mk("Pod", spec={"subdomain": "a/b"}), "spec.subdomain"),
        (mk("Pod", spec={"containers": {}}), "spec.containers"),
        (mk("Pod", metadata={"name": "Web"}), "metadata.name"),
        (mk("Pod", metadata={"name": ""}), "metadata.name"),
        (mk("Pod", metadata={"name": "a" * 254}), "metadata.name"),
        (mk("Pod", metadata={"name": "web\n"}), "metadata.name"),
        (mk("Pod", metadata={"namespace": "a.b"}), "metadata.namespace"),
        (mk("Pod", metadata={"labels": {"a": "b", "app": 1}}), "metadata.labels[app]"),
        (mk("Service", metadata={"name": "a.b"}), "metadata.name"),
        (mk("Service", spec={"clusterIP": "nowhere"}), "spec.clusterIP"),
        (mk("Namespace", metadata={"name": "a.b"}), "metadata.name"),
    ],
)
def test_bad_fields(document: object, field: str) -> None:
    """Names and addresses that could do harm further on are refused, and named."""
    problem = bad(document)

    assert (problem.code, problem.field) == (ProblemCode.INVALID_OBJECT, field)


def mk_slice(*endpoints: Mapping[str, object], **fields: object) -> dict[str, Any]:
    metadata = {"labels": {"kubernetes.io/service-name": "web"}}
    return mk(
        "EndpointSlice",
        metadata=metadata,
        **{"addressType": "IPv4", "endpoints": list(endpoints), **fields},
    )


def test_endpoint_slice() -> None:
    """A slice keeps its ports with numbers, and its endpoints with what their pods are."""
    document = mk_slice(
        {
            "addresses": ["10.1.0.1"],
            "conditions": {"ready": False, "serving": True, "terminating": True},
            "targetRef": {"kind": "Pod", "name": "web-1"},
            "hostname": "web-1",
            "nodeName": "n",
            "zone": "z",
        },
        {"addresses": ["10.1.0.2"], "targetRef": {"kind": "Node", "name": "x"}},
        ports=[
            {"name": "http", "port": 8080, "protocol": "TCP", "appProtocol": "http"},
            {"name": "", "port": 53, "protocol": "UDP"},
            {"name": "any", "port": None},
        ],
    )

    assert good(document) == EndpointSlice(
        namespace="default",
        name="web",
        service="web",
        ports=(
            SlicePort(port=8080, name="http", app_protocol="http"),
            SlicePort(port=53, transport=Transport.UDP),
        ),
        endpoints=(
            SliceEndpoint(
                addresses=("10.1.0.1",),
                pod="web-1",
                ready=False,
                serving=True,
                terminating=True,
                hostname="web-1",
                node="n",
                zone="z",
            ),
            SliceEndpoint(addresses=("10.1.0.2",)),
        ),
    )


@pytest.mark.parametrize(
    "conditions, ready, serving",
    [
        (None, True, True),
        ({}, True, True),
        ({"ready": True}, True, True),
        ({"ready": False}, False, False),
        ({"ready": None, "serving": False}, True, False),
        ({"ready": False, "serving": True}, False, True),
    ],
)
def test_conditions_left_out(conditions: object, ready: bool, serving: bool) -> None:
    """Unknown readiness is readiness, and unknown serving is as ready says (discovery/v1)."""
    it = good(mk_slice({"addresses": ["10.1.0.1"], "conditions": conditions}))

    assert isinstance(it, EndpointSlice)
    assert (it.endpoints[0].ready, it.endpoints[0].serving) == (ready, serving)


def test_slices_of_other_families() -> None:
    """IPv6 addresses are made canonical, names stay names."""
    six = good(mk_slice({"addresses": ["FD00:0::1"]}, addressType="IPv6"))
    name = good(mk_slice({"addresses": ["db.example.com"]}, addressType="FQDN"))

    assert isinstance(six, EndpointSlice)
    assert isinstance(name, EndpointSlice)
    assert six.endpoints[0].addresses == ("fd00::1",)
    assert name.endpoints[0].addresses == ("db.example.com",)


@pytest.mark.parametrize(
    "address_type, address",
    [
        ("IPv4", "fd00::1"),
        ("IPv6", "10.1.2.3"),
        ("IPv4", "010.1.2.3"),
        ("IPv5", "10.1.2.3"),
        ("FQDN", "not a name"),
    ],
)
def test_addresses_of_the_wrong_family(address_type: str, address: str) -> None:
    """An address that is not of the slice's type makes it invalid."""
    document = mk_slice({"addresses": [address]}, addressType=address_type)

    assert bad(document).field == "endpoints[0].addresses"


def test_slice_of_no_service() -> None:
    """A slice without the label of a Service belongs to nobody we know."""
    assert parse(mk("EndpointSlice", addressType="IPv4", endpoints=[])) == Ignored()


def test_a_change_of_what_is_not_read_changes_nothing() -> None:
    """Fields and annotations that the mesh does not read make an equal object: no event."""
    before = mk("Pod", metadata={"annotations": {"a": "1"}}, spec={"priority": 1})
    after = mk("Pod", metadata={"annotations": {"a": "2"}, "resourceVersion": "7"})

    assert good(before) == good(after)
