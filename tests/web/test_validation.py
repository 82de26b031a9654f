"""AdmissionReviews, answered."""

from collections.abc import Mapping
from typing import Any

import pytest

from smi_xds.objects.convert import convert
from smi_xds.objects.metadata import CONVERTED_ANNOTATION
from smi_xds.objects.smi import SmiObject
from smi_xds.problems import Problem, ProblemCode
from smi_xds.values import ObjectRef
from smi_xds.web.review import Verdict
from smi_xds.web.validation import validate_review
from tests.support.mesh import build_mesh
from tests.web.reviews import admission, response, split

BETA = [{"kind": "HTTPRouteGroup", "name": "beta"}]


def nothing(_: SmiObject) -> tuple[Problem, ...]:
    return ()


def judge(new: object, old: object = None, **request: object) -> Mapping[str, Any]:
    return response(validate_review(admission(new, old, **request), foresee=nothing))


def without(document: Mapping[str, Any], annotation: str) -> dict[str, Any]:
    annotations = {k: v for k, v in document["metadata"]["annotations"].items() if k != annotation}
    return {**document, "metadata": {**document["metadata"], "annotations": annotations}}


def mk_problem(number: int, message: str = "is wrong") -> Problem:
    return Problem(
        ref=ObjectRef("TrafficSplit", "shop", "it"),
        field=f"spec.backends[{number}]",
        code=ProblemCode.MISSING_BACKEND,
        message=message,
        cure="Mend it.",
    )


def test_what_is_right_is_allowed() -> None:
    """Without a word."""
    allowed = {"allowed": True}

    for answered in (judge(split(1)), judge(split(2), split(1)), judge(split(1), dryRun=True)):
        assert {k: v for k, v in answered.items() if k != "uid"} == allowed


@pytest.mark.parametrize(
    "new, message",
    [
        (
            split(1, mirror="x"),
            "spec.mirror: the field mirror is unknown in this version [UnknownField] Remove it;",
        ),
        (
            split(1, version="v1alpha2", matches=BETA),
            "spec.matches: the field matches is unknown in this version [UnknownField]",
        ),
        (split("many", version="v1alpha1"), "'many' is not a quantity [InvalidObject] Write a"),
        (
            split(1) | {"spec": {"backends": []}},
            "spec.service: a required field is missing [InvalidObject] Add spec.service.",
        ),
        (
            split(1) | {"apiVersion": "split.smi-spec.io/v9"},
            "apiVersion: TrafficSplit of version 'v9' is not supported [UnsupportedVersion]",
        ),
        ({"apiVersion": "v1"}, "kind: must be a string [InvalidObject] Add kind."),
    ],
)
def test_what_can_never_work_is_refused(new: object, message: str) -> None:
    """As a whole, with the message that `check` has for it."""
    answered = judge(new)

    assert (answered["allowed"], answered["status"]["code"]) == (False, 422)
    told = answered["status"]["message"]
    assert message in told
    assert "shop/it " in told or new == {"apiVersion": "v1"}
    assert answered["status"]["reason"] == "Invalid"
    assert judge(new, split(1))["allowed"] is False


def test_what_was_there_before_can_be_kept_and_deleted() -> None:
    """An object that we would refuse loses its finalizers all the same, with a warning."""
    bad = split(1, mirror="x")
    finalized = {**bad, "metadata": {**bad["metadata"], "finalizers": ["example.com/a"]}}

    answered = judge(bad, finalized)

    assert answered["allowed"] is True
    assert "mirror is unknown" in answered["warnings"][0]
    assert judge(split(2, mirror="x"), finalized)["allowed"] is False


def test_a_restriction_is_not_dropped_unseen() -> None:
    """Who reads an older version and writes it back without our annotation would widen access."""
    stored = split(1, 2, matches=BETA)
    seen = convert(stored, "v1alpha2")
    rewritten = without(seen, CONVERTED_ANNOTATION)

    answered = judge(rewritten, seen)

    assert (answered["allowed"], answered["status"]["code"]) == (False, 403)
    message = answered["status"]["message"]
    assert message.startswith(
        "TrafficSplit shop/it spec.matches: the update drops a restriction that v1alpha2 cannot "
        'show: [{"kind":"HTTPRouteGroup",'
    )
    assert "[HiddenRestriction] Keep the annotation" in message
    assert judge(seen, seen)["allowed"] is True
    # Who can see it may drop it.
    assert judge(split(1, 2), stored)["allowed"] is True
    # As may who makes the object anew.
    assert judge(rewritten)["allowed"] is True


def test_what_no_annotation_can_hold_is_refused() -> None:
    """One that cannot be read in some version makes every list of that version fail."""
    matches = [{"kind": "HTTPRouteGroup", "name": f"route-{n}"} for n in range(8000)]
    large, small = split(1, matches=matches), split(1, matches=matches[:4000])
    annotated = small | {"metadata": {**small["metadata"], "annotations": {"a": "x" * 200_000}}}

    for each in (large, annotated):
        answered = judge(each)
        assert (answered["allowed"], answered["status"]["code"]) == (False, 413)
        message = answered["status"]["message"]
        assert message.startswith("TrafficSplit shop/it: is too large to be read in v1alpha1: ")
        # It was there before: its finalizers can go.
        assert judge(each, each)["allowed"] is True
        assert judge(each, split(2, matches=matches))["allowed"] is False
    assert judge(small)["allowed"] is True
    # Where every version shows everything, nothing is kept in an annotation.
    backends = [{"service": f"v{n}", "weight": 1} for n in range(10_000)]
    assert judge(split(1) | {"spec": {"service": "web", "backends": backends}})["allowed"] is True


def test_an_old_object_that_nobody_knows_restricts_nothing() -> None:
    """It is not in the way of a good one."""
    assert judge(split(1), split(1) | {"apiVersion": "split.smi-spec.io/v9"})["allowed"] is True
    assert judge(split(1), split(1) | {"kind": "Other"})["allowed"] is True


def test_deleting_is_allowed() -> None:
    """Whatever is deleted; there is no object then."""
    for operation in ("DELETE", "CONNECT"):
        answered = judge(None, split(1, mirror="x"), operation=operation)

        assert answered["allowed"] is True


def test_kinds_of_others_are_allowed() -> None:
    """A configuration that asks us about more than it should harms nobody."""
    answered = judge({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {}})

    assert answered["allowed"] is True


def test_a_pod_is_none_of_its_business() -> None:
    """What we read for the mesh, but is not SMI, is not judged."""
    pod = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "it"}}

    assert judge(pod)["allowed"] is True


def test_names_that_are_still_to_be_made() -> None:
    """`generateName`, and a namespace that only the request has, are no mistakes."""
    seen: list[SmiObject] = []

    def foresee(it: SmiObject) -> tuple[Problem, ...]:
        seen.append(it)
        return ()

    for metadata, name in (({"generateName": "it-"}, ""), ({}, "it")):
        body = admission(split(1) | {"metadata": metadata}, name=name)
        assert response(validate_review(body, foresee=foresee))["allowed"] is True

    assert [(it.namespace, it.name) for it in seen] == [("shop", "it-x"), ("shop", "it")]


def test_what_the_mesh_finds_is_a_warning() -> None:
    """It may become right when other objects come."""

    def foresee(_: SmiObject) -> tuple[Problem, ...]:
        return (mk_problem(1), mk_problem(0))

    answered = response(validate_review(admission(split(1)), foresee=foresee))

    assert answered["allowed"] is True
    assert answered["warnings"] == [
        "TrafficSplit shop/it spec.backends[0]: is wrong [MissingBackend] Mend it.",
        "TrafficSplit shop/it spec.backends[1]: is wrong [MissingBackend] Mend it.",
    ]


@pytest.mark.parametrize(
    "body, problems, verdict",
    [
        (admission(split(1)), 0, Verdict.ALLOWED),
        (admission(split(1)), 1, Verdict.WARNED),
        (admission(split(1, mirror="x")), 0, Verdict.REFUSED),
        (admission(None, split(1), operation="DELETE"), 0, Verdict.ALLOWED),
    ],
)
def test_how_a_review_ended_is_counted(body: bytes, problems: int, verdict: Verdict) -> None:
    """With the kind that it was about, as far as it said one."""
    found = tuple(mk_problem(number) for number in range(problems))

    reviewed = validate_review(body, foresee=lambda _: found)

    assert reviewed.verdict is verdict
    assert set(reviewed.kinds) <= {"TrafficSplit", "None"}
    assert sum(reviewed.kinds.values()) == 1


def test_fields_are_named_as_the_writer_knows_them() -> None:
    """The mesh tells them so."""
    target = {
        "apiVersion": "access.smi-spec.io/v1alpha1",
        "kind": "TrafficTarget",
        "metadata": {"name": "it", "namespace": "shop"},
        "destination": {"kind": "ServiceAccount", "name": "web"},
    }

    warned = validate_review(admission(target), foresee=lambda it: build_mesh(it).problems)

    fields = [warning.split()[2] for warning in response(warned)["warnings"]]
    assert fields == ["destination.name:", "sources:", "specs:"]


def test_warnings_are_few_and_short() -> None:
    """API servers drop all of them where they are too much."""

    def foresee(_: SmiObject) -> tuple[Problem, ...]:
        return tuple(mk_problem(number, "x" * 500) for number in range(30))

    answered = response(validate_review(admission(split(1)), foresee=foresee))

    *warnings, last = answered["warnings"]
    assert len(warnings) == 10
    assert last == "and 20 more: see smi-xds check --kubernetes"
    assert sum(map(len, answered["warnings"])) <= 4096


@pytest.mark.parametrize(
    "body, message",
    [
        (b"<html>", "the body is no JSON: "),
        (b'{"apiVersion": "admission.k8s.io/v1beta1"}', "expected admission.k8s.io/v1"),
        (admission(None), "the request of an AdmissionReview has no object"),
        (admission(split(1)).replace(b'"it"', b'"\xff"'), "the body is no JSON: "),
        (admission({"a": [1] * 500_000}), "the body holds more than 500000 values"),
    ],
)
def test_what_is_no_review_is_one_line(body: bytes, message: str) -> None:
    """400, and what is wrong."""
    reviewed = validate_review(body, foresee=nothing)
    reply = reviewed.reply

    assert (reviewed.verdict, reviewed.kinds) == (Verdict.UNREADABLE, {})
    assert reply.status == 400
    assert message in reply.body.decode()
    assert reply.body.count(b"\n") == 1
