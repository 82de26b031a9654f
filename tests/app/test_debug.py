"""The debug API of a running server: its own mesh, its own problems, its own reasons."""

import asyncio
import json
from pathlib import Path

import pytest

from smi_xds import app
from smi_xds.config import Address, parse_serve
from smi_xds.debug.client import get_proxy, list_proxies
from smi_xds.debug.service import DEBUG
from tests.support.grpcurl import needs_grpcurl, run_grpcurl

OBJECTS = """
apiVersion: v1
kind: Pod
metadata:
  name: web
  namespace: shop
  annotations: {smi-xds.io/sidecar: bound, smi-xds.io/address: 127.0.0.11}
spec: {serviceAccountName: web}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata: {name: web, namespace: shop}
spec: {service: web, backends: [{service: web-v1, weight: 1}]}
"""


@needs_grpcurl
@pytest.mark.timeout(600)  # the first build of grpcurl takes a minute and a half
async def test_proxies_resources_and_problems(tmp_path: Path) -> None:
    """What the objects make of a proxy, keys redacted; and the problems of the objects."""
    folder = tmp_path / "objects"
    folder.mkdir()
    (folder / "web.yaml").write_text(OBJECTS)
    config = parse_serve(files=[folder], xds_address="127.0.0.1:0", state_folder=tmp_path / "state")
    async with app.running(config) as server:
        address = Address(server.xds_host, server.xds_port)
        (listed,) = await asyncio.to_thread(list_proxies, address)
        web = await asyncio.to_thread(get_proxy, address, "shop/web")
        problem = json.loads(await run_grpcurl(str(address), f"{DEBUG}/ListProblems"))
        question = json.dumps({"source": "shop/web", "destination": "shop/web:80"})
        asked = ("-d", question, str(address), f"{DEBUG}/Explain")
        explained = json.loads(await run_grpcurl(*asked))
        drawn = json.loads(await run_grpcurl(str(address), f"{DEBUG}/Graph"))

    assert (listed["node"], listed["configured"]) == ("shop/web", True)
    contents = {each["name"]: each["content"] for each in web["resources"]}
    identity = contents["identity"]["tls_certificate"]
    assert identity["private_key"] == "<redacted>"
    assert identity["certificate_chain"] != "<redacted>"
    assert (problem["code"], problem["name"]) == ("MissingBackend", "web")
    assert explained["verdict"] == "nowhere"
    assert explained["split"] == {"name": "shop/web"}
    assert [node["service"] for node in drawn["services"]] == ["shop/web"]
