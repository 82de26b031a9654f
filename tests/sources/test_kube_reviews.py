"""TokenReview: what is asked, and what is read out of the answers."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from smi_xds.ads.tokens import Review, ReviewError
from smi_xds.problems import SourceError
from smi_xds.sources.kube_reviews import TokenReviews
from smi_xds.sources.kube_watch import RefusedError, UnreachableError
from smi_xds.values import Secret, ServiceAccountRef

TOKEN = Secret(b"a.b.c")
POD = {
    "authentication.kubernetes.io/pod-name": ["web-1"],
    "authentication.kubernetes.io/pod-uid": ["uid-1"],
    "authentication.kubernetes.io/node-name": ["n"],
}


class ApiServer:
    """Gives one answer after another."""

    def __init__(self, *answers: bytes | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, str, Any]] = []
        self.renewed = 0

    async def send(self, method: str, path: str, body: bytes, /) -> bytes:
        self.asked.append((method, path, json.loads(body)))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def renew(self) -> None:
        self.renewed += 1


def answer(
    *,
    username: str = "system:serviceaccount:shop:web",
    extra: Mapping[str, object] = POD,
    **status: object,
) -> bytes:
    """What an API server says of a good token, with changes."""
    said = {
        "authenticated": True,
        "audiences": ["smi-xds"],
        "user": {"username": username, "uid": "u", "groups": [], "extra": extra},
        **status,
    }
    return json.dumps({"kind": "TokenReview", "spec": {"token": "a.b.c"}, "status": said}).encode()


async def test_asks_for_our_audience_alone() -> None:
    """And reads account, pod and uid."""
    api = ApiServer(answer())

    review = await TokenReviews(api).review(TOKEN, audience="smi-xds")

    [(method, path, asked)] = api.asked
    assert (method, path) == ("POST", "/apis/authentication.k8s.io/v1/tokenreviews")
    assert asked["spec"] == {"token": "a.b.c", "audiences": ["smi-xds"]}
    assert review == Review(
        authenticated=True, account=ServiceAccountRef("shop", "web"), pod="web-1", uid="uid-1"
    )


@pytest.mark.parametrize(
    "status, expected",
    [
        (
            {"authenticated": False, "error": "expired"},
            Review(authenticated=False, error="expired"),
        ),
        ({"audiences": []}, Review(authenticated=False)),
        ({"audiences": ["https://kubernetes.default.svc"]}, Review(authenticated=False)),
        ({"username": "system:node:n", "extra": {}}, Review(authenticated=True)),
        ({"username": "system:serviceaccount:shop", "extra": {}}, Review(authenticated=True)),
        ({"username": "admin", "extra": {}}, Review(authenticated=True)),
        (
            {"extra": {"authentication.kubernetes.io/pod-name": ["a", "b"]}},
            Review(authenticated=True, account=ServiceAccountRef("shop", "web")),
        ),
    ],
)
async def test_what_it_does_not_say_is_not_there(status: dict[str, Any], expected: Review) -> None:
    """An API server that knows nothing of audiences takes what is for itself: not for us."""
    assert (
        await TokenReviews(ApiServer(answer(**status))).review(TOKEN, audience="smi-xds")
        == expected
    )


async def test_an_empty_answer_is_no() -> None:
    """Nothing was authenticated."""
    review = await TokenReviews(ApiServer(b"{}")).review(TOKEN, audience="smi-xds")
    assert not review.authenticated


@pytest.mark.parametrize(
    "failure, said",
    [
        (UnreachableError("refused"), "cannot be reached: refused"),
        (RefusedError(403, "no"), "system:auth-delegator"),
        (RefusedError(429, "too many"), "429: too many"),
        (b"<html>", "no TokenReview"),
        (b'{"status": 1}', "no TokenReview"),
        (b"\xff", "no TokenReview"),
    ],
)
async def test_without_an_answer_it_says_why(failure: bytes | Exception, said: str) -> None:
    """The right that is missing, too; and never the token."""
    with pytest.raises(ReviewError, match=said) as caught:
        await TokenReviews(ApiServer(failure)).review(TOKEN, audience="smi-xds")
    assert "a.b.c" not in str(caught.value)


async def test_credentials_that_were_rotated_are_read_again() -> None:
    """Ours, for which the API server refused us; once."""
    api = ApiServer(RefusedError(401, "no"), answer())

    assert (await TokenReviews(api).review(TOKEN, audience="smi-xds")).authenticated
    assert api.renewed == 1

    with pytest.raises(ReviewError, match="401"):
        await TokenReviews(ApiServer(RefusedError(401, "a"), RefusedError(401, "b"))).review(
            TOKEN, audience="smi-xds"
        )


async def test_credentials_that_cannot_be_read_are_no_answer() -> None:
    """A kubeconfig that went away."""
    api = ApiServer(RefusedError(401, "no"))

    async def renew() -> None:
        raise SourceError("kubeconfig x does not exist")

    api.renew = renew  # type: ignore[method-assign]  # the fake's own
    with pytest.raises(ReviewError, match="does not exist"):
        await TokenReviews(api).review(TOKEN, audience="smi-xds")
