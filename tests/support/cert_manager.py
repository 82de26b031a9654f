"""What cert-manager is to us: a kind of object, and somebody who decides and signs.

The definition is our own, from the public description of the API: as much of it as is used.
"""

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any, NoReturn, Protocol, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from smi_xds.identity.issuer import Clock
from tests.support.certificates import Holder, to_pem

_TEXT = {"type": "string"}
_BYTES = {"type": "string", "format": "byte"}
_CONDITION = {
    "type": "object",
    "required": ["type", "status"],
    "properties": dict.fromkeys(("type", "status", "reason", "message"), _TEXT),
}
_SCHEMA = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "required": ["issuerRef", "request"],
            "properties": {
                "duration": _TEXT,
                "isCA": {"type": "boolean"},
                "issuerRef": {
                    "type": "object",
                    "required": ["name"],
                    "properties": dict.fromkeys(("name", "kind", "group"), _TEXT),
                },
                "request": _BYTES,
                "usages": {
                    "type": "array",
                    "items": {
                        "type": "string",
                        "enum": [
                            "signing",
                            "digital signature",
                            "key encipherment",
                            "server auth",
                            "client auth",
                        ],
                    },
                },
            },
        },
        "status": {
            "type": "object",
            "properties": {
                "ca": _BYTES,
                "certificate": _BYTES,
                "conditions": {"type": "array", "items": _CONDITION},
            },
        },
    },
}
NAME = "certificaterequests.cert-manager.io"
DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": NAME},
    "spec": {
        "group": "cert-manager.io",
        "scope": "Namespaced",
        "names": {
            "kind": "CertificateRequest",
            "listKind": "CertificateRequestList",
            "plural": "certificaterequests",
            "singular": "certificaterequest",
        },
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": _SCHEMA},
            }
        ],
    },
}

Status: TypeAlias = dict[str, Any]


class Api(Protocol):
    """As much of an API server as it needs."""

    async def read(self, path: str, /) -> bytes: ...

    async def send(
        self, method: str, path: str, body: bytes = b"", /, *, content_type: str = ...
    ) -> bytes: ...


class Signer:
    """Looks at the requests of a namespace, and decides by a policy that a test may change."""

    def __init__(self, authority: Holder, *, clock: Clock) -> None:
        self.authority = authority
        self.root = authority
        self.clock = clock
        self.policy: Callable[[str], str] = lambda _: "sign"
        """What is done for a URI: sign, deny, fail, ignore, approve."""
        self.seen: list[dict[str, Any]] = []
        self.sign: Callable[[str, ec.EllipticCurvePublicKey], Holder] = self.sign_well

    def sign_well(self, uri: str, public_key: ec.EllipticCurvePublicKey) -> Holder:
        """As it should be."""
        return self.authority.leaf([uri], now=self.clock(), public_key=public_key)

    async def run(self, api: Api, namespace: str) -> NoReturn:
        """For ever."""
        path = f"/apis/cert-manager.io/v1/namespaces/{namespace}/certificaterequests"
        while True:
            for item in json.loads(await api.read(path))["items"]:
                if (status := self.decide(item)) is not None:
                    body = json.dumps({"status": status}).encode()
                    await api.send(
                        "PATCH",
                        f"{path}/{item['metadata']['name']}/status",
                        body,
                        content_type="application/merge-patch+json",
                    )
            await asyncio.sleep(0.05)

    def decide(self, item: dict[str, Any]) -> Status | None:
        """What its status becomes; None to leave it."""
        kinds = {it["type"] for it in item.get("status", {}).get("conditions", [])}
        if kinds & {"Ready", "Denied"}:
            return None
        csr = x509.load_pem_x509_csr(base64.b64decode(item["spec"]["request"]))
        assert csr.is_signature_valid
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        [uri] = names.get_values_for_type(x509.UniformResourceIdentifier)
        self.seen.append(item)
        match self.policy(uri):
            case "ignore":
                return None
            case "approve" if "Approved" in kinds:
                return None
            case "approve":
                return {"conditions": [_condition("Approved")]}
            case "deny":
                return {"conditions": [_condition("Denied", message="not by this policy")]}
            case "fail":
                failed = _condition("Ready", status="False", reason="Failed", message="no luck")
                return {"conditions": [_condition("Approved"), failed]}
            case _:
                pass
        public_key = csr.public_key()
        assert isinstance(public_key, ec.EllipticCurvePublicKey)
        signed = self.sign(uri, public_key)
        return {
            "conditions": [_condition("Approved"), _condition("Ready", reason="Issued")],
            "certificate": base64.b64encode(signed.pem).decode(),
            "ca": base64.b64encode(to_pem(self.root.certificate)).decode(),
        }


def _condition(
    kind: str, *, status: str = "True", reason: str = "Test", message: str = ""
) -> dict[str, str]:
    return {"type": kind, "status": status, "reason": reason, "message": message}
