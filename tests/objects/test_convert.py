"""Conversion by example: what each version shows, what is kept, and until when it counts."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from smi_xds.objects.convert import convert, would_widen
from smi_xds.objects.faults import ParseError
from smi_xds.objects.metadata import CONVERTED_ANNOTATION
from smi_xds.objects.parse import FORMS, JsonParser, MeshObject, Parsed, Refused, parse
from smi_xds.objects.smi import (
    Backend,
    HTTPMatch,
    HTTPRouteGroup,
    TCPRoute,
    TrafficSplit,
    TrafficTarget,
)
from smi_xds.objects.versions import SMI_KINDS
from smi_xds.problems import ProblemCode

WEB = {"kind": "ServiceAccount", "name": "web"}
DB = {"kind": "ServiceAccount", "name": "db"}
RULES = [{"kind": "TCPRoute", "name": "all"}]


def mk(kind: str, version: str, **fields: Any) -> dict[str, Any]:
    return {
        "apiVersion": f"{SMI_KINDS[kind].group}/{version}",
        "kind": kind,
        "metadata": {"name": "it", "namespace": "shop"},
        **fields,
    }


def mk_target(destination: Mapping[str, Any], *sources: Mapping[str, Any]) -> dict[str, Any]:
    return {"destination": destination, "rules": RULES, "sources": list(sources)}


def split_spec(*weights: object, **spec: Any) -> dict[str, Any]:
    backends = [{"service": f"v{n}", "weight": weight} for n, weight in enumerate(weights)]
    return {"service": "web", "backends": backends, **spec}


def split_of(*weights: object) -> dict[str, Any]:
    return {"spec": split_spec(*weights)}


def mk_split(version: str, *weights: object, **spec: Any) -> dict[str, Any]:
    return mk("TrafficSplit", version, spec=split_spec(*weights, **spec))


def with_fields(document: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    """What a writer makes of an object that it read: other fields, all metadata kept."""
    head = {key: document[key] for key in ("apiVersion", "kind", "metadata")}
    return {**head, **fields}


def bare(document: Mapping[str, Any]) -> dict[str, Any]:
    """What a writer makes of it that keeps no annotations."""
    return {**document, "metadata": {"name": "it", "namespace": "shop"}}


def read(document: Mapping[str, Any]) -> MeshObject:
    outcome = parse(document)
    assert isinstance(outcome, Parsed), outcome
    return outcome.object


def is_annotated(document: Mapping[str, Any]) -> bool:
    return CONVERTED_ANNOTATION in document["metadata"].get("annotations", {})


RESTRICTED = mk("TrafficTarget", "v1alpha2", spec=mk_target({**WEB, "port": 8080}, DB))
PLAIN = mk("TrafficTarget", "v1alpha2", spec=mk_target(WEB, DB))
HEADED = mk(
    "HTTPRouteGroup",
    "v1alpha4",
    spec={"matches": [{"name": "a", "pathRegex": "/a", "headers": [{"x": "1"}]}, {"name": "b"}]},
)
PORTED = mk("TCPRoute", "v1alpha4", spec={"matches": {"ports": [80]}})
SPLIT_SOME = mk_split("v1alpha4", 90, 10, matches=[{"kind": "HTTPRouteGroup", "name": "beta"}])
FOREIGN = {"kind": "IdentityBinding", "name": "all", "group": "example.com"}
GROUPED = mk("TrafficTarget", "v1alpha4", spec=mk_target(FOREIGN, FOREIGN, WEB))


@pytest.mark.parametrize(
    "document, version, shown, annotated",
    [
        (PLAIN, "v1alpha1", {"destination": WEB, "specs": RULES, "sources": [DB]}, False),
        (PLAIN, "v1alpha4", {"spec": mk_target(WEB, DB)}, False),
        (
            mk("TrafficTarget", "v1alpha1", destination=WEB),
            "v1alpha3",
            {"spec": {"destination": WEB, "rules": [], "sources": []}},
            True,
        ),
        (RESTRICTED, "v1alpha3", {"spec": mk_target(WEB, DB)}, True),
        (
            RESTRICTED,
            "v1alpha1",
            {"destination": {**WEB, "port": 8080}, "specs": RULES, "sources": [DB]},
            False,
        ),
        (
            GROUPED,
            "v1alpha3",
            {
                "spec": mk_target(
                    {"kind": "IdentityBinding", "name": "all"},
                    {"kind": "IdentityBinding", "name": "all"},
                    WEB,
                )
            },
            True,
        ),
        (HEADED, "v1alpha1", {"matches": [{"name": "a", "pathRegex": "/a"}, {"name": "b"}]}, True),
        (HEADED, "v1alpha2", {"matches": HEADED["spec"]["matches"]}, False),
        (PORTED, "v1alpha3", {"spec": {}}, True),
        (PORTED, "v1alpha1", {}, True),
        (mk("TCPRoute", "v1alpha1"), "v1alpha4", {"spec": {}}, False),
        (mk_split("v1alpha1", "0", "100"), "v1alpha4", split_of(0, 100), False),
        (mk_split("v1alpha3", 0, 100), "v1alpha1", split_of("0", "100"), False),
        (mk_split("v1alpha4", 0.5, 1), "v1alpha1", split_of("500m", "1"), True),
        (mk_split("v1alpha1", "50m", "50m"), "v1alpha2", split_of(50, 50), True),
        (mk_split("v1alpha1", "500m", "1"), "v1alpha2", split_of(500, 1000), True),
        (mk_split("v1alpha1", 1000, "bad"), "v1alpha2", split_of(1000, 0), True),
        (SPLIT_SOME, "v1alpha2", split_of(90, 10), True),
        (SPLIT_SOME, "v1alpha3", {"spec": SPLIT_SOME["spec"]}, False),
    ],
)
def test_what_is_shown(
    document: Mapping[str, Any], version: str, shown: Mapping[str, Any], annotated: bool
) -> None:
    """A version shows what it has fields for; the annotation is there only if that is not all."""
    seen = convert(document, version)

    assert with_fields(seen, **shown) == seen
    assert with_fields(seen).keys() | shown.keys() == seen.keys()
    assert is_annotated(seen) == annotated


def test_a_missing_weight() -> None:
    """A weight that v1alpha1 may leave out is shown as 0, as which it counts."""
    spec = {"service": "web", "backends": [{"service": "v0"}, {"service": "v1", "weight": "1"}]}

    seen = convert(mk("TrafficSplit", "v1alpha1", spec=spec), "v1alpha4")

    assert [it["weight"] for it in seen["spec"]["backends"]] == [0, 1]


def test_a_weight_of_flagger() -> None:
    """What Flagger's next weight makes of the text of a quantity: the new number counts."""
    seen = convert(mk_split("v1alpha1", "50m", "50m"), "v1alpha4")

    split = read(with_fields(seen, spec=split_spec(25, 75)))

    assert isinstance(split, TrafficSplit)
    assert [int(it.weight or 0) for it in split.backends] == [25, 75]


@pytest.mark.parametrize("version", ["v1alpha3", "v1alpha4"])
def test_a_port_that_is_not_shown_restricts(version: str) -> None:
    """Read in a version without the field, the port still restricts; so it does in raw JSON."""
    seen = convert(RESTRICTED, version)

    target = read(seen)

    assert isinstance(target, TrafficTarget)
    assert (target.destination_port, target.version) == (8080, "v1alpha2")
    assert target.annotations == ()
    parser = JsonParser(FORMS[seen["apiVersion"], "TrafficTarget"])
    assert parser.parse(json.dumps(seen).encode()) == Parsed(target)


def test_a_port_stays_while_others_things_are_edited() -> None:
    """Another source is no change of the destination: its port goes on to restrict."""
    seen = convert(RESTRICTED, "v1alpha3")
    edited = with_fields(seen, spec=mk_target({**WEB, "namespace": "shop"}, DB, WEB))

    target = read(edited)

    assert isinstance(target, TrafficTarget)
    assert target.destination_port == 8080
    assert len(target.sources or ()) == 2
    assert would_widen(seen, edited) is None
    again = convert(edited, "v1alpha2")
    assert again["spec"]["destination"] == {**WEB, "namespace": "shop", "port": 8080}


def test_a_port_goes_with_its_destination() -> None:
    """A port is that of one destination: another one has none, which is refused as an update."""
    seen = convert(RESTRICTED, "v1alpha3")
    edited = with_fields(seen, spec=mk_target(DB, WEB))
    target = read(edited)
    problem = would_widen(seen, edited)

    assert isinstance(target, TrafficTarget)
    assert target.destination_port is None
    assert problem is not None
    assert str(problem) == (
        "error: TrafficTarget shop/it spec.destination.port: the update drops a restriction that "
        "v1alpha3 cannot show: 8080 [HiddenRestriction] Keep the annotation smi-xds.io/converted, "
        "or change the object as traffictargets.v1alpha2.access.smi-spec.io."
    )


def test_a_port_that_is_written_where_it_has_no_field() -> None:
    """A port in v1alpha3 is obeyed, comes back to its place, and wins over a hidden one."""
    written = mk("TrafficTarget", "v1alpha3", spec=mk_target({**WEB, "port": 80}, DB))
    seen = convert(written, "v1alpha4")
    both = with_fields(convert(RESTRICTED, "v1alpha3"), spec=written["spec"])

    assert "port" not in seen["spec"]["destination"]
    assert convert(seen, "v1alpha3") == written
    target = read(both)
    assert isinstance(target, TrafficTarget)
    assert target.destination_port == 80


def test_what_no_version_can_show() -> None:
    """A port and a group, of which each version has but one, are kept together."""
    seen = convert(convert(GROUPED, "v1alpha3"), "v1alpha2")
    spec = seen["spec"]
    edited = with_fields(seen, spec={**spec, "destination": {**spec["destination"], "port": 8080}})
    shown = convert(edited, "v1alpha3")

    target = read(shown)

    assert isinstance(target, TrafficTarget)
    assert target.destination is not None
    assert (target.destination_port, target.destination.group) == (8080, "example.com")
    assert convert(shown, "v1alpha2")["spec"] == edited["spec"]
    assert convert(shown, "v1alpha4")["spec"] == GROUPED["spec"]


def test_headers_that_are_not_shown() -> None:
    """Headers stay with their match while it looks as it did, whatever else is edited."""
    seen = convert(HEADED, "v1alpha1")
    edited = with_fields(seen, matches=[{"name": "c"}, seen["matches"][0]])

    assert read(edited) == HTTPRouteGroup(
        namespace="shop",
        name="it",
        matches=(
            HTTPMatch(name="c"),
            HTTPMatch(name="a", path_regex="/a", headers=(("x", "1"),)),
        ),
    )
    assert would_widen(seen, edited) is None


@pytest.mark.parametrize(
    "matches, is_refused",
    [
        ([{"name": "a", "pathRegex": "/b"}], True),
        ([{"name": "other", "pathRegex": "/a"}], True),
        ([{"name": "other", "pathRegex": "/other"}], False),
        ([{"name": "b"}], False),
        ([], False),
    ],
)
def test_updates_that_drop_headers(matches: list[Any], is_refused: bool) -> None:
    """A match may go, but not lose its headers by an edit or by another name."""
    seen = convert(HEADED, "v1alpha1")

    assert (would_widen(seen, with_fields(seen, matches=matches)) is not None) == is_refused


def test_ports_of_a_tcp_route_that_are_not_shown() -> None:
    """A version that shows nothing of a TCPRoute can change nothing of it."""
    seen = convert(PORTED, "v1alpha3")

    for edited in (seen, with_fields(seen)):
        assert read(edited) == TCPRoute(namespace="shop", name="it", ports=(80,))
        assert would_widen(seen, edited) is None


@pytest.mark.parametrize(
    "old, version",
    [
        (RESTRICTED, "v1alpha3"),
        (RESTRICTED, "v1alpha4"),
        (GROUPED, "v1alpha1"),
        (HEADED, "v1alpha1"),
        (PORTED, "v1alpha1"),
        (PORTED, "v1alpha3"),
        (SPLIT_SOME, "v1alpha1"),
        (SPLIT_SOME, "v1alpha2"),
    ],
)
def test_writers_that_keep_no_annotations(old: Mapping[str, Any], version: str) -> None:
    """An update that loses the annotation, and with it a restriction, is refused."""
    seen = convert(old, version)

    problem = would_widen(old, bare(seen))

    assert problem is not None
    assert problem.code is ProblemCode.HIDDEN_RESTRICTION
    assert would_widen(old, seen) is None


def test_a_restricted_source_that_goes() -> None:
    """With a source goes its group; nothing is dropped that is still there."""
    seen = convert(GROUPED, "v1alpha3")
    spec = {**seen["spec"], "sources": [WEB]}

    assert would_widen(seen, with_fields(seen, spec=spec)) is None


def test_a_split_of_some_requests() -> None:
    """Weights change, and the split stays one of some requests; with its root that ends."""
    seen = convert(SPLIT_SOME, "v1alpha1")
    moved = with_fields(seen, spec=split_spec("50", "50"))
    other = with_fields(seen, spec=split_spec("50", service="other"))
    split, others = read(moved), read(other)

    assert isinstance(split, TrafficSplit)
    assert split.matches is not None
    assert split.backends[0] == Backend(service="v0", weight=split.backends[1].weight, written="50")
    assert isinstance(others, TrafficSplit)
    assert others.matches is None
    assert would_widen(seen, moved) is None
    assert would_widen(seen, other) is not None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        "7",
        "[" * 10**5,
        '{"version": "v9", "fields": {}}',
        '{"version": "v1alpha2", "fields": 7}',
        '{"version": "v1alpha2", "fields": {"spec": 7}}',
        '{"version": "v1alpha1", "fields": {"destination": 7, "sources": 7}}',
        '{"version": "hub", "fields": {"spec": {"destination": {"port": 1}, "sources": [7]}}}',
        None,
        7,
    ],
)
def test_annotations_of_somebody_else(text: object) -> None:
    """What is not ours, or does not fit, is as good as not there."""
    document = {**PLAIN, "apiVersion": "access.smi-spec.io/v1alpha3"}
    document["metadata"] = {**PLAIN["metadata"], "annotations": {CONVERTED_ANNOTATION: text}}

    seen = convert(document, "v1alpha1")

    assert seen == convert(PLAIN, "v1alpha1")
    if isinstance(text, str):
        target = read(document)
        assert isinstance(target, TrafficTarget)
        assert target.destination_port is None


@pytest.mark.parametrize(
    "document, fields",
    [
        (mk("UDPRoute", "v1alpha4", spec={}), {"spec": {"matches": {"ports": [53]}}}),
        (mk("TCPRoute", "v1alpha4", spec={}), {"spec": {"matches": {"ports": [53]}}}),
        (mk("TCPRoute", "v1alpha3", spec={}), {"status": {}}),
        (mk_split("v1alpha4", 1), {"spec": split_spec(1, matches=[])}),
    ],
)
def test_annotations_that_contradict(document: dict[str, Any], fields: Mapping[str, Any]) -> None:
    """What the fields can say themselves is what they say."""
    text = json.dumps({"version": document["apiVersion"].partition("/")[2], "fields": fields})
    document["metadata"] = {**document["metadata"], "annotations": {CONVERTED_ANNOTATION: text}}

    assert read(document) == read(bare(document))


def test_an_annotation_with_a_mistake() -> None:
    """Where what was kept cannot be obeyed, the object is refused: it could have restricted."""
    written = mk("TrafficTarget", "v1alpha2", spec=mk_target({**WEB, "port": "x"}, DB))

    outcome = parse(convert(written, "v1alpha3"))

    assert isinstance(outcome, Refused)
    assert outcome.problem.field == "spec.destination.port"


@pytest.mark.parametrize(
    "document",
    [
        mk("TrafficTarget", "v1alpha1", destination=7, specs=7, sources=[7, {}]),
        mk("TrafficTarget", "v1alpha4", spec={"destination": None, "sources": [None]}),
        mk("TrafficTarget", "v1alpha4", spec=7),
        mk("HTTPRouteGroup", "v1alpha2", matches=[7, {"headers": 7}]),
        mk("HTTPRouteGroup", "v1alpha3", spec={"matches": {}}),
        mk("TCPRoute", "v1alpha4", spec={"matches": 7}),
        mk("TrafficSplit", "v1alpha1", spec={"backends": [7, {"weight": True}, {"weight": "x"}]}),
        mk("TrafficSplit", "v1alpha4", spec={"backends": 7, "matches": 7}),
        mk("TrafficSplit", "v1alpha4", spec={"backends": [{"weight": float("inf")}]}),
        {**mk("TCPRoute", "v1alpha4"), "metadata": 7},
        mk("UDPRoute", "v1alpha4", spec=7),
    ],
)
def test_documents_that_are_no_objects(document: Mapping[str, Any]) -> None:
    """Conversion judges nothing: it goes through with whatever it is given."""
    for version in SMI_KINDS[document["kind"]].versions:
        seen = convert(document, version)

        assert would_widen(document, seen) is None


@pytest.mark.parametrize(
    "document, version, message",
    [
        (mk("TrafficTarget", "v1alpha3"), "v2", "TrafficTarget of version 'v2' is not supported"),
        (mk("UDPRoute", "v1alpha4"), "v1alpha3", "UDPRoute of version 'v1alpha3' is not supported"),
        (
            {"apiVersion": "v1", "kind": "TCPRoute"},
            "v1alpha4",
            "TCPRoute of version 'v1' is not supported",
        ),
        ({"apiVersion": "v1", "kind": "Pod"}, "v1", "'Pod' has no versions"),
        ({}, "v1", "'None' has no versions"),
    ],
)
def test_what_cannot_be_converted(document: Mapping[str, Any], version: str, message: str) -> None:
    """Versions and kinds that are none are told."""
    with pytest.raises(ParseError) as fault:
        convert(document, version)

    assert str(fault.value) == message
