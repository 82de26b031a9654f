"""TokenReview: asks the API server whose a token is (`authentication.k8s.io/v1`).

It needs the right to create `tokenreviews`, and nothing else.
"""

from http import HTTPStatus
from typing import Final, Protocol

import msgspec

from smi_xds.ads.tokens import Review, ReviewError
from smi_xds.problems import SourceError
from smi_xds.sources.kube_watch import RefusedError, UnreachableError
from smi_xds.values import Secret, ServiceAccountRef

_PATH: Final = "/apis/authentication.k8s.io/v1/tokenreviews"
_ACCOUNT: Final = "system:serviceaccount:"
# Who has a pod's token is told in these, since Kubernetes 1.22.
_POD_NAME: Final = "authentication.kubernetes.io/pod-name"
_POD_UID: Final = "authentication.kubernetes.io/pod-uid"


class Api(Protocol):
    """An API server that can be asked for changes."""

    async def send(self, method: str, path: str, body: bytes, /) -> bytes:
        """The whole answer; RefusedError or UnreachableError."""

    async def renew(self) -> None:
        """Read the credentials again; SourceError where they are bad."""


class _User(msgspec.Struct, frozen=True):
    username: str = ""
    extra: dict[str, list[str]] = {}


class _Status(msgspec.Struct, frozen=True):
    authenticated: bool = False
    user: _User = _User()
    audiences: list[str] = []
    error: str = ""


class _TokenReview(msgspec.Struct, frozen=True):
    status: _Status = _Status()


_answer = msgspec.json.Decoder(_TokenReview)


class TokenReviews:
    """The tokens of one API server."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def review(self, token: Secret, *, audience: str) -> Review:
        """Whether it is good, and whose; ReviewError where there is no answer."""
        body = msgspec.json.encode(
            {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenReview",
                "spec": {"token": token.value.decode(), "audiences": [audience]},
            }
        )
        try:
            return _review(await self._send(body), audience)
        except UnreachableError as error:
            raise ReviewError(f"the API server cannot be reached: {error}") from error
        except RefusedError as error:
            raise ReviewError(_refusal(error)) from error
        except SourceError as error:
            raise ReviewError(str(error)) from error

    async def _send(self, body: bytes) -> bytes:
        try:
            return await self._api.send("POST", _PATH, body)
        except RefusedError as error:
            if error.status != HTTPStatus.UNAUTHORIZED:
                raise
        # Our own token was rotated.
        await self._api.renew()
        return await self._api.send("POST", _PATH, body)


def _refusal(error: RefusedError) -> str:
    if error.status == HTTPStatus.FORBIDDEN:
        return (
            "the server's account may not create tokenreviews.authentication.k8s.io: bind it to "
            f"ClusterRole system:auth-delegator ({error})"
        )
    return f"{error.status}: {error}"


def _review(answer: bytes, audience: str) -> Review:
    try:
        status = _answer.decode(answer).status
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ReviewError(f"an answer that is no TokenReview: {error}") from error
    # An authenticator that knows nothing of audiences names none: what it takes is for itself.
    if not status.authenticated or audience not in status.audiences:
        return Review(authenticated=False, error=status.error)
    extra = status.user.extra
    return Review(
        authenticated=True,
        account=_account(status.user.username),
        pod=_only(extra.get(_POD_NAME, [])),
        uid=_only(extra.get(_POD_UID, [])),
    )


def _account(username: str) -> ServiceAccountRef | None:
    namespace, colon, name = username.removeprefix(_ACCOUNT).partition(":")
    if not (username.startswith(_ACCOUNT) and colon and namespace and name):
        return None
    return ServiceAccountRef(namespace, name)


def _only(values: list[str]) -> str:
    return values[0] if len(values) == 1 else ""
