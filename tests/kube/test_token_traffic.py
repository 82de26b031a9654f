"""What the Deployment serves carries requests: real Envoys, known by tokens alone, and a restart.

The arguments are the Deployment's, the account its own with the rights of the manifests, the
authority is in the Secret, and there is no plaintext xDS. Both sidecars start with the ConfigMap of
`smi-xds bootstrap --for-pods`; what a kubelet mounts are files here.
"""

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from smi_xds.cli.main import cli
from smi_xds.demo import processes
from smi_xds.demo.apps import Call, Spec
from smi_xds.demo.envoy import ADMIN_PORT, Sidecar, envoy_binary
from smi_xds.demo.fleet import Counted, Fleet, running_fleet
from smi_xds.install.names import AUTHORITY_SECRET, NAMESPACE, TRUST_CONFIG_MAP, XDS_TLS_PORT
from smi_xds.install.workload import Choices, arguments
from tests.kube.api import KubectlError
from tests.kube.cluster import KubeCluster
from tests.kube.installed import install, webhooks_answer
from tests.kube.netns import in_netns
from tests.kube.test_token_sidecar import Volume
from tests.support.plane import ControlPlane, control_plane
from tests.support.tokens import expired, make_token
from tests.support.wait import eventually_async

pytestmark = [pytest.mark.kube, pytest.mark.envoy]

CLIENT, SERVER = "client", "server"
NUMBERS = {CLIENT: 11, SERVER: 12}
PORT = 8080
DEADLINE = 60.0
# Requests a second, on connections that are kept; and how many are judged after each change.
RATE, CONNECTIONS, ENOUGH = 200.0, 4, 200

OBJECTS = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: client}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: server}
---
apiVersion: v1
kind: Service
metadata: {name: server}
spec: {selector: {app: server}, ports: [{name: http, port: 8080}]}
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: all}
spec: {matches: [{name: get, pathRegex: /.*, methods: [GET]}]}
---
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: server}
spec:
  destination: {kind: ServiceAccount, name: server, namespace: shop}
  sources: [{kind: ServiceAccount, name: client, namespace: shop}]
  rules: [{kind: HTTPRouteGroup, name: all, matches: [get]}]
"""


@in_netns()
async def test_requests_go_on_by_tokens_alone_while_the_server_is_killed(
    kube_binary: Path, tmp_path: Path
) -> None:
    """Over mTLS; nothing fails while the server is away, nor while tokens that have ended keep
    sidecars out. With new ones they hear again, from the same authority, that access is over.
    """
    with KubeCluster(binary=kube_binary) as kube:
        async with traffic(kube, tmp_path) as it:
            await it.all_are("200", "access is granted")
            await _is_mutual(it)
            roots = await _roots(it.kube)

            await it.plane.kill()
            await it.all_are("200", "the server is away")
            await _tokens_end(it)
            await it.plane.start()
            await it.are_refused("this token has expired")
            await it.all_are("200", "sidecars are refused")

            for pod in it.pods.values():
                await pod.new_token(kube)
            await it.are_connected()
            assert await _roots(it.kube) == roots, "the root is another one"
            await it.all_are("200", "sidecars are back")

            await asyncio.to_thread(kube.kubectl, "delete", "traffictarget", SERVER, "-n", "shop")
            await it.become("403")
            await it.all_are("403", "access is over")


@dataclass(frozen=True, slots=True)
class Pod:
    """What is mounted into one, and its Envoy."""

    name: str
    token: Volume
    files: Volume
    sidecar: Sidecar

    async def new_token(self, kube: KubeCluster) -> None:
        """What the kubelet does in time."""
        token = await asyncio.to_thread(
            make_token, kube, self.name, namespace="shop", account=self.name
        )
        self.token.write({"token": token})

    async def stats(self, pattern: str) -> Mapping[str, int]:
        """Counters and gauges of its Envoy."""
        found = json.loads(await self.sidecar._get(f"/stats?format=json&filter={pattern}"))
        return {stat["name"]: stat["value"] for stat in found["stats"] if "name" in stat}

    async def is_connected(self) -> bool:
        """Whether its Envoy has a stream."""
        return list((await self.stats("^control_plane.connected_state$")).values()) == [1]


@dataclass(slots=True)
class Traffic:
    """A client that calls a server all the time."""

    kube: KubeCluster
    plane: ControlPlane
    fleet: Fleet
    pods: Mapping[str, Pod]
    seen: list[Counted] = field(default_factory=list)
    """All that has been answered since it was judged."""

    async def all_are(self, code: str, what: str) -> None:
        """Judge all requests since the last time, and some more: each was answered so."""
        await self.epoch()
        found, opened = self._codes(), sum(it.opened[CLIENT] for it in self.seen)
        # With messages: in a network namespace nobody rewrites assertions.
        assert set(found) == {code}, f"{what}: {found}"
        assert not opened, f"{what}: {opened} connections were not kept"
        self.seen.clear()

    async def begin(self) -> None:
        """Wait until requests are answered: endpoints may come after the pods."""
        await self._are("200")
        self.seen.clear()

    async def become(self, code: str) -> None:
        """Wait until all are answered so; until then 200 is right as well, and nothing else."""
        await self._are(code)
        found = self._codes()
        assert set(found) <= {"200", code}, found
        self.seen.clear()

    async def _are(self, code: str) -> None:
        async def are() -> bool:
            await self.epoch(50)
            return set(self.seen[-1].tally.codes(CLIENT)) == {code}

        await eventually_async(are, deadline=DEADLINE, what=code)

    async def epoch(self, enough: int = ENOUGH) -> None:
        """So many requests, made from now on; those before are not lost."""
        self.seen.append(await self.fleet.turn({CLIENT: RATE}))

        def counted() -> bool:
            return self.fleet.now().tally.requests(CLIENT) >= enough

        await eventually_async(counted, deadline=DEADLINE, what=f"{enough} requests")
        self.seen.append(await self.fleet.turn({CLIENT: RATE}))

    def _codes(self) -> dict[str, int]:
        total = Counted.sum(self.seen)
        return dict(total.tally.codes(CLIENT) + total.strays.codes(CLIENT))

    async def are_connected(self) -> None:
        """Wait until both sidecars have a stream."""
        for pod in self.pods.values():
            await eventually_async(pod.is_connected, deadline=DEADLINE, what=f"{pod.name}: stream")

    async def are_refused(self, reason: str) -> None:
        """Wait until both have tried since the server started, and have been refused for that."""

        def callers() -> set[str]:
            refusals = self.plane.events("stream_refused")
            return {it["peer"] for it in refusals if reason in it["reason"]}

        # Each keeps its connection, by which it tries again.
        await eventually_async(
            lambda: len(callers()) == len(NUMBERS), deadline=DEADLINE, what=reason
        )
        for pod in self.pods.values():
            assert not await pod.is_connected(), f"{pod.name} has a stream"


async def _tokens_end(it: Traffic) -> None:
    """They are what they were, but have ended; Envoy has read them when that returns."""
    for pod in it.pods.values():
        before = sum((await pod.stats("^sds.*token.*update_success$")).values())
        token = (pod.token.folder / "token").read_text()
        pod.token.write({"token": expired(token, it.kube.scratch / "accounts.key", since=600)})

        async def is_read(pod: Pod = pod, before: int = before) -> bool:
            return sum((await pod.stats("^sds.*token.*update_success$")).values()) > before

        await eventually_async(is_read, deadline=DEADLINE, what=f"{pod.name} reads its token")


async def _is_mutual(it: Traffic) -> None:
    """The server's sidecar has taken no connection without a certificate, and takes none."""
    found = await it.pods[SERVER].stats(f"^listener.{_address(SERVER)}_{PORT}.ssl.")
    handshakes = {name: n for name, n in found.items() if name.endswith("ssl.handshake")}
    assert sum(handshakes.values()) > 0, found
    assert not sum(n for name, n in found.items() if name.endswith("no_certificate")), found
    reader, writer = await asyncio.open_connection(_address(SERVER), PORT)
    writer.write(b"GET / HTTP/1.1\r\nhost: server.shop\r\n\r\n")
    async with asyncio.timeout(DEADLINE):
        with suppress(ConnectionResetError):
            assert await reader.read(1) == b"", "plaintext was answered"
    writer.close()


async def _roots(kube: KubeCluster) -> tuple[str, str]:
    """In the Secret, and as pods have them."""
    secret = await asyncio.to_thread(kube.get, "secret", AUTHORITY_SECRET, "-n", NAMESPACE)
    trusted = await asyncio.to_thread(kube.get, "configmap", TRUST_CONFIG_MAP, "-n", "shop")
    return base64.b64decode(secret["data"]["ca.crt"]).decode(), trusted["data"]["ca.crt"]


def _address(name: str) -> str:
    return f"10.244.0.{NUMBERS[name]}"


def _app_address(name: str) -> str:
    return f"127.64.0.{NUMBERS[name]}"  # loopback, which only an annotation may say


@asynccontextmanager
async def traffic(kube: KubeCluster, folder: Path) -> AsyncIterator[Traffic]:
    """Open it, until requests are made on connections that are kept."""
    async with asyncio.TaskGroup() as tasks, AsyncExitStack() as stack:
        enter = stack.enter_async_context
        account = await asyncio.to_thread(install, kube, folder)
        plane = await enter(control_plane(*_arguments(account), folder=folder))
        await plane.start()
        [serving] = plane.events("serving")
        assert serving["xds_address"] is None, serving
        await eventually_async(
            lambda: asyncio.to_thread(webhooks_answer, kube),
            deadline=DEADLINE,
            retry_on=(KubectlError,),
        )
        await asyncio.to_thread(_furnish, kube)
        _, root = await eventually_async(
            lambda: _roots(kube), deadline=DEADLINE, retry_on=(KubectlError,), what="roots"
        )
        fleet = await enter(running_fleet([_spec(CLIENT), _spec(SERVER)], tasks=tasks))
        pods = {name: await enter(_pod(name, kube, folder, root=root)) for name in NUMBERS}
        it = Traffic(kube=kube, plane=plane, fleet=fleet, pods=pods)
        for pod in pods.values():
            await pod.sidecar.wait_until_ready()
        await it.begin()
        yield it


def _arguments(account: Path) -> list[str]:
    """Those of the Deployment, outside of a pod."""
    [serve, *flags] = arguments(Choices())
    assert serve == "serve"
    place = flags.index("--in-cluster")
    return [*flags[:place], f"--kubeconfig={account}", *flags[place + 1 :], "--xds-address=off"]


def _furnish(kube: KubeCluster) -> None:
    kube.make_namespace("shop")
    kube.kubectl(
        "annotate", "namespace", "shop", "smi-xds.io/sidecar=bound", "smi-xds.io/access=strict"
    )
    kube.apply(OBJECTS, namespace="shop")
    for name in NUMBERS:
        kube.make_pod(
            name,
            namespace="shop",
            service_account=name,
            labels={"app": name},
            annotations={"smi-xds.io/app-address": _app_address(name)},
            ports={"http": PORT} if name == SERVER else {},
            ip=_address(name),
        )


def _spec(name: str) -> Spec:
    calls = name == CLIENT
    call = Call(service=SERVER, host=f"{SERVER}.shop", method="GET", path="/")
    return Spec(
        name=name,
        address=_app_address(name),
        sidecar=_address(name),
        port=0 if calls else PORT,
        call=call if calls else None,
        connections=CONNECTIONS if calls else 0,
    )


@asynccontextmanager
async def _pod(name: str, kube: KubeCluster, folder: Path, *, root: str) -> AsyncIterator[Pod]:
    """Its volumes, and its Envoy as deploy/sidecar starts it."""
    token, trust, files = (Volume(folder / name / it) for it in ("token", "trust", "files"))
    flags = [
        *("bootstrap", "--for-pods", "--server", f"127.0.0.1:{XDS_TLS_PORT}"),
        *("--server-name", f"smi-xds.{NAMESPACE}.svc", "--secrets", str(files.folder)),
        *("--token", str(token.folder / "token"), "--root", str(trust.folder / "ca.crt")),
    ]
    printed = await asyncio.to_thread(CliRunner().invoke, cli, flags, catch_exceptions=False)
    files.write(yaml.safe_load(printed.stdout)["data"])
    trust.write({"ca.crt": root})
    # Pods share one network namespace here: an admin address for each.
    admin = {"socket_address": {"address": _app_address(name), "port_value": ADMIN_PORT}}
    node = {"id": f"shop/{name}", "cluster": f"shop/{name}"}
    command = processes.tethered(
        envoy_binary(),
        *("--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"),
        *("--config-path", str(files.folder / "envoy.json")),
        *("--config-yaml", json.dumps({"node": node, "admin": {"address": admin}})),
    )
    log = folder / f"{name}.log"
    sidecar = Sidecar(
        name=name, admin_host=_app_address(name), log=log, access_log=Path(os.devnull)
    )
    pod = Pod(name=name, token=token, files=files, sidecar=sidecar)
    await pod.new_token(kube)
    with log.open("wb") as stderr:
        async with processes.running(command, stderr=stderr):
            yield pod
