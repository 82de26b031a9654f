"""Every version of every SMI kind, in the forms that texts, CRDs and clients give them."""

from decimal import Decimal
from typing import Any

import pytest

from smi_xds.objects.parse import MeshObject, Parsed, Refused, parse
from smi_xds.objects.smi import (
    Backend,
    HTTPMatch,
    HTTPRouteGroup,
    IdentityBinding,
    Rule,
    SplitMatch,
    Subject,
    TCPRoute,
    TrafficSplit,
    TrafficTarget,
    UDPRoute,
)
from smi_xds.problems import Problem, ProblemCode

ACCESS, SPECS, SPLIT = "access.smi-spec.io", "specs.smi-spec.io", "split.smi-spec.io"
ALL = ("v1alpha1", "v1alpha2", "v1alpha3", "v1alpha4")
WITH_SPEC = ("v1alpha3", "v1alpha4")


def mk(api_version: str, kind: str, **fields: Any) -> dict[str, Any]:
    metadata = {"name": "it", "namespace": "shop"}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **fields}


def mk_target(version: str, destination: object, **fields: object) -> dict[str, Any]:
    fields = {"destination": destination, **fields}
    if version == "v1alpha1":
        return mk(f"{ACCESS}/{version}", "TrafficTarget", **fields)
    return mk(f"{ACCESS}/{version}", "TrafficTarget", spec=fields)


def mk_group(version: str, *matches: object) -> dict[str, Any]:
    fields = {"matches": list(matches)}
    if version in WITH_SPEC:
        return mk(f"{SPECS}/{version}", "HTTPRouteGroup", spec=fields)
    return mk(f"{SPECS}/{version}", "HTTPRouteGroup", **fields)


def mk_binding(**schemes: object) -> dict[str, Any]:
    return mk(f"{ACCESS}/v1alpha4", "IdentityBinding", spec={"schemes": schemes})


def good(document: object) -> MeshObject:
    outcome = parse(document)
    assert isinstance(outcome, Parsed), outcome
    return outcome.object


def bad(document: object) -> Problem:
    outcome = parse(document)
    assert isinstance(outcome, Refused), outcome
    return outcome.problem


WEB = {"kind": "ServiceAccount", "name": "web", "namespace": "shop"}
CLIENT = {"kind": "ServiceAccount", "name": "client"}
ROUTES = {"kind": "HTTPRouteGroup", "name": "routes", "matches": ["all"]}


@pytest.mark.parametrize("version", ALL)
def test_traffic_targets(version: str) -> None:
    """A TrafficTarget of any version becomes the same object; v1alpha1 has no spec, and `specs`."""
    rules = "specs" if version == "v1alpha1" else "rules"
    document = mk_target(version, WEB, sources=[CLIENT], **{rules: [ROUTES]})

    assert good(document) == TrafficTarget(
        namespace="shop",
        name="it",
        version=version,
        destination=Subject(kind="ServiceAccount", name="web", namespace="shop"),
        rules=(Rule(kind="HTTPRouteGroup", name="routes", matches=("all",)),),
        sources=(Subject(kind="ServiceAccount", name="client"),),
    )


@pytest.mark.parametrize("version", ALL)
@pytest.mark.parametrize("port", [8080, "8080"])
def test_ports_of_destinations(version: str, port: object) -> None:
    """The port restricts in every version, as number and as text."""
    target = good(mk_target(version, {**WEB, "port": port}))

    assert isinstance(target, TrafficTarget)
    assert target.destination_port == 8080


@pytest.mark.parametrize(
    "version, fields, field",
    [
        ("v1alpha1", {"destination": {**WEB, "port": "http"}}, "destination.port"),
        ("v1alpha1", {"destination": {**WEB, "name": "*"}}, "destination.name"),
        ("v1alpha1", {"sources": [CLIENT, {"kind": "ServiceAccount"}]}, "sources[1].name"),
        ("v1alpha1", {"sources": [{**CLIENT, "namespace": "*"}]}, "sources[0].namespace"),
        ("v1alpha1", {"rules": [ROUTES]}, "rules"),
        ("v1alpha1", {"spec": {}}, "spec"),
        ("v1alpha2", {"destination": WEB}, "destination"),
        ("v1alpha2", {"spec": {"specs": [ROUTES]}}, "spec.specs"),
        ("v1alpha4", {"spec": {"sources": [{**CLIENT, "name": "/"}]}}, "spec.sources[0].name"),
    ],
)
def test_mistakes_in_targets(version: str, fields: dict[str, Any], field: str) -> None:
    """A mistake is told by the field's path in the version that was written."""
    assert bad(mk(f"{ACCESS}/{version}", "TrafficTarget", **fields)).field == field


@pytest.mark.parametrize(
    "version, fields, cure",
    [
        (
            "v1alpha1",
            {"spec": {}},
            "Write what is in it beside metadata, or give a later version in apiVersion.",
        ),
        ("v1alpha2", {"sources": []}, "Move it to spec.sources."),
    ],
)
def test_cures_of_misplaced_fields(version: str, fields: dict[str, Any], cure: str) -> None:
    """Fields of another version are told where they belong."""
    problem = bad(mk(f"{ACCESS}/{version}", "TrafficTarget", **fields))

    assert (problem.code, problem.cure) == (ProblemCode.UNKNOWN_FIELD, cure)


def test_groups_of_subjects() -> None:
    """v1alpha4 may say the group of a subject's kind; one that is empty is none."""
    binding = {"kind": "IdentityBinding", "name": "partners", "group": ACCESS}
    target = good(mk_target("v1alpha4", binding, sources=[binding, {**CLIENT, "group": ""}]))

    partners = Subject(kind="IdentityBinding", name="partners", group=ACCESS)
    assert isinstance(target, TrafficTarget)
    assert target.destination == partners
    assert target.sources == (partners, Subject(kind="ServiceAccount", name="client"))


@pytest.mark.parametrize("version", ["v1alpha1", "v1alpha2", "v1alpha3"])
def test_groups_in_older_versions(version: str) -> None:
    """Older versions have no group: it is refused there."""
    problem = bad(mk_target(version, {**WEB, "group": ACCESS}))

    assert problem.field.endswith("destination.group")
    assert problem.code is ProblemCode.UNKNOWN_FIELD


IDENTITY = "spiffe://cluster.local/ns/shop/sa/web"


@pytest.mark.parametrize(
    "schemes, fields",
    [
        (
            {"podLabelSelector": {"matchLabels": {"b": "2", "a": "1"}}},
            {"match_labels": (("a", "1"), ("b", "2"))},
        ),
        ({"spiffeIdentities": [IDENTITY]}, {"spiffe_identities": (IDENTITY,)}),
        (
            {"serviceAccount": "web", "spiffeIdentities": [IDENTITY]},
            {"service_account": "web", "spiffe_identities": (IDENTITY,)},
        ),
    ],
)
def test_identity_bindings(schemes: dict[str, Any], fields: dict[str, Any]) -> None:
    """An IdentityBinding keeps its schemes, which are alternatives."""
    assert good(mk_binding(**schemes)) == IdentityBinding(namespace="shop", name="it", **fields)


@pytest.mark.parametrize(
    "schemes, field",
    [
        ({}, "spec.schemes"),
        (
            {"serviceAccount": "web", "podLabelSelector": {"matchLabels": {"a": "1"}}},
            "spec.schemes",
        ),
        ({"podLabelSelector": {}}, "spec.schemes.podLabelSelector.matchLabels"),
        ({"podLabelSelector": {"matchLabels": {}}}, "spec.schemes.podLabelSelector.matchLabels"),
        (
            {"podLabelSelector": {"matchLabels": {}, "matchExpressions": []}},
            "spec.schemes.podLabelSelector.matchExpressions",
        ),
        ({"spiffeIdentities": []}, "spec.schemes.spiffeIdentities"),
        (
            {"spiffeIdentities": [IDENTITY, "cluster.local/ns/shop/sa/web"]},
            "spec.schemes.spiffeIdentities[1]",
        ),
        ({"serviceAccount": "*"}, "spec.schemes.serviceAccount"),
        ({"user": "me"}, "spec.schemes.user"),
    ],
)
def test_mistakes_in_identity_bindings(schemes: dict[str, Any], field: str) -> None:
    """What would name nobody, everybody or nothing that can be checked is refused."""
    assert bad(mk_binding(**schemes)).field == field


def test_an_identity_binding_without_schemes() -> None:
    """The schemes are what it is about."""
    assert bad(mk(f"{ACCESS}/v1alpha4", "IdentityBinding", spec={})).field == "spec.schemes"
    assert bad(mk(f"{ACCESS}/v1alpha4", "IdentityBinding")).field == "spec"


@pytest.mark.parametrize("version", ALL)
def test_http_route_groups(version: str) -> None:
    """Matches stand at the root in v1alpha1 and v1alpha2; headers are read in all versions."""
    headers = [{"x": "1", "y": "2"}, {"z": "3"}]
    match = {"name": "all", "pathRegex": "/", "methods": ["*"], "headers": headers}

    assert good(mk_group(version, match)) == HTTPRouteGroup(
        namespace="shop",
        name="it",
        version=version,
        matches=(
            HTTPMatch(
                name="all",
                path_regex="/",
                methods=("*",),
                headers=(("x", "1"), ("y", "2"), ("z", "3")),
            ),
        ),
    )


@pytest.mark.parametrize("version", ALL)
def test_mistakes_in_http_route_groups(version: str) -> None:
    """The field's path is that of the version."""
    at = "spec." if version in WITH_SPEC else ""

    assert bad(mk_group(version, {"pathRegex": "/"})).field == f"{at}matches[0].name"


@pytest.mark.parametrize("version", ["v1alpha1", "v1alpha2", "v1alpha3"])
def test_tcp_routes_before_ports(version: str) -> None:
    """Until v1alpha4 a TCPRoute has nothing but a name, and means every port."""
    fields: dict[str, Any] = {"spec": {}} if version == "v1alpha3" else {}

    assert good(mk(f"{SPECS}/{version}", "TCPRoute", **fields)) == TCPRoute(
        namespace="shop", name="it", version=version
    )


@pytest.mark.parametrize(
    "version, fields, field",
    [
        ("v1alpha1", {"matches": {"ports": [1]}}, "matches"),
        ("v1alpha2", {"spec": {}}, "spec"),
        ("v1alpha3", {"spec": {"matches": {"ports": [1]}}}, "spec.matches"),
    ],
)
def test_ports_in_tcp_routes_before_ports(version: str, fields: dict[str, Any], field: str) -> None:
    """Ports that a version does not know refuse the object, which would else mean every port."""
    assert bad(mk(f"{SPECS}/{version}", "TCPRoute", **fields)).field == field


def test_udp_routes() -> None:
    """UDPRoute has one version, with ports."""
    document = mk(f"{SPECS}/v1alpha4", "UDPRoute", spec={"matches": {"ports": [53]}})

    assert good(document) == UDPRoute(namespace="shop", name="it", ports=(53,))


# The documents of smi-sdk-go's feature tests, in substance: each must be accepted.
@pytest.mark.parametrize(
    "version, weights, api_group",
    [
        ("v1alpha1", ("50m", "50m"), None),
        ("v1alpha2", (50, 50), None),
        ("v1alpha3", (50, 50), SPECS),
        ("v1alpha4", (50, 50), SPECS),
    ],
)
def test_traffic_splits(
    version: str, weights: tuple[object, object], api_group: str | None
) -> None:
    """A TrafficSplit of any version: quantities first, then numbers, then matches."""
    backends = [{"service": f"v{n}", "weight": weight} for n, weight in enumerate(weights)]
    spec: dict[str, Any] = {"service": "web", "backends": backends}
    if api_group:
        spec["matches"] = [{"kind": "HTTPRouteGroup", "name": "beta", "apiGroup": api_group}]
    written = "50m" if version == "v1alpha1" else None
    weight = Decimal("0.05") if written else Decimal(50)

    assert good(mk(f"{SPLIT}/{version}", "TrafficSplit", spec=spec)) == TrafficSplit(
        namespace="shop",
        name="it",
        version=version,
        service="web",
        backends=tuple(Backend(service=f"v{n}", weight=weight, written=written) for n in (0, 1)),
        matches=(SplitMatch(kind="HTTPRouteGroup", name="beta", api_group=api_group),)
        if api_group
        else None,
    )
