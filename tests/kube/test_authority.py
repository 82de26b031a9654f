"""The authority in a Secret of a real API server: two replicas, one rotation, few rights."""

import asyncio
import base64
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from smi_xds import app
from smi_xds.app import keeping
from smi_xds.app.trust_maps import NAME
from smi_xds.config import (
    AuthorityConfig,
    LeaseConfig,
    SecretName,
    ServeConfig,
    parse_kubernetes,
    parse_serve,
    parse_xds_tls,
)
from smi_xds.identity.document import Phase
from tests.kube.api import Kube
from tests.support.cli import run_cli
from tests.support.wait import eventually_async

pytestmark = pytest.mark.kube

SECRET: Final = "smi-xds-ca"

# What deploy/kubernetes gives, as far as the authority is concerned; the rest is the source's.
RIGHTS: Final[list[dict[str, list[str]]]] = [
    {"apiGroups": [""], "resources": ["secrets", "configmaps"], "verbs": ["create"]},
    {
        "apiGroups": [""],
        "resources": ["secrets"],
        "resourceNames": [SECRET],
        "verbs": ["get", "update"],
    },
    {
        "apiGroups": [""],
        "resources": ["configmaps"],
        "resourceNames": [NAME],
        "verbs": ["get", "update"],
    },
    {
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "verbs": ["get", "create", "update"],
    },
    {
        "apiGroups": ["", "discovery.k8s.io"],
        "resources": ["serviceaccounts", "services", "pods", "endpointslices"],
        "verbs": ["get", "list", "watch"],
    },
    {
        "apiGroups": ["access.smi-spec.io", "specs.smi-spec.io", "split.smi-spec.io"],
        "resources": ["*"],
        "verbs": ["get", "list", "watch"],
    },
]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Phases of seconds, and looks that do not wait for them."""
    monkeypatch.setattr(keeping, "floor_of", lambda *_, **__: timedelta(seconds=8))
    monkeypatch.setattr(keeping, "_SECRET", 0.2)


@pytest.fixture
def config(kube: Kube, namespace: str) -> ServeConfig:
    """A server that has the rights of an installed one, and no more."""
    account = "smi-xds"
    kubeconfig = kube.kubeconfig_for(account, namespace=namespace)
    role: dict[str, Any] = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": account, "namespace": namespace},
        "rules": RIGHTS,
    }
    binding: dict[str, Any] = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": account, "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": account},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
    }
    everywhere = {
        **role,
        "kind": "ClusterRole",
        "metadata": {"name": namespace},
        "rules": [{"apiGroups": [""], "resources": ["namespaces"], "verbs": ["list", "watch"]}],
    }
    bound_everywhere = {
        **binding,
        "kind": "ClusterRoleBinding",
        "metadata": {"name": namespace},
        "roleRef": {**binding["roleRef"], "kind": "ClusterRole", "name": namespace},
    }
    items = [role, binding, everywhere, bound_everywhere]
    kube.apply({"apiVersion": "v1", "kind": "List", "items": items})
    kube.make_pod(
        "web",
        namespace=namespace,
        ip="10.244.9.5",
        annotations={"smi-xds.io/sidecar": "intercepted"},
    )
    return parse_serve(
        kubernetes=parse_kubernetes(kubeconfig=str(kubeconfig), namespaces=[namespace]),
        xds_address="127.0.0.1:0",
        xds_tls=parse_xds_tls(tokens="127.0.0.1:0"),
        authority=AuthorityConfig(secret=SecretName(namespace, SECRET)),
        lease=LeaseConfig(namespace=namespace, name="smi-xds-leader"),
    )


@contextlib.contextmanager
def as_pod(name: str) -> Iterator[None]:
    """Replicas are told apart by their pods' names."""
    before = socket.gethostname
    socket.gethostname = lambda: name
    try:
        yield
    finally:
        socket.gethostname = before


@contextlib.asynccontextmanager
async def replica(config: ServeConfig, name: str) -> AsyncIterator[app.Running]:
    with as_pod(name):
        running = app.running(config)
        server = await running.__aenter__()
    try:
        yield server
    finally:
        await running.__aexit__(None, None, None)


def trust_in_pods(kube: Kube, namespace: str) -> bytes:
    found: dict[str, Any] = kube.get("configmap", NAME, f"--namespace={namespace}")
    text: str = found["data"]["ca.crt"]
    return text.encode()


async def rotate(kube: Kube, namespace: str, *words: str) -> None:
    where = ("--state-secret", f"{namespace}/{SECRET}", "--kubeconfig", kube.kubeconfig)
    assert await asyncio.to_thread(run_cli, "ca", "rotate", *where, *words) == 0


@pytest.mark.usefixtures("quick")
async def test_replicas_share_an_authority_and_rotate_it_together(
    kube: Kube, namespace: str, config: ServeConfig
) -> None:
    """Whoever is first makes it; both sign by it, follow each phase, and pods learn the roots."""
    async with replica(config, "one") as one, replica(config, "two") as two:
        first = one.keeper.current.now
        assert two.keeper.current.now == first
        secret = kube.get("secret", SECRET, f"--namespace={namespace}")
        assert secret["type"] == "Opaque"
        assert base64.b64decode(secret["data"]["ca.crt"]) == first.trust_bundle

        async def told() -> bool:
            return await asyncio.to_thread(trust_in_pods, kube, namespace) == first.trust_bundle

        await eventually_async(told, deadline=30, retry_on=(AssertionError, Exception))

        await rotate(kube, namespace)
        await eventually_async(
            lambda: {"one", "two"} == {it.split()[0] for it in one.keeper.state.replicas},
            deadline=60,
            what="reports",
        )
        await eventually_async(
            lambda: one.keeper.state.phase is Phase.SIGN, deadline=60, what="phase sign"
        )
        both = await asyncio.to_thread(trust_in_pods, kube, namespace)
        assert both.count(b"BEGIN CERTIFICATE") == 2

        def over() -> bool:
            states = [server.keeper.state for server in (one, two)]
            return all(it.phase is Phase.STEADY and it.epoch == 4 for it in states)

        await eventually_async(over, deadline=60, what="the end")
        last = one.keeper.current.now
        assert two.keeper.current.now == last
        assert first.certificate not in last.roots

        async def forgotten() -> bool:
            return await asyncio.to_thread(trust_in_pods, kube, namespace) == last.trust_bundle

        await eventually_async(forgotten, deadline=30)
        document = json.loads(
            base64.b64decode(
                kube.get("secret", SECRET, f"--namespace={namespace}")["data"]["authority.json"]
            )
        )
        assert document["successor"] is None


@pytest.mark.usefixtures("quick")
async def test_a_secret_that_is_bad_or_gone(
    kube: Kube, namespace: str, config: ServeConfig, tmp_path: Path
) -> None:
    """Gone while servers run, it is written again; bad when one starts, it is one line."""
    async with replica(config, "one") as one:
        first = one.keeper.current.now
        await asyncio.to_thread(
            kube.kubectl, "delete", "secret", SECRET, f"--namespace={namespace}"
        )

        def bundle() -> bytes:
            secret = kube.get("secret", SECRET, f"--namespace={namespace}")
            return base64.b64decode(secret["data"]["ca.crt"])

        async def restored() -> bool:
            return await asyncio.to_thread(bundle) == first.trust_bundle

        await eventually_async(restored, deadline=30, retry_on=(AssertionError, Exception))

    garbage = base64.b64encode(b"garbage").decode()
    patch = json.dumps({"data": {"authority.json": garbage}})
    kube.kubectl("patch", "secret", SECRET, f"--namespace={namespace}", "--patch", patch)
    with pytest.raises(Exception, match=r"authority\.json is not a readable JSON object"):
        async with replica(config, "two"):
            pass
