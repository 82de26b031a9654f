"""Documents become objects, problems or nothing, and never an exception."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smi_xds.objects.kube import Service, ServiceAccount
from smi_xds.objects.parse import (
    FORMS,
    Ignored,
    JsonParser,
    Parsed,
    Refused,
    parse,
    parse_all,
)
from smi_xds.problems import Problem, ProblemCode
from smi_xds.values import ObjectRef

ACCOUNT = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "web"}}


def problem_of(document: object) -> Problem:
    outcome = parse(document)
    assert isinstance(outcome, Refused), outcome
    return outcome.problem


@pytest.mark.parametrize(
    "api_version, kind",
    [
        ("apps/v1", "Deployment"),
        ("v1", "ConfigMap"),
        ("v1", "List2"),
        ("metrics.smi-spec.io/v1alpha1", "TrafficMetrics"),
        ("example.com/v1", "TrafficTarget"),
    ],
)
def test_other_kinds(api_version: str, kind: str) -> None:
    """Kinds that the mesh does not read are passed over in silence."""
    assert parse({"apiVersion": api_version, "kind": kind, "spec": 7}) == Ignored()


@pytest.mark.parametrize(
    "api_version, kind, code, field, cure",
    [
        (
            "access.smi-spec.io/v1alpha9",
            "TrafficTarget",
            ProblemCode.UNSUPPORTED_VERSION,
            "apiVersion",
            "Write it as access.smi-spec.io/v1alpha1, access.smi-spec.io/v1alpha2, "
            "access.smi-spec.io/v1alpha3, access.smi-spec.io/v1alpha4.",
        ),
        (
            "access.smi-spec.io/v1alpha3",
            "IdentityBinding",
            ProblemCode.UNSUPPORTED_VERSION,
            "apiVersion",
            "Write it as access.smi-spec.io/v1alpha4.",
        ),
        (
            "discovery.k8s.io/v1beta1",
            "EndpointSlice",
            ProblemCode.UNSUPPORTED_VERSION,
            "apiVersion",
            "Write it as discovery.k8s.io/v1.",
        ),
        (
            "spec.smi-spec.io/v1alpha1",
            "HTTPRouteGroup",
            ProblemCode.UNSUPPORTED_VERSION,
            "apiVersion",
            "Write specs.smi-spec.io/v1alpha1.",
        ),
        (
            "spec.smi-spec.io/v1beta1",
            "HTTPRouteGroup",
            ProblemCode.UNSUPPORTED_VERSION,
            "apiVersion",
            "Write specs.smi-spec.io/v1alpha4.",
        ),
        (
            "split.smi-spec.io/v1alpha4",
            "TraficSplit",
            ProblemCode.INVALID_OBJECT,
            "kind",
            "Did you mean TrafficSplit?",
        ),
        (
            "specs.smi-spec.io/v1alpha4",
            "Xyz",
            ProblemCode.INVALID_OBJECT,
            "kind",
            "Use one of: HTTPRouteGroup, TCPRoute, UDPRoute.",
        ),
        ("v1", "service", ProblemCode.INVALID_OBJECT, "kind", "Write Service."),
    ],
)
def test_versions_and_kinds_that_are_mistakes(
    api_version: str, kind: str, code: ProblemCode, field: str, cure: str
) -> None:
    """What was meant for us but is not ours to read is a problem that says what to write."""
    problem = problem_of({"apiVersion": api_version, "kind": kind, "metadata": {"name": "it"}})

    assert (problem.code, problem.field, problem.cure) == (code, field, cure)
    assert problem.ref == ObjectRef(kind, "default", "it")


@pytest.mark.parametrize(
    "document, ref, field",
    [
        (7, ObjectRef("", "", ""), ""),
        ([], ObjectRef("", "", ""), ""),
        ({}, ObjectRef("", "", ""), "apiVersion"),
        ({"apiVersion": "v1"}, ObjectRef("", "", ""), "kind"),
        ({"apiVersion": 1, "kind": "Service"}, ObjectRef("Service", "", ""), "apiVersion"),
        ({"apiVersion": "v1", "kind": "Service"}, ObjectRef("Service", "", ""), "metadata"),
        (
            {"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "a"}},
            ObjectRef("Service", "a", ""),
            "metadata.name",
        ),
        (
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "A\n" + "b" * 99}},
            ObjectRef("Namespace", "", "A\\n" + "b" * 74 + "..."),
            "metadata.name",
        ),
        (
            {"apiVersion": "v1", "kind": "Service", "metadata": []},
            ObjectRef("Service", "", ""),
            "metadata",
        ),
    ],
)
def test_documents_that_are_no_objects(document: object, ref: ObjectRef, field: str) -> None:
    """What has no kind or name is refused, by what can be told of it; nothing breaks a line."""
    problem = problem_of(document)

    assert (problem.ref, problem.field) == (ref, field)


A_MAP = "Write it as a map: 'name: value', indented, on lines of their own."
A_LIST = "Write it as a list: start each entry with '- '."
A_NUMBER = "Write a whole number, without quotes."
A_BOOL = "Write true or false, without quotes."
A_VALUE = "Give it a value, or remove the field."
A_TARGET = "Give it a whole number or a string."
IN_QUOTES = "Put it in quotes."
IN_RANGE = "Use a number from 1 to 65535."
WHOLE = "must be a whole number"


def a_port(**fields: object) -> dict[str, object]:
    return {"ports": [fields]}


@pytest.mark.parametrize(
    "spec, message, cure",
    [
        ([], "must be a map, not a list", A_MAP),
        ({"ports": {}}, "must be a list, not a map", A_LIST),
        ({"type": 1}, "must be a string, not a whole number", IN_QUOTES),
        ({"type": 1.5}, "must be a string, not a number", IN_QUOTES),
        ({"selector": {"a": "b", "c": True}}, "must be a string, not true or false", IN_QUOTES),
        (a_port(port="80"), f"{WHOLE}, not a string", A_NUMBER),
        (a_port(port=None), f"{WHOLE}, not nothing", A_VALUE),
        (a_port(port=99999), "the number is out of range", IN_RANGE),
        (a_port(), "a required field is missing", "Add spec.ports[0].port."),
        (a_port(port=1, targetPort=[]), f"{WHOLE} or a string, not a list", A_TARGET),
        (a_port(port=1, protocol="H"), "'H' is none of: TCP, UDP, SCTP", "Use one of these."),
        ({"publishNotReadyAddresses": "yes"}, "must be true or false, not a string", A_BOOL),
    ],
)
def test_messages(spec: object, message: str, cure: str) -> None:
    """A wrong type is told in the user's words, with what to do."""
    problem = problem_of(
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": spec}
    )

    assert (problem.code, problem.message, problem.cure) == (
        ProblemCode.INVALID_OBJECT,
        message,
        cure,
    )


def test_keys_that_are_no_text() -> None:
    """Only a decoder that is not ours could give them; they are a problem, too."""
    odd: dict[object, object] = {7: 8}

    assert problem_of(odd | ACCOUNT).code is ProblemCode.INVALID_OBJECT


def test_lists() -> None:
    """Lists are taken apart, nested ones too; a typed list says the kind of its items."""
    item = {"metadata": {"name": "b"}}
    document = {
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            ACCOUNT,
            {"apiVersion": "v1", "kind": "ServiceAccountList", "items": [item, 7]},
            {"apiVersion": "v1", "kind": "PodList", "items": None},
            {"apiVersion": "v1", "kind": "ConfigMapList", "items": [{}]},
        ],
    }

    outcomes = list(parse_all(document))

    assert outcomes[:2] == [
        Parsed(ServiceAccount(namespace="default", name="web")),
        Parsed(ServiceAccount(namespace="default", name="b")),
    ]
    assert isinstance(outcomes[2], Refused)
    assert outcomes[3:] == [Ignored()]


@pytest.mark.parametrize("kind", ["List", "ServiceList"])
def test_items_that_are_no_list(kind: str) -> None:
    """A list without a list in it is refused."""
    (outcome,) = parse_all({"apiVersion": "v1", "kind": kind, "items": {"a": 1}})

    assert isinstance(outcome, Refused)
    assert outcome.problem.field == "items"


def test_raw_json() -> None:
    """Raw JSON gives what its decoded document gives, with or without its kind."""
    parser = JsonParser(FORMS["v1", "ServiceAccount"])
    expected = Parsed(ServiceAccount(namespace="default", name="web"))

    assert parser.parse(json.dumps(ACCOUNT).encode()) == expected
    assert parser.parse(b'{"metadata": {"name": "web"}}') == expected
    assert parser.parse(msgspec.Raw(b'{"metadata": {"name": "web"}}')) == expected


def test_raw_json_of_a_refused_object() -> None:
    """What does not fit is refused as its document would be."""
    document = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "A"}}
    parser = JsonParser(FORMS["v1", "Service"])

    assert parser.parse(json.dumps(document).encode()) == parse(document)
    assert parser.parse(b"[]") == parse([])


def test_raw_json_that_is_ignored() -> None:
    """A slice of no Service is ignored here too."""
    parser = JsonParser(FORMS["discovery.k8s.io/v1", "EndpointSlice"])

    assert parser.parse(b'{"metadata": {"name": "a"}, "addressType": "IPv4"}') == Ignored()


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b'{"metadata": {"name": "\xff"}}', b'{"x":' + b"[" * 10**5 + b"]" * 10**5 + b"}"],
)
def test_raw_bytes_that_are_no_json(raw: bytes) -> None:
    """Broken bytes are a problem of the kind that they were to be."""
    outcome = JsonParser(FORMS["v1", "Pod"]).parse(raw)

    assert isinstance(outcome, Refused)
    assert outcome.problem.ref == ObjectRef("Pod", "", "")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=12,
)
# Words that lead deep into a document.
WORDS = st.sampled_from(
    [
        "metadata",
        "name",
        "namespace",
        "labels",
        "spec",
        "ports",
        "port",
        "status",
        "matches",
        "backends",
        "weight",
        "service",
        "endpoints",
        "addresses",
        "rules",
        "sources",
        "kind",
        "destination",
        "headers",
        "containers",
        "podIP",
        "annotations",
        "targetPort",
        "items",
    ]
)
SHAPED = st.recursive(
    st.sampled_from(["web", "a.b", "", "10.1.2.3", 80, 0, -1, 1.5, None, True, "*", "\x00"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=5),
    max_leaves=30,
)


@given(JSON)
def test_any_json(document: object) -> None:
    """Whatever a document holds, parsing gives an outcome."""
    for outcome in parse_all(document):
        assert isinstance(outcome, Parsed | Refused | Ignored)


@given(st.sampled_from(sorted(FORMS)), st.dictionaries(WORDS, SHAPED, max_size=5))
def test_any_document_of_ours(form: tuple[str, str], fields: dict[str, Any]) -> None:
    """Whatever stands in an object of ours, parsing gives an outcome with one line of text."""
    document = {**fields, "apiVersion": form[0], "kind": form[1]}
    outcome = parse(document)

    raw = json.dumps({**document, "apiVersion": form[0]}).encode()
    assert JsonParser(FORMS[form]).parse(raw) == outcome
    if isinstance(outcome, Refused):
        assert str(outcome.problem).isprintable()


def test_an_object_that_is_whole() -> None:
    """The table leads to the types of the hub."""
    outcome = parse({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}})

    assert outcome == Parsed(Service(namespace="default", name="web"))
