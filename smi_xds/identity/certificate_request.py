"""CertificateRequest of cert-manager.io/v1, as its public API describes it: written, and judged.

Pure: `cert_manager` sends and fetches them.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias

import msgspec

from smi_xds.problems import IdentityError
from smi_xds.values import SpiffeId

GROUP: Final = "cert-manager.io"
MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGER: Final = "smi-xds"
HOLDER: Final = "smi-xds.io/holder"
"""Label: which process has the key."""
IDENTITY: Final = "smi-xds.io/identity"
"""Annotation: for whom it is; for people who look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerRef:
    """Who is to sign: an issuer of cert-manager, and the namespace in which it is asked."""

    namespace: str
    kind: str
    name: str
    group: str = GROUP

    def __str__(self) -> str:
        kind = self.kind if self.group == GROUP else f"{self.kind}.{self.group}"
        return f"{self.namespace}/{kind}/{self.name}"

    @property
    def path(self) -> str:
        """Where its requests are."""
        return f"/apis/{GROUP}/v1/namespaces/{self.namespace}/certificaterequests"


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Nobody has decided yet."""

    approved: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Denied:
    """It will never be signed; the next one may."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """What came back, PEM; `ca` may be empty."""

    certificate: bytes
    ca: bytes


Answer: TypeAlias = Waiting | Denied | Signed


class _Condition(msgspec.Struct):
    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""


class _Status(msgspec.Struct):
    conditions: list[_Condition] = msgspec.field(default_factory=list)
    certificate: str = ""
    ca: str = ""


class _Metadata(msgspec.Struct, rename="camel"):
    name: str
    creation_timestamp: datetime | None = None


class Request(msgspec.Struct):
    """As much of one as we read."""

    metadata: _Metadata
    status: _Status = msgspec.field(default_factory=_Status)


class _List(msgspec.Struct):
    items: list[Request] = msgspec.field(default_factory=list)


_decoder = msgspec.json.Decoder(_List)


def to_document(
    csr: bytes,
    *,
    identity: SpiffeId,
    issuer: IssuerRef,
    name: str,
    holder: str,
    lifetime: timedelta,
) -> Mapping[str, Any]:
    """What is posted."""
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "CertificateRequest",
        "metadata": {
            "name": name,
            "namespace": issuer.namespace,
            "labels": {MANAGED_BY: MANAGER, HOLDER: holder},
            "annotations": {IDENTITY: str(identity)},
        },
        "spec": {
            "request": base64.b64encode(csr).decode(),
            "issuerRef": {"name": issuer.name, "kind": issuer.kind, "group": issuer.group},
            "duration": f"{int(lifetime.total_seconds())}s",
            "isCA": False,
            "usages": ["digital signature", "client auth", "server auth"],
        },
    }


def read_list(body: bytes) -> Sequence[Request]:
    """A list of them; IdentityError where it is something else."""
    try:
        return _decoder.decode(body).items
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise IdentityError(f"the list of CertificateRequests cannot be read: {error}") from None


def judge(request: Request) -> Answer:
    """What was decided; IdentityError where what came back cannot be read."""
    status = request.status
    conditions = {it.type: it for it in status.conditions}
    for kind in ("Denied", "InvalidRequest"):
        if (found := conditions.get(kind)) and found.status == "True":
            return Denied(reason=_said(found, "it was denied"))
    ready = conditions.get("Ready", _Condition())
    if ready.status == "True" and status.certificate:
        return Signed(certificate=_decode(status.certificate), ca=_decode(status.ca))
    if ready.reason in {"Failed", "Denied"}:
        return Denied(reason=_said(ready, "it failed"))
    approved = conditions.get("Approved", _Condition())
    return Waiting(approved=approved.status == "True")


def _said(condition: _Condition, otherwise: str) -> str:
    """On one line, and of a length that a log bears."""
    return " ".join(condition.message.split())[:500] or condition.reason or otherwise


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise IdentityError("the answer is not base64") from None
