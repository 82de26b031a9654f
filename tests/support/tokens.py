"""Tokens of pods: as an API server makes them, and as it would not."""

import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests.kube.api import Kube


def make_token(
    kube: Kube, pod: str, *, namespace: str, account: str = "default", audience: str = "smi-xds"
) -> str:
    """The one that a kubelet would project into the pod; for the account alone where that is ""."""
    bound = ("--bound-object-kind=Pod", f"--bound-object-name={pod}") if pod else ()
    return kube.kubectl(
        *("create", "token", account, f"--namespace={namespace}"),
        *(f"--audience={audience}", "--duration=10m", *bound),
    ).strip()


def claims_of(token: str) -> dict[str, Any]:
    """What it says of itself."""
    part = token.split(".")[1]
    found: dict[str, Any] = json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


def signed(token: str, key: Path | None, **changes: object) -> str:
    """That token with other claims, signed by a key: that of the API server, or any other."""
    secret = (
        ec.generate_private_key(ec.SECP256R1())
        if key is None
        else serialization.load_pem_private_key(key.read_bytes(), password=None)
    )
    algorithm = "ES256" if isinstance(secret, ec.EllipticCurvePrivateKey) else "RS256"
    head = _encoded({"alg": algorithm, "typ": "JWT"})
    said = f"{head}.{_encoded({**claims_of(token), **changes})}"
    return f"{said}.{_base64(_signature(secret, said.encode()))}"


def expired(token: str, key: Path, *, since: float) -> str:
    """That token as it will be when it has ended."""
    now = int(time.time())
    times = dict.fromkeys(("iat", "nbf"), now - 3600)
    return signed(token, key, exp=int(now - since), **times)


def _signature(key: object, said: bytes) -> bytes:
    match key:
        case ec.EllipticCurvePrivateKey():
            pair = decode_dss_signature(key.sign(said, ec.ECDSA(hashes.SHA256())))
            return b"".join(number.to_bytes(32, "big") for number in pair)
        case rsa.RSAPrivateKey():
            return key.sign(said, padding.PKCS1v15(), hashes.SHA256())
        case _:
            raise TypeError(f"{key!r} signs no tokens")


def _encoded(value: dict[str, Any]) -> str:
    return _base64(json.dumps(value).encode())


def _base64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")
