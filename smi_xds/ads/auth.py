"""Who opens a stream: what a caller proved, and whether that makes it the node it says it is.

Values and one judgement. `tokens` and `identity.clients` prove, `guard` asks and keeps count.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, TypeAlias

from smi_xds.ads.session import Close, Refusal
from smi_xds.values import ProxyId, ServiceAccountRef, SpiffeId


class Reason(StrEnum):
    """Why a caller is refused, or its stream ended: what the counter of refusals tells apart."""

    NO_CREDENTIAL = "no_credential"
    INVALID_TOKEN = "invalid_token"  # noqa: S105 - a word
    EXPIRED_TOKEN = "expired_token"  # noqa: S105 - a word
    WRONG_AUDIENCE = "wrong_audience"
    NOT_BOUND = "not_bound"
    """A token of a service account as such: it does not say which pod has it."""
    UNREVIEWED = "unreviewed"
    """The API server could not be asked."""
    INVALID_CERTIFICATE = "invalid_certificate"
    WRONG_TRUST_DOMAIN = "wrong_trust_domain"
    FOREIGN_NODE = "foreign_node"
    """It says that it is a node which it is not."""
    UNKNOWN_NODE = "unknown_node"
    """There is no such pod, or no longer."""
    REPLACED_POD = "replaced_pod"
    """There is another pod of that name now."""
    TOKEN_NEEDED = "token_needed"  # noqa: S105 - a word
    """A pod of an API server that came with a certificate."""
    TOO_MANY_STREAMS = "too_many_streams"
    SILENT = "silent"
    """It opened a stream and asked for nothing."""
    EXPIRED = "expired"
    """What its stream was opened with has ended since."""
    REVOKED = "revoked"
    """Its pod was deleted or replaced since, or is another's."""


@dataclass(frozen=True, slots=True)
class Refused:
    """No, and why: `close` is what the caller is told."""

    reason: Reason
    close: Close


def unauthenticated(reason: Reason, text: str) -> Refused:
    """We do not know who this is."""
    return Refused(reason, Close(Refusal.UNAUTHENTICATED, text))


def denied(reason: Reason, text: str) -> Refused:
    """We know who this is, and that it may not."""
    return Refused(reason, Close(Refusal.PERMISSION_DENIED, text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a call brought with it."""

    metadata: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    """By key, in lower case; it holds tokens."""
    certificate: bytes = b""
    """The caller's own, PEM, and what it sent with it; it has the key."""
    host: str = ""
    """Where the call comes from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodProof:
    """A token of a pod."""

    pod: ProxyId
    uid: str
    account: ServiceAccountRef
    expires: float
    """By the wall clock."""

    @property
    def subject(self) -> str:
        """By which its streams are counted."""
        return f"pod {self.pod} {self.uid}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateProof:
    """A certificate of an identity, which may be that of several workloads."""

    identity: SpiffeId
    """Of a trust domain of ours."""
    serial: str
    """Of the certificate: whoever has it is one caller."""
    expires: float
    """By the wall clock."""

    @property
    def subject(self) -> str:
        """By which its streams are counted."""
        return f"certificate {self.serial} of {self.identity}"


Proof: TypeAlias = PodProof | CertificateProof


class Authenticate(Protocol):
    """Finds out who calls."""

    async def __call__(self, credentials: Credentials, /) -> Proof | Refused: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the source says of a pod."""

    account: ServiceAccountRef
    uid: str
    """Empty where it is not from an API server."""


class Directory(Protocol):
    """The pods that the source knows at this moment."""

    @property
    def edition(self) -> object:
        """The very same object while no pod changed."""

    def find(self, proxy: ProxyId, /) -> Known | None:
        """A pod."""


def judge(proof: Proof, node: str, directory: Directory) -> Refused | None:
    """Why a caller that proved this is not that node; None where it is."""
    match proof:
        case PodProof(pod=pod):
            if node != str(pod):
                return denied(
                    Reason.FOREIGN_NODE, f"this token is that of pod {pod}: it cannot be another"
                )
            return _judge_pod(proof, directory.find(pod))
        case CertificateProof():
            return _judge_certificate(proof, node, directory)


def _judge_pod(proof: PodProof, known: Known | None) -> Refused | None:
    if known is None:
        return denied(Reason.UNKNOWN_NODE, f"pod {proof.pod} is gone, or not known here yet")
    if known.uid != proof.uid:
        text = f"pod {proof.pod} is another one than this token is for"
        return denied(Reason.REPLACED_POD, text)
    if known.account != proof.account:
        text = f"pod {proof.pod} does not run as {proof.account}"
        return denied(Reason.FOREIGN_NODE, text)
    return None


def _judge_certificate(proof: CertificateProof, node: str, directory: Directory) -> Refused | None:
    try:
        proxy = ProxyId.parse(node)
    except ValueError:
        proxy = None
    known = directory.find(proxy) if proxy is not None else None
    # One answer for both: who may not be a node is not told whether there is one.
    if known is None or known.account != proof.identity.service_account:
        reason = Reason.UNKNOWN_NODE if known is None else Reason.FOREIGN_NODE
        return denied(reason, f"{proof.identity} has no workload {node!r}")
    if known.uid:
        # Its workload certificate would else let a pod in that was deleted, for as long as it
        # asks for new ones.
        text = f"{node} is a pod of an API server: it proves itself by its token"
        return denied(Reason.TOKEN_NEEDED, text)
    return None
