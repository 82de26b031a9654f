"""Leaves that cert-manager signs, where its API server refuses; tests/kube has the real one."""

import json

import pytest

from smi_xds.app.issuers import opened_issuer
from smi_xds.config import (
    KubernetesConfig,
    MeshConfig,
    parse_authority,
    parse_cert_manager,
    parse_serve,
)
from smi_xds.identity.cert_manager import CertManagerIssuer
from smi_xds.identity.certificate_request import IssuerRef
from smi_xds.sources.kube_api import RefusedError
from smi_xds.values import ServiceAccountRef, SpiffeId
from tests.support.identity import mk_authority

MESH = IssuerRef(namespace="smi-xds", kind="Issuer", name="mesh")
FIRST, SECOND = (SpiffeId.of("cluster.local", ServiceAccountRef("shop", it)) for it in "ab")


class Refusing:
    """An API server that takes no request for the first."""

    def __init__(self, error: RefusedError) -> None:
        self.error = error
        self.taken: list[dict[str, object]] = []

    async def read(self, path: str) -> bytes:
        assert path.startswith(MESH.path)
        return b'{"items": []}'

    async def send(self, method: str, path: str, body: bytes = b"") -> bytes:
        assert (method, path) == ("POST", MESH.path)
        document = json.loads(body)
        if document["metadata"]["annotations"]["smi-xds.io/identity"] == str(FIRST):
            raise self.error
        self.taken.append(document)
        return body

    async def renew(self) -> None: ...

    async def close(self) -> None: ...


@pytest.mark.parametrize(
    "status, said",
    [
        (403, 'admission webhook "validate.kyverno.svc-fail" denied the request: not that account'),
        (400, 'admission webhook "gatekeeper.sh" denied the request: no explanation'),
        (403, "is forbidden: ValidatingAdmissionPolicy 'mesh' with binding 'x' denied request: no"),
        (422, "spec.request: Invalid value"),
    ],
)
async def test_whom_a_policy_refuses_stands_alone(status: int, said: str) -> None:
    """Others are asked for all the same, and he is not asked for again at once."""
    api = Refusing(RefusedError(status, said))
    issuer = CertManagerIssuer(api, MESH)
    issuer.ask({FIRST, SECOND})

    await issuer.step()

    assert len(api.taken) == 1
    assert said in issuer.ask({FIRST, SECOND}).refused[FIRST]
    assert issuer.needed() == []


@pytest.mark.parametrize(
    "status, said",
    [
        (403, "certificaterequests.cert-manager.io is forbidden: User cannot create resource"),
        (403, "is forbidden: exceeded quota: requests, requested: count/certificaterequests=1"),
        (500, 'Internal error occurred: failed calling webhook "x": denied by a proxy'),
    ],
)
async def test_what_concerns_all_is_no_refusal_of_one(status: int, said: str) -> None:
    """Thousands are not asked for one after another."""
    api = Refusing(RefusedError(status, said))
    issuer = CertManagerIssuer(api, MESH)
    issuer.ask({FIRST, SECOND})

    with pytest.raises(RefusedError):
        await issuer.step()

    assert api.taken == []
    assert issuer.ask({FIRST, SECOND}).refused == {}


async def test_leaves_live_as_long_as_was_chosen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`--leaf-lifetime` holds for another authority as well."""
    api = Refusing(RefusedError(500, "not asked for"))

    async def opened(_: object) -> None: ...

    monkeypatch.setattr("smi_xds.sources.kube_connection.Connection.open", opened)
    config = parse_serve(
        kubernetes=KubernetesConfig(kubeconfig="/nowhere"),
        cert_manager=parse_cert_manager("smi-xds/Issuer/mesh"),
        authority=parse_authority(leaf_lifetime="2h"),
        mesh=MeshConfig(),
        environ={"HOME": "/"},
    )
    issuer = await opened_issuer(config, mk_authority())
    monkeypatch.setattr(issuer, "_api", api)
    assert isinstance(issuer, CertManagerIssuer)
    issuer.ask({SECOND})

    await issuer.step()

    [document] = api.taken
    spec = document["spec"]
    assert isinstance(spec, dict)
    assert spec["duration"] == "7200s"
