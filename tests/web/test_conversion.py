"""ConversionReviews, answered."""

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smi_xds.objects.convert import convert
from smi_xds.objects.versions import SMI_KINDS
from smi_xds.web import conversion as conversions
from smi_xds.web.conversion import convert_review
from smi_xds.web.review import Verdict
from tests.support.smi_documents import KINDS_AND_VERSIONS, of_any_version
from tests.web.reviews import conversion, response, split

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["spec", "matches", "backends", "weight", "headers", "destination"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@st.composite
def shapeless(draw: st.DrawFn) -> tuple[dict[str, Any], str]:
    """An object of one of our kinds whose fields are anything, and a version to have it in."""
    kind, version = draw(st.sampled_from(KINDS_AND_VERSIONS))
    head = {"apiVersion": f"{SMI_KINDS[kind].group}/{version}", "kind": kind}
    body = draw(st.dictionaries(st.sampled_from(["spec", "matches", "sources"]), JSON))
    metadata = draw(st.just({"name": "it"}) | JSON)
    wanted = draw(st.sampled_from(SMI_KINDS[kind].versions))
    return {**head, "metadata": metadata, **body}, f"{SMI_KINDS[kind].group}/{wanted}"


@pytest.mark.parametrize("kind, version", KINDS_AND_VERSIONS)
@settings(max_examples=15)  # the laws of conversion itself are tried in tests/objects
@given(data=st.data())
def test_objects_are_converted_in_order(kind: str, version: str, data: st.DataObject) -> None:
    """As many come back as were sent, in their order and lossless; metadata keeps all its fields
    but annotations."""
    sent = data.draw(st.lists(of_any_version(kind), max_size=3))
    desired = f"{SMI_KINDS[kind].group}/{version}"

    answered = response(convert_review(conversion(sent, desired)))

    assert answered["result"] == {"status": "Success"}
    converted = answered["convertedObjects"]
    assert [it["apiVersion"] for it in converted] == [desired] * len(sent)
    for before, after in zip(sent, converted, strict=True):
        assert after == convert(before, version)
        assert _without_annotations(after) == _without_annotations(before)
        back = before["apiVersion"]
        [restored] = response(convert_review(conversion([after], back)))["convertedObjects"]
        assert restored == before


def _without_annotations(it: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in it["metadata"].items() if key != "annotations"}


@given(shapeless())
def test_whatever_stands_in_its_fields_is_converted(asked: tuple[dict[str, Any], str]) -> None:
    """Objects that no schema would let through do not stop anything."""
    it, desired = asked

    answered = response(convert_review(conversion([it], desired)))

    assert answered["result"]["status"] == "Success"


@pytest.mark.parametrize(
    "bad, message",
    [
        (
            split(1) | {"kind": "TrafficSplits"},
            "TrafficSplits shop/it kind: 'TrafficSplits' has no versions. Use one of:",
        ),
        (
            split(1) | {"apiVersion": "split.smi-spec.io/v9"},
            "TrafficSplit shop/it apiVersion: TrafficSplit of version 'v9' is not supported. Write",
        ),
        (
            split(1) | {"apiVersion": "access.smi-spec.io/v1alpha3"},
            "TrafficSplit shop/it apiVersion: is of the group 'access.smi-spec.io', and "
            "'split.smi-spec.io/v1alpha2' was asked for. Ask for",
        ),
        ("split", "objects[1] is no object"),
        ({}, " apiVersion: is of the group ''"),
    ],
)
def test_one_bad_object_fails_the_review_by_its_name(bad: object, message: str) -> None:
    """The message says which and why; no object is given back."""
    sent = [split(1), bad, split(2)]

    answered = response(convert_review(conversion(sent, "split.smi-spec.io/v1alpha2")))

    assert answered["result"]["status"] == "Failure"
    assert message in answered["result"]["message"]
    assert answered["convertedObjects"] == []


def test_a_version_that_is_not_there_is_told() -> None:
    """Somebody added a version to the CRD that we know nothing of."""
    answered = response(convert_review(conversion([split(1)], "split.smi-spec.io/v1")))

    assert "'v1' is not supported" in answered["result"]["message"]


def test_an_object_that_is_nested_too_deeply_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is that object's fault alone."""

    def too_deep(*_: object) -> dict[str, Any]:
        raise RecursionError

    monkeypatch.setattr("smi_xds.web.conversion.convert", too_deep)

    answered = response(convert_review(conversion([split(1)], "split.smi-spec.io/v1alpha1")))

    assert answered["result"]["message"] == "TrafficSplit shop/it is nested too deeply"


DEEP = b"[" * 100_000 + b"]" * 100_000
HEAD = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview"}


@pytest.mark.parametrize(
    "body, message",
    [
        (b"", "the body is no JSON: "),
        (b"{", "the body is no JSON: "),
        (b'{"kind": "\xff"}', "the body is no JSON: "),
        (b'{"a": ' + DEEP + b"}", "the body is no JSON: "),
        (b"{" * 2_000_001, "the body holds more than 2000000 values"),
        (DEEP, "the body is no ConversionReview"),
        (b"[]", "the body is no ConversionReview"),
        (b"{}", "expected apiextensions.k8s.io/v1 ConversionReview, not None None: correct"),
        (
            json.dumps(HEAD | {"apiVersion": "apiextensions.k8s.io/v1beta1"}).encode(),
            "not apiextensions.k8s.io/v1beta1 ConversionReview",
        ),
        (json.dumps(HEAD).encode(), "the ConversionReview has no request with a uid"),
        (json.dumps(HEAD | {"request": {"uid": 1}}).encode(), "has no request with a uid"),
        (
            json.dumps(HEAD | {"request": {"uid": "1", "objects": {}}}).encode(),
            "the request of a ConversionReview needs objects and desiredAPIVersion",
        ),
        (
            json.dumps(HEAD | {"request": {"uid": "1", "objects": []}}).encode(),
            "the request of a ConversionReview needs objects and desiredAPIVersion",
        ),
    ],
)
def test_what_is_no_review_is_one_line(body: bytes, message: str) -> None:
    """400, and what is wrong."""
    reviewed = convert_review(body)
    reply = reviewed.reply

    assert (reviewed.verdict, reviewed.kinds) == (Verdict.UNREADABLE, {})
    assert reply.status == 400
    assert message in reply.body.decode()
    assert reply.body.count(b"\n") == 1


@pytest.mark.parametrize(
    "objects, message",
    [
        (b'{"a": "\xff"}', "objects[0] cannot be read: "),
        (b'{"a": ' + b"x" * 2 + b"}", "the body is no JSON"),
        (b"1," * 500_001 + b"1", "objects[0] is no object"),
        (b"[" + b"1," * 500_001 + b"1]", "objects[0] is larger than an API server keeps"),
        (b'"' + b"x" * (3 << 20) + b'"', "objects[0] is larger than an API server keeps"),
    ],
)
def test_objects_that_nobody_could_have_stored(objects: bytes, message: str) -> None:
    """Each is looked at by itself, and those after it are not."""
    request = b'"request": {"uid": "1", "desiredAPIVersion": "x/v1", "objects": [%s]}}' % objects
    body = json.dumps(HEAD).encode()[:-1] + b", " + request

    assert message in convert_review(body).reply.body.decode()


def test_a_list_takes_the_memory_of_one_object() -> None:
    """Beside its text: in Python, an object may take 60 times its size."""
    dense = split(1) | {"spec": [{"a": {}}] * 5_000}
    peaks = []
    for number in (1, 8):
        body = conversion([dense] * number, "split.smi-spec.io/v1alpha1")
        tracemalloc.start()
        try:
            reviewed = convert_review(body)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert reviewed.kinds == {"TrafficSplit": number}
        # The answer is put together of its parts, and then into the review.
        peaks.append(peak - 3 * len(reviewed.reply.body))

    assert peaks[1] < 2 * peaks[0]


def test_an_answer_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects grow in other words: the review fails before they fill the memory."""
    monkeypatch.setattr(conversions, "_LARGEST_ANSWER", 1000)
    sent = [split(0, 100, version="v1alpha1") for _ in range(20)]

    answered = response(convert_review(conversion(sent, "split.smi-spec.io/v1alpha4")))

    assert "objects are too large: ask for fewer" in answered["result"]["message"]


def test_a_list_of_thousands_is_answered_whole() -> None:
    """All objects of a list come in one review."""
    sent = [split(0, 100, version="v1alpha1") for _ in range(2000)]

    answered = response(convert_review(conversion(sent, "split.smi-spec.io/v1alpha4")))

    assert len(answered["convertedObjects"]) == 2000


def test_how_a_review_ended_is_counted() -> None:
    """With the objects by kind, whatever was sent."""
    good = convert_review(conversion([split(1), split(2)], "split.smi-spec.io/v1alpha2"))
    bad = convert_review(conversion([split(1), "none"], "split.smi-spec.io/v9"))

    assert (good.verdict, good.kinds) == (Verdict.CONVERTED, {"TrafficSplit": 2})
    assert (bad.verdict, bad.kinds) == (Verdict.FAILED, {"TrafficSplit": 1, "None": 1})
