"""What users of kubectl see of what became of their objects, beside a real API server."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from smi_xds.config import parse_kubernetes, parse_mesh, parse_serve
from smi_xds.sources.kube_connection import Connection
from smi_xds.writeback.desk import QUIET, Sight
from smi_xds.writeback.lease import DURATION, Leadership
from smi_xds.writeback.tally import fleet_of
from smi_xds.writeback.writer import Writer
from tests.faults.watching import metric
from tests.kube.api import Kube
from tests.support.plane import ControlPlane, control_plane
from tests.support.played_proxy import played_proxy
from tests.support.wait import eventually_async
from tests.writeback.fakes import FakeClock

SPLITS: Final = "/apis/split.smi-spec.io/v1alpha4/namespaces/{}/trafficsplits"
LEASE: Final = "smi-xds-leader"

# Exactly what smi_xds.writeback asks for, beside what the source reads.
RIGHTS: Final[list[dict[str, list[str]]]] = [
    {
        "apiGroups": ["", "discovery.k8s.io"],
        "resources": ["serviceaccounts", "services", "pods", "endpointslices"],
        "verbs": ["list", "watch"],
    },
    {
        "apiGroups": ["access.smi-spec.io", "specs.smi-spec.io", "split.smi-spec.io"],
        "resources": ["*"],
        "verbs": ["get", "list", "watch"],
    },
    {
        "apiGroups": ["access.smi-spec.io", "specs.smi-spec.io", "split.smi-spec.io"],
        "resources": ["*/status"],
        "verbs": ["patch"],
    },
    {
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "verbs": ["get", "list", "create", "update", "delete"],
    },
    {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]},
]

OBJECTS: Final = """
apiVersion: v1
kind: List
items:
  - apiVersion: v1
    kind: Service
    metadata: {name: web}
    spec: {selector: {app: web}, ports: [{name: http, port: 80}]}
  - apiVersion: v1
    kind: Service
    metadata: {name: web-v1}
    spec: {selector: {app: web}, ports: [{name: http, port: 80}]}
  - apiVersion: specs.smi-spec.io/v1alpha4
    kind: HTTPRouteGroup
    metadata: {name: everything}
    spec: {matches: [{name: all, pathRegex: ".*", methods: ["*"]}]}
  - apiVersion: access.smi-spec.io/v1alpha3
    kind: TrafficTarget
    metadata: {name: web}
    spec:
      destination: {kind: ServiceAccount, name: web}
      sources: [{kind: ServiceAccount, name: client}]
      rules: [{kind: HTTPRouteGroup, name: everything}]
"""


def split(name: str, *backends: str, root: str = "web", **more: Any) -> dict[str, Any]:
    """A TrafficSplit."""
    return {
        "apiVersion": "split.smi-spec.io/v1alpha4",
        "kind": "TrafficSplit",
        "metadata": {"name": name, **more},
        "spec": {
            "service": root,
            "backends": [{"service": it, "weight": 1} for it in backends or ("web-v1",)],
        },
    }


def serving(kubeconfig: Path, namespace: str, folder: Path, *flags: str) -> Any:
    """A server that writes back, of one namespace, not started yet."""
    folder.mkdir(exist_ok=True)
    return control_plane(
        *("--kubernetes", "--kubeconfig", kubeconfig, "--namespace", namespace),
        *("--xds-address", "127.0.0.1:0", "--state-folder", folder / "state"),
        *("--write-back", "--lease", f"{namespace}/{LEASE}", *flags),
        folder=folder,
    )


def conditions(document: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    status = document.get("status") or {}
    return {it["type"]: (it["status"], it["reason"]) for it in status.get("conditions", ())}


def message(document: Mapping[str, Any], type_: str) -> str:
    found = (it for it in document["status"]["conditions"] if it["type"] == type_)
    return str(next(found)["message"])


def rights(kube: Kube, namespace: str) -> Path:
    """A kubeconfig that may do what a server needs in one namespace, and nothing else."""
    path = kube.kubeconfig_for("smi-xds", namespace=namespace)
    subject = {"kind": "ServiceAccount", "name": "smi-xds", "namespace": namespace}
    metadata = {"name": "smi-xds", "namespace": namespace}
    group = "rbac.authorization.k8s.io"
    watched = {"apiGroups": [""], "resources": ["namespaces"], "resourceNames": [namespace]}
    everywhere = {"name": f"smi-xds-{namespace}"}
    kube.apply(
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRole",
            "metadata": everywhere,
            "rules": [{**watched, "verbs": ["list", "watch"]}],
        },
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": everywhere,
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", **everywhere},
            "subjects": [subject],
        },
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": metadata, "rules": RIGHTS},
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": "smi-xds"},
            "subjects": [subject],
        },
    )
    return path


def make_pods(kube: Kube, namespace: str) -> None:
    for number, name in enumerate(("web", "client"), start=1):
        kube.make_pod(
            name,
            namespace=namespace,
            service_account="default",
            labels={"app": name},
            annotations={"smi-xds.io/sidecar": "bound"},
            ip=f"10.1.0.{number}",
        )


def with_default_accounts(text: str) -> str:
    """The controllers of tests make the account `default` alone."""
    return text.replace("name: client}", "name: default}").replace(
        "destination: {kind: ServiceAccount, name: web}",
        "destination: {kind: ServiceAccount, name: default}",
    )


async def test_kubectl_shows_what_became_of_objects(
    kube: Kube, namespace: str, tmp_path: Path
) -> None:
    """Conditions in get -o yaml and for wait, events in describe; with the least of rights."""
    flag = f"--namespace={namespace}"

    async def ask(*arguments: str) -> str:
        return await asyncio.to_thread(kube.kubectl, *arguments)

    async def get(*arguments: str) -> Any:
        return await asyncio.to_thread(kube.get, *arguments)

    kubeconfig = await asyncio.to_thread(rights, kube, namespace)
    await asyncio.to_thread(make_pods, kube, namespace)
    await asyncio.to_thread(
        partial(kube.apply, namespace=namespace),
        with_default_accounts(OBJECTS),
        split("web"),
        split("broken", "nowhere", root="web-v1"),
        split("shadowed", root="web-v1"),
    )
    async with serving(kubeconfig, namespace, tmp_path) as plane:
        await plane.start()
        address = plane.events("serving")[-1]["xds_address"]
        async with (
            played_proxy(address, f"{namespace}/web"),
            played_proxy(address, f"{namespace}/client") as client,
        ):
            for kind in ("traffictarget/web", "httproutegroup/everything", "trafficsplit/web"):
                await ask("wait", "--for=condition=Programmed", kind, "--timeout=40s", flag)
            shown = await get("trafficsplit", "web", flag)
            broken = await get("trafficsplit", "broken", flag)
            assert conditions(shown) == {
                "Accepted": ("True", "Accepted"),
                "ResolvedRefs": ("True", "ResolvedRefs"),
                "Programmed": ("True", "Programmed"),
            }
            assert message(shown, "Programmed") == "Applied on 2 of 2 proxies."
            shadowed = await get("trafficsplit", "shadowed", flag)
            assert conditions(shadowed)["Accepted"] == ("False", "ShadowedSplit")
            assert conditions(shadowed)["Programmed"] == ("Unknown", "NoProxies")
            assert conditions(broken)["ResolvedRefs"] == ("False", "MissingBackend")
            assert {it["observedGeneration"] for it in broken["status"]["conditions"]} == {1}

            async def described() -> bool:
                text = await ask("describe", "trafficsplit", "broken", flag)
                assert "Warning  MissingBackend" in text, text
                assert "Create it, or correct the name." in text
                return True

            await eventually_async(described, deadline=20)
            # What a proxy refuses is told, with its own words.
            client.refusal = "no such filter"
            extra = {"name": "web-v2", "ports": [{"name": "http", "port": 80}]}
            await asyncio.to_thread(
                kube.apply,
                {
                    "apiVersion": "v1",
                    "kind": "Service",
                    "metadata": {"name": extra["name"], "namespace": namespace},
                    "spec": {"selector": {"app": "web"}, "ports": extra["ports"]},
                },
                split("web", "web-v1", "web-v2", namespace=namespace),
            )
            await ask(
                "wait",
                "--for=condition=Programmed=False",
                "trafficsplit/web",
                "--timeout=40s",
                flag,
            )
            refused = await get("trafficsplit", "web", flag)
            assert conditions(refused)["Programmed"] == ("False", "Rejected")
            assert message(refused, "Programmed") == (
                f"Applied on 1 of 2 proxies; {namespace}/client refuses what it was sent: "
                "no such filter"
            )
        for refusal in ("status_refused", "events_refused", "lease_unavailable"):
            assert not plane.events(refusal)
        assert await plane.terminate() == 0
    lease = await get("lease", LEASE, flag)
    assert "holderIdentity" not in lease["spec"]


@dataclass(slots=True)
class Writes:
    """What a watch saw of some objects: each change of spec and of status, and when."""

    specs: dict[str, float] = field(default_factory=dict)
    statuses: Counter[str] = field(default_factory=Counter)
    soonest: float = 1e9
    """Seconds from a change of a spec to the next of its status, at the least."""
    _last: dict[str, tuple[str, int, str]] = field(default_factory=dict)

    def take(self, line: Mapping[str, Any]) -> None:
        it = line["object"]
        metadata, now = it["metadata"], time.monotonic()
        name, status = metadata["name"], json.dumps(it.get("status"), sort_keys=True)
        uid, generation, said = self._last.get(name, ("", 0, "null"))
        if (uid, generation) != (metadata["uid"], metadata["generation"]):
            self.specs[name] = now
        elif status != said:
            self.statuses[name] += 1
            self.soonest = min(self.soonest, now - self.specs[name])
        self._last[name] = (metadata["uid"], metadata["generation"], status)


@asynccontextmanager
async def watching(kube: Kube, namespace: str) -> AsyncIterator[Writes]:
    """Watch the splits of a namespace."""
    connection = Connection(parse_kubernetes(kubeconfig=str(kube.kubeconfig)))
    await connection.open()
    writes, started = Writes(), asyncio.Event()

    async def watch() -> None:
        params = {"watch": "1", "timeoutSeconds": "600", "allowWatchBookmarks": "true"}
        path = SPLITS.format(namespace)
        rest = b""
        async with connection.get(path, params, silence=600) as chunks:
            started.set()
            async for chunk in chunks:
                *lines, rest = (rest + chunk).split(b"\n")
                for line in map(json.loads, filter(None, lines)):
                    if line["type"] in ("ADDED", "MODIFIED"):
                        writes.take(line)

    try:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(watch())
            await started.wait()
            try:
                yield writes
            finally:
                task.cancel()
    finally:
        await connection.close()


async def test_who_puts_what_it_read_is_not_disturbed(
    kube: Kube, namespace: str, tmp_path: Path
) -> None:
    """As Flagger does: each second the whole object with the version of its own last PUT.

    Nobody writes for two seconds after a change, and then once; so for an object made anew.
    """
    connection = Connection(parse_kubernetes(kubeconfig=str(kube.kubeconfig)))
    await connection.open()
    path = f"{SPLITS.format(namespace)}/web"
    await asyncio.to_thread(partial(kube.apply, namespace=namespace), OBJECTS, split("web"))
    async with (
        serving(kube.kubeconfig, namespace, tmp_path) as plane,
        watching(kube, namespace) as w,
    ):
        await plane.start()
        await eventually_async(lambda: w.statuses["web"], deadline=30)
        document = json.loads(await connection.read(path))
        for weight in range(2, 8):
            document["spec"]["backends"][0]["weight"] = weight
            # RefusedError with 409, were it not its own.
            document = json.loads(await connection.send("PUT", path, json.dumps(document).encode()))
            assert document["metadata"]["generation"] == weight
            await asyncio.sleep(1.0)  # its interval

        def answered() -> bool:
            return w.statuses["web"] == 2

        await eventually_async(answered, deadline=30)
        last = json.loads(await connection.read(path))
        assert {it["observedGeneration"] for it in last["status"]["conditions"]} == {7}
        # And as `kubectl replace --force` does, and k8s-deploy: another object of that name.
        await connection.send("DELETE", path)
        created = json.dumps(split("web")).encode()
        await connection.send("POST", SPLITS.format(namespace), created)
        await eventually_async(lambda: w.statuses["web"] == 3, deadline=30)
    await connection.close()
    assert w.soonest > 2.0


async def test_nothing_is_written_where_nothing_changed(
    kube: Kube, namespace: str, tmp_path: Path
) -> None:
    """Hours of rounds, looks, lists and new leaders leave every object as it is."""
    apply = partial(kube.apply, namespace=namespace)
    await asyncio.to_thread(
        apply, OBJECTS, split("web"), split("broken", "nowhere"), split("other", "web")
    )
    config = parse_serve(
        kubernetes=parse_kubernetes(kubeconfig=str(kube.kubeconfig), namespaces=[namespace]),
        xds_address="127.0.0.1:0",
        state_folder=tmp_path,
        mesh=parse_mesh(),
    )
    # Only now: `app` imports what no other test of this folder needs.
    from smi_xds.app import running

    async with running(config) as server, watching(kube, namespace) as writes:
        clock = FakeClock()
        leadership = Leadership("a", clock=clock)
        leadership.extend(1e12)
        assert config.kubernetes is not None
        connection = Connection(config.kubernetes)
        await connection.open()

        def look() -> Sight:
            fleet = fleet_of(server.mesh, server.status.streams.values())
            return Sight(mesh=server.mesh, round=server.status.rounds[-1].number, fleet=fleet)

        writer = Writer(
            connection,
            leadership,
            look=look,
            mark=lambda: (server.round, clock.now),
            namespaces=(namespace,),
            clock=clock,
        )

        async def written() -> bool:
            clock.now += QUIET
            await writer.step()
            return sum(writes.statuses.values()) == 3

        await eventually_async(written, deadline=30)
        before = await asyncio.to_thread(versions, kube, namespace)
        for hour in range(1, 13):
            seen = server.round
            # A round that changes nothing of these: what they say stays the same.
            unrelated = {
                "metadata": {"name": f"unrelated-{hour}"},
                "spec": {"ports": [{"port": 80}]},
            }
            path = f"/api/v1/namespaces/{namespace}/services"
            await connection.send("POST", path, json.dumps(unrelated).encode())
            await server.next_round(seen)
            if hour == 6:
                writer.begin()
            for _ in range(4):
                clock.now += 900.0
                await writer.step()
        await connection.close()
        after = await asyncio.to_thread(versions, kube, namespace)
    assert before == after
    assert writer.meters.status.values["written"] == 5.0
    assert writer.meters.status.values["unchanged"] == 5.0
    assert server.failed_rounds == 0


def versions(kube: Kube, namespace: str) -> dict[str, str]:
    """The version of each SMI object."""
    kinds = "traffictargets,httproutegroups,trafficsplits"
    found = kube.get(kinds, f"--namespace={namespace}")["items"]
    return {
        f"{it['kind']}/{it['metadata']['name']}": it["metadata"]["resourceVersion"] for it in found
    }


async def test_a_leader_is_killed_while_it_writes(
    kube: Kube, namespace: str, tmp_path: Path
) -> None:
    """The other one takes over and completes it; no object is written twice.

    Before, the leader counts the proxies of both.
    """
    number = 150
    names = [f"web-{index:03}" for index in range(number)]
    await asyncio.to_thread(make_pods, kube, namespace)
    await asyncio.to_thread(
        partial(kube.apply, namespace=namespace), with_default_accounts(OBJECTS)
    )
    async with (
        serving(kube.kubeconfig, namespace, tmp_path / "a") as a,
        serving(kube.kubeconfig, namespace, tmp_path / "b") as b,
        watching(kube, namespace) as writes,
    ):
        await a.start()
        await a.logged("leading")
        await b.start()
        async with (
            played_proxy(a.events("serving")[-1]["xds_address"], f"{namespace}/web"),
            played_proxy(b.events("serving")[-1]["xds_address"], f"{namespace}/client"),
        ):
            # The leader knows of both. If it wrote of one before, words change once a minute.
            await eventually_async(partial(has_all, kube, namespace), deadline=100)
        splits = {"apiVersion": "v1", "kind": "List", "items": [split(name) for name in names]}
        await asyncio.to_thread(partial(kube.apply, namespace=namespace), splits)
        await eventually_async(lambda: len(writes.statuses) > 20, deadline=40)
        assert await written(b) == 0
        await a.kill()
        assert len(writes.statuses) < number, "killed in the midst of it"
        # Nobody writes while it is not known that the leader is gone.
        await b.logged("leading", deadline=DURATION + 20)
        assert await written(b) == 0
        await eventually_async(lambda: len(writes.statuses) == number, deadline=60)
        await eventually_async(partial(is_calm, b), deadline=30)
    assert set(writes.statuses.values()) == {1}
    last = await asyncio.to_thread(kube.get, "trafficsplits", f"--namespace={namespace}")
    assert all(conditions(it)["Accepted"] for it in last["items"])


async def has_all(kube: Kube, namespace: str) -> bool:
    found = await asyncio.to_thread(kube.get, "traffictarget", "web", f"--namespace={namespace}")
    if "Programmed" not in (said := conditions(found)):
        return False  # nothing is written yet
    assert said["Programmed"] == ("True", "Programmed")
    return message(found, "Programmed") == "Applied on 2 of 2 proxies."


async def written(plane: ControlPlane) -> float:
    return (await metric(plane, "smi_xds_status_writes_total")).get('result="written"', 0)


async def is_calm(plane: ControlPlane) -> bool:
    return (await metric(plane, "smi_xds_status_queue"))[""] == 0
