"""Every version of every kind in a real API server, which asks a webhook to convert.

The webhook is a few lines around `objects.convert`: what is tried is that an API server accepts
what it makes, stores it, and gives back what was written.
"""

import base64
import json
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from smi_xds.crds import Conversion, definitions
from smi_xds.objects.convert import convert
from smi_xds.objects.parse import Parsed, parse
from smi_xds.objects.versions import SMI_KINDS
from tests.kube.api import Kube
from tests.kube.cluster import KubeCluster
from tests.kube.pki import make_serving_certificate

pytestmark = [pytest.mark.kube, pytest.mark.xdist_group("kube"), pytest.mark.timeout(600)]

NAMESPACE = "default"
COMMON = {"apiVersion", "kind", "metadata"}

WEB = {"kind": "ServiceAccount", "name": "web"}
CLIENT = {"kind": "ServiceAccount", "name": "client", "namespace": "other"}
PARTNERS = {"kind": "IdentityBinding", "name": "partners"}
RULES = [
    {"kind": "HTTPRouteGroup", "name": "a", "matches": ["x"]},
    {"kind": "UDPRoute", "name": "b"},
]
MATCH = {"name": "x", "pathRegex": "/x", "methods": ["GET"]}
BETA = {"kind": "HTTPRouteGroup", "name": "beta", "apiGroup": "specs.smi-spec.io"}


def _target(destination: Mapping[str, Any]) -> dict[str, Any]:
    return {"destination": destination, "rules": RULES, "sources": [CLIENT, PARTNERS]}


def _split(*weights: object, **more: Any) -> dict[str, Any]:
    backends = [{"service": f"v{n}", "weight": weight} for n, weight in enumerate(weights)]
    return {"spec": {"service": "web", "backends": backends, **more}}


# By kind and version: the fields of an object, of each kind of thing that some version cannot say.
WRITTEN: Mapping[tuple[str, str], list[dict[str, Any]]] = {
    ("TrafficTarget", "v1alpha1"): [
        {"destination": {**WEB, "port": "8080"}, "specs": RULES, "sources": [CLIENT]},
        {"destination": WEB},
    ],
    ("TrafficTarget", "v1alpha2"): [{"spec": _target({**WEB, "port": 8080})}],
    ("TrafficTarget", "v1alpha3"): [
        {"spec": _target(PARTNERS)},
        {"spec": _target({**WEB, "port": 8080})},
    ],
    ("TrafficTarget", "v1alpha4"): [{"spec": _target({**PARTNERS, "group": "example.com"})}],
    ("IdentityBinding", "v1alpha4"): [{"spec": {"schemes": {"serviceAccount": "web"}}}],
    ("HTTPRouteGroup", "v1alpha1"): [{"matches": [MATCH, {**MATCH, "name": "y"}]}],
    ("HTTPRouteGroup", "v1alpha2"): [{"matches": [{**MATCH, "headers": [{"x": "1"}]}]}],
    ("HTTPRouteGroup", "v1alpha3"): [
        {"spec": {"matches": [{**MATCH, "headers": [{"x": "1", "y": "2"}]}]}}
    ],
    ("HTTPRouteGroup", "v1alpha4"): [{"spec": {"matches": [{**MATCH, "headers": {"x": "1"}}]}}],
    ("TCPRoute", "v1alpha1"): [{}],
    ("TCPRoute", "v1alpha2"): [{}],
    ("TCPRoute", "v1alpha3"): [{"spec": {}}],
    ("TCPRoute", "v1alpha4"): [
        {"spec": {"matches": {"name": "db", "ports": [5432]}}},
        {"spec": {"matches": {"ports": []}}},
        {"spec": {"matches": {}}},
    ],
    ("UDPRoute", "v1alpha4"): [{"spec": {"matches": {"ports": [53]}}}],
    ("TrafficSplit", "v1alpha1"): [
        _split("0", "100"),
        _split(90, 10),
        _split("50m", "50m"),
        _split("500m", "1k", "1.5"),
        {"spec": {"service": "web", "backends": [{"service": "v0"}]}},
    ],
    ("TrafficSplit", "v1alpha2"): [_split(0, 100)],
    ("TrafficSplit", "v1alpha3"): [_split(1, 2, matches=[BETA]), _split(0.5, 1)],
    ("TrafficSplit", "v1alpha4"): [_split(1, 2, matches=[]), _split(1000, 500, matches=[BETA])],
}


def _documents() -> Iterator[dict[str, Any]]:
    for (kind, version), bodies in WRITTEN.items():
        for number, body in enumerate(bodies):
            metadata = {"name": f"{version}-{number}", "namespace": NAMESPACE}
            api_version = f"{SMI_KINDS[kind].group}/{version}"
            yield {"apiVersion": api_version, "kind": kind, "metadata": metadata, **body}


class _Webhook(BaseHTTPRequestHandler):
    """Answers a ConversionReview (apiextensions.k8s.io/v1)."""

    def do_POST(self) -> None:
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        request = review["request"]
        version = request["desiredAPIVersion"].partition("/")[2]
        response = {
            "uid": request["uid"],
            "result": {"status": "Success"},
            "convertedObjects": [convert(it, version) for it in request["objects"]],
        }
        body = json.dumps({**review, "request": None, "response": response}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def _webhook(folder: Path) -> Iterator[dict[str, str]]:
    """Serve, and give what an API server needs to know of it."""
    certificate = make_serving_certificate(addresses=["127.0.0.1"], names=["localhost"])
    pem = folder / "webhook.pem"
    pem.write_bytes(certificate.certificate + certificate.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Webhook) as server:
        server.daemon_threads = True
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield {
                "url": f"https://127.0.0.1:{server.server_port}/convert",
                "caBundle": base64.b64encode(certificate.ca).decode(),
            }
        finally:
            server.shutdown()
            thread.join()


def _crds(client: Mapping[str, str]) -> dict[str, Any]:
    """The definitions, with a webhook outside of the cluster."""
    items = list(definitions(Conversion.WEBHOOK))
    for it in items:
        if "webhook" in it["spec"]["conversion"]:
            it["spec"]["conversion"]["webhook"]["clientConfig"] = dict(client)
    return {"apiVersion": "v1", "kind": "List", "items": items}


def _read(kube: Kube, kind: str, version: str) -> dict[str, dict[str, Any]]:
    """All objects of a kind, as one version shows them."""
    it = SMI_KINDS[kind]
    path = f"/apis/{it.group}/{version}/namespaces/{NAMESPACE}/{it.plural}"
    listed = json.loads(kube.kubectl("get", "--raw", path))
    return {found["metadata"]["name"]: found for found in listed["items"]}


def _fields(document: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key not in COMMON}


def test_every_version(kube_binary: Path, tmp_path: Path) -> None:
    """What is written in any version is read in every other, written back there, and unchanged."""
    documents = list(_documents())
    with KubeCluster(binary=kube_binary) as kube:
        with _webhook(tmp_path) as client:
            crds = tmp_path / "crds.json"
            crds.write_text(json.dumps(_crds(client)))
            kube.apply_crds(crds)
            kube.apply({"apiVersion": "v1", "kind": "List", "items": documents})

            for kind in SMI_KINDS.values():
                for version in kind.versions:
                    shown = _read(kube, kind.kind, version)
                    for written in (it for it in documents if it["kind"] == kind.kind):
                        it = shown[written["metadata"]["name"]]
                        assert _fields(it) == _fields(convert(written, version))
                        assert isinstance(parse(it), Parsed)
                    items = {"apiVersion": "v1", "kind": "List", "items": list(shown.values())}
                    kube.kubectl("replace", "-f", "-", stdin=json.dumps(items))
            for kind_, version in WRITTEN:
                found = _read(kube, kind_, version)
                for number, body in enumerate(WRITTEN[kind_, version]):
                    assert _fields(found[f"{version}-{number}"]) == body

        # The webhook is down: what is stored needs nobody to be read, and to be written.
        stored = _read(kube, "TrafficSplit", "v1alpha4")
        assert len(stored) == sum(len(it) for (k, _), it in WRITTEN.items() if k == "TrafficSplit")
        kube.kubectl("replace", "-f", "-", stdin=json.dumps(stored["v1alpha4-1"]))
        assert len(_read(kube, "TrafficTarget", "v1alpha4")) == 6
