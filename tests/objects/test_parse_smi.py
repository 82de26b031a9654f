"""SMI objects: every form that is read, and that nothing unknown is passed over."""

from decimal import Decimal
from typing import Any

import pytest

from smi_xds.objects.parse import MeshObject, Parsed, Refused, parse
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
from smi_xds.problems import Problem, ProblemCode

GROUPS = {
    "TrafficTarget": "access.smi-spec.io/v1alpha3",
    "HTTPRouteGroup": "specs.smi-spec.io/v1alpha4",
    "TCPRoute": "specs.smi-spec.io/v1alpha4",
    "UDPRoute": "specs.smi-spec.io/v1alpha4",
    "TrafficSplit": "split.smi-spec.io/v1alpha4",
}


def mk(kind: str, *, version: str = "", **fields: Any) -> dict[str, Any]:
    api_version = GROUPS[kind]
    if version:
        api_version = f"{api_version.partition('/')[0]}/{version}"
    metadata = {"name": "it", "namespace": "shop"}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **fields}


def mk_split(*weights: object, version: str = "v1alpha4") -> dict[str, Any]:
    backends = [{"service": f"b{i}", "weight": weight} for i, weight in enumerate(weights)]
    return mk("TrafficSplit", version=version, spec={"service": "web", "backends": backends})


def good(document: object) -> MeshObject:
    outcome = parse(document)
    assert isinstance(outcome, Parsed), outcome
    return outcome.object


def bad(document: object) -> Problem:
    outcome = parse(document)
    assert isinstance(outcome, Refused), outcome
    return outcome.problem


def test_traffic_target() -> None:
    """Every field of a TrafficTarget is kept; left out is not the same as empty."""
    document = mk(
        "TrafficTarget",
        spec={
            "destination": {"kind": "ServiceAccount", "name": "web", "namespace": "shop"},
            "rules": [
                {"kind": "HTTPRouteGroup", "name": "routes", "matches": ["all"]},
                {"kind": "TCPRoute", "name": "ports"},
                {"kind": "UDPRoute", "name": "dns", "matches": []},
            ],
            "sources": [{"kind": "ServiceAccount", "name": "client"}],
        },
    )

    assert good(document) == TrafficTarget(
        namespace="shop",
        name="it",
        destination=Subject(kind="ServiceAccount", name="web", namespace="shop"),
        rules=(
            Rule(kind="HTTPRouteGroup", name="routes", matches=("all",)),
            Rule(kind="TCPRoute", name="ports"),
            Rule(kind="UDPRoute", name="dns", matches=()),
        ),
        sources=(Subject(kind="ServiceAccount", name="client"),),
    )


def test_what_all_have_in_common() -> None:
    """The creation time and our annotations are kept; status and other metadata do not matter."""
    document = mk("TrafficTarget", status={"anything": 1})
    document["metadata"] |= {
        "creationTimestamp": "2024-01-01T00:00:00Z",
        "annotations": {"smi-xds.io/b": "2", "smi-xds.io/a": "1", "kubectl.io/x": "y"},
        "managedFields": [{}],
    }

    assert good(document) == TrafficTarget(
        namespace="shop",
        name="it",
        created="2024-01-01T00:00:00Z",
        annotations=(("smi-xds.io/a", "1"), ("smi-xds.io/b", "2")),
    )


@pytest.mark.parametrize("port", [8080, "8080"])
def test_port_of_a_destination(port: object) -> None:
    """The port of older versions is still a restriction, as number or text."""
    destination = {"kind": "ServiceAccount", "name": "web", "port": port}

    target = good(mk("TrafficTarget", spec={"destination": destination}))

    assert isinstance(target, TrafficTarget)
    assert target.destination_port == 8080


@pytest.mark.parametrize("port", ["http", "", "123456", "٣"])
def test_bad_port_of_a_destination(port: str) -> None:
    """A restriction that cannot be read refuses the object."""
    destination = {"kind": "ServiceAccount", "name": "web", "port": port}

    problem = bad(mk("TrafficTarget", spec={"destination": destination}))

    assert problem.field == "spec.destination.port"


@pytest.mark.parametrize(
    "subject, field",
    [
        ({"kind": "ServiceAccount", "name": "*"}, "name"),
        ({"kind": "ServiceAccount", "name": "a/sa/b"}, "name"),
        ({"kind": "ServiceAccount", "name": "a", "namespace": "*"}, "namespace"),
        ({"kind": "ServiceAccount", "name": "a", "port": 80}, "port"),
        ({"kind": "ServiceAccount", "name": "a", "group": "x"}, "group"),
        ({"name": "a"}, "kind"),
        ({"kind": "ServiceAccount"}, "name"),
    ],
)
def test_bad_sources(subject: object, field: str) -> None:
    """A source that could not be meant so, such as a wildcard, refuses the object."""
    problem = bad(mk("TrafficTarget", spec={"sources": [subject]}))

    assert problem.field == f"spec.sources[0].{field}"


def test_subjects_of_other_kinds() -> None:
    """Other kinds are kept as written: whether they mean anything is the mesh's to say."""
    target = good(mk("TrafficTarget", spec={"sources": [{"kind": "Group", "name": "A B"}]}))

    assert isinstance(target, TrafficTarget)
    assert target.sources == (Subject(kind="Group", name="A B"),)


def test_http_route_group() -> None:
    """Matches keep name, path, methods and headers, in the order written."""
    document = mk(
        "HTTPRouteGroup",
        spec={
            "matches": [
                {"name": "all"},
                {
                    "name": "some",
                    "pathRegex": "/api",
                    "methods": ["GET", "*"],
                    "headers": [{"x-b": "1"}, {"x-a": "2", "x-c": "3"}, {"x-b": "4"}],
                },
            ]
        },
    )

    assert good(document) == HTTPRouteGroup(
        namespace="shop",
        name="it",
        matches=(
            HTTPMatch(name="all"),
            HTTPMatch(
                name="some",
                path_regex="/api",
                methods=("GET", "*"),
                headers=(("x-b", "1"), ("x-a", "2"), ("x-c", "3"), ("x-b", "4")),
            ),
        ),
    )


def test_headers_as_a_map() -> None:
    """Headers may also be one map, as the latest text has them; which form it was is kept."""
    matches = [{"name": "a", "headers": {"x": "1", "y": "2"}}, {"name": "b", "headers": []}]

    group = good(mk("HTTPRouteGroup", spec={"matches": matches}))

    assert isinstance(group, HTTPRouteGroup)
    assert group.headers_as_map
    assert [match.headers for match in group.matches] == [(("x", "1"), ("y", "2")), ()]


@pytest.mark.parametrize("spec", [None, {}, {"matches": None}, {"matches": []}])
def test_http_route_group_without_matches(spec: object) -> None:
    """No matches is no error of form: the group just matches nothing."""
    assert good(mk("HTTPRouteGroup", spec=spec)) == HTTPRouteGroup(namespace="shop", name="it")


@pytest.mark.parametrize("kind, cls", [("TCPRoute", TCPRoute), ("UDPRoute", UDPRoute)])
def test_port_routes(kind: str, cls: type[TCPRoute] | type[UDPRoute]) -> None:
    """Ports are kept; left out is not the same as empty."""
    full = {"matches": {"name": "n", "ports": [8301, 0]}}

    assert good(mk(kind)) == cls(namespace="shop", name="it")
    assert good(mk(kind, spec={"matches": {}})) == cls(namespace="shop", name="it")
    assert good(mk(kind, spec={"matches": {"ports": []}})) == cls(
        namespace="shop", name="it", ports=()
    )
    assert good(mk(kind, spec=full)) == cls(
        namespace="shop", name="it", match_name="n", ports=(8301, 0)
    )


def test_traffic_split() -> None:
    """A TrafficSplit keeps root, backends and matches."""
    document = mk_split(1, 0)
    document["spec"]["matches"] = [
        {"kind": "HTTPRouteGroup", "name": "beta", "apiGroup": "specs.smi-spec.io"},
        {"kind": "HTTPRouteGroup", "name": "gamma"},
    ]

    assert good(document) == TrafficSplit(
        namespace="shop",
        name="it",
        service="web",
        backends=(
            Backend(service="b0", weight=Decimal(1)),
            Backend(service="b1", weight=Decimal(0)),
        ),
        matches=(
            SplitMatch(kind="HTTPRouteGroup", name="beta", api_group="specs.smi-spec.io"),
            SplitMatch(kind="HTTPRouteGroup", name="gamma"),
        ),
    )


@pytest.mark.parametrize("version", ["v1alpha2", "v1alpha3", "v1alpha4"])
@pytest.mark.parametrize(
    "weight, value", [(1, "1"), (0.1, "0.1"), (-5, "-5"), (1.0, "1"), (10**30, "1e30")]
)
def test_weights_are_numbers(version: str, weight: float, value: str) -> None:
    """A weight is the number as written, fractions and negative ones included."""
    split = good(mk_split(weight, version=version))

    assert isinstance(split, TrafficSplit)
    assert split.version == version
    assert split.backends == (Backend(service="b0", weight=Decimal(value)),)


@pytest.mark.parametrize("version", ["v1alpha2", "v1alpha3", "v1alpha4"])
@pytest.mark.parametrize("weight", ["1", "500m", None, True, [], 1e999])
def test_weights_that_are_no_numbers(version: str, weight: object) -> None:
    """Quantities belong to v1alpha1 only."""
    problem = bad(mk_split(weight, version=version))

    assert (problem.code, problem.field) == (
        ProblemCode.INVALID_OBJECT,
        "spec.backends[0].weight",
    )


@pytest.mark.parametrize(
    "weight, backend",
    [
        ("500m", Backend(service="b0", weight=Decimal("0.5"), written="500m")),
        (" 1 ", Backend(service="b0", weight=Decimal(1), written=" 1 ")),
        (100, Backend(service="b0", weight=Decimal(100))),
        (0.5, Backend(service="b0", weight=Decimal("0.5"))),
        (None, Backend(service="b0")),
    ],
)
def test_weights_of_the_first_version(weight: object, backend: Backend) -> None:
    """v1alpha1 has quantities, accepts integers, and a weight may be missing."""
    split = good(mk_split(weight, version="v1alpha1"))

    assert isinstance(split, TrafficSplit)
    assert split.backends == (backend,)


def test_a_bad_quantity() -> None:
    """What is no quantity is refused with its place."""
    problem = bad(mk_split("500m", "half", version="v1alpha1"))

    assert problem.field == "spec.backends[1].weight"
    assert "'half'" in problem.message


@pytest.mark.parametrize("version", ["v1alpha1", "v1alpha2"])
def test_matches_in_a_version_without_them(version: str) -> None:
    """An A/B split in a version that cannot say it is refused, never taken for everybody's."""
    document = mk_split(1, version=version)
    document["spec"]["matches"] = []

    problem = bad(document)

    assert (problem.code, problem.field) == (ProblemCode.UNKNOWN_FIELD, "spec.matches")


@pytest.mark.parametrize(
    "document, field, cure",
    [
        (
            mk("TrafficTarget", spec={"rulez": []}),
            "spec.rulez",
            "Did you mean rules? Rename or remove it.",
        ),
        (
            mk("TrafficTarget", spec={"sources": [{"kind": "a", "name": "b", "zone": 1}]}),
            "spec.sources[0].zone",
            "Remove it; the fields here are: kind, name, namespace.",
        ),
        (mk("HTTPRouteGroup", matches=[]), "matches", "Move it to spec.matches."),
        (
            mk("TCPRoute", spec={"matches": {"port": [80]}}),
            "spec.matches.port",
            "Did you mean ports? Rename or remove it.",
        ),
        (
            mk("UDPRoute", sport=1),
            "sport",
            "Remove it; the fields here are: apiVersion, kind, metadata, spec, status.",
        ),
    ],
)
def test_unknown_fields(document: object, field: str, cure: str) -> None:
    """An unknown field could be a restriction: the object is refused, the nearest name given."""
    problem = bad(document)

    assert (problem.code, problem.field, problem.cure) == (ProblemCode.UNKNOWN_FIELD, field, cure)
