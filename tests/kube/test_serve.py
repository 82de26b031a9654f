"""What a user of `smi-xds serve --kubernetes` sees where something is not as it should be."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from smi_xds.objects.versions import SMI_KINDS
from smi_xds.sources.kube_kinds import KINDS
from tests.kube.api import Kube
from tests.kube.cluster import KubeCluster
from tests.kube.plugin import CRDS
from tests.support.plane import ControlPlane, control_plane
from tests.support.wait import eventually_async

# What a role names; all that is read but TrafficSplits.
ALL_BUT_SPLITS = (
    "namespaces",
    "serviceaccounts",
    "services",
    "pods",
    "endpointslices.discovery.k8s.io",
    "traffictargets.access.smi-spec.io",
    "identitybindings.access.smi-spec.io",
    "httproutegroups.specs.smi-spec.io",
    "tcproutes.specs.smi-spec.io",
    "udproutes.specs.smi-spec.io",
)

SPLIT_OF_NOTHING = """
apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata: {name: of-nothing}
spec: {service: nowhere, backends: [{service: web, weight: 1}]}
"""


def serving(
    kubeconfig: Path, tmp_path: Path, *flags: str
) -> AbstractAsyncContextManager[ControlPlane]:
    """A server with a kubeconfig, not started yet."""
    state = ("--xds-address", "127.0.0.1:0", "--state-folder", tmp_path / "state")
    return control_plane(
        "--kubernetes", "--kubeconfig", kubeconfig, *state, *flags, folder=tmp_path
    )


def mk_kubeconfig(folder: Path, server: str) -> Path:
    """A kubeconfig with one context, `here`."""
    config = {
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "here",
    }
    path = folder / "kubeconfig"
    path.write_text(json.dumps(config))
    return path


@asynccontextmanager
async def hanging_up() -> AsyncIterator[tuple[str, list[str]]]:
    """A server that ends every connection: its URL, and who connected so far."""
    peers: list[str] = []

    def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.append(str(writer.get_extra_info("peername")))
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", peers


async def test_an_api_server_that_is_away_is_waited_for(tmp_path: Path) -> None:
    """One line names it and what to do, however often it is tried; nothing is served meanwhile."""
    async with (
        hanging_up() as (url, peers),
        serving(mk_kubeconfig(tmp_path, url), tmp_path) as plane,
    ):
        await plane.launch()
        await eventually_async(lambda: len(peers) > 30, deadline=30)
        [problem] = plane.events("problem_found")
        assert plane.events("serving") == []
        assert await plane.terminate() == 0

    assert problem["code"] == "SourceUnavailable"
    assert url in problem["message"]
    assert "Make it reachable" in problem["cure"]
    assert plane.complaints() == []


@pytest.mark.parametrize(
    "content, flags, said",
    [
        (None, (), "does not exist: give --kubeconfig FILE"),
        ("", (), "it is no kubeconfig"),
        ("clusters: [", (), "kubectl config get-contexts"),
        ("GOOD", ("--context", "there"), "context there cannot be used"),
    ],
)
async def test_a_kubeconfig_that_cannot_be_used_is_one_line(
    content: str | None, flags: Sequence[str], said: str, tmp_path: Path
) -> None:
    """It names the file and what is wrong; the exit code is 2."""
    path = mk_kubeconfig(tmp_path, "https://127.0.0.1:1")
    if content is None:
        path.unlink()
    elif content != "GOOD":
        path.write_text(content)
    async with serving(path, tmp_path, *flags) as plane:
        await plane.launch()
        assert await plane.ended() == 2

    [line] = plane.complaints()
    assert line.startswith(f"smi-xds: kubeconfig {path}")
    assert said in line


@contextmanager
def account(kube: Kube, namespace: str) -> Iterator[Path]:
    """A service account without rights; what is granted to it under its name is taken back."""
    name = f"reader-{namespace}"
    try:
        yield kube.kubeconfig_for("reader", namespace=namespace)
    finally:
        for kind in ("clusterrole", "clusterrolebinding"):
            kube.kubectl("delete", kind, name, "--ignore-not-found")


def grant(kube: Kube, namespace: str, resources: Sequence[str]) -> None:
    """Let the account read these everywhere."""
    name = f"reader-{namespace}"
    kube.kubectl(
        "create", "clusterrole", name, "--verb=list,watch", f"--resource={','.join(resources)}"
    )
    user = f"--serviceaccount={namespace}:reader"
    kube.kubectl("create", "clusterrolebinding", name, f"--clusterrole={name}", user)


async def test_rights_that_are_missing_are_told_one_by_one(
    kube: Kube, namespace: str, tmp_path: Path
) -> None:
    """Without any nothing is served, rather than an empty mesh; with all but one the rest is."""
    web = {"app": "web"}
    kube.make_pod(
        "web", namespace=namespace, labels=web, annotations={"smi-xds.io/sidecar": "bound"},
        ip="10.244.0.5",
    )  # fmt: skip
    kube.kubectl("create", "service", "clusterip", "web", "--tcp=80", f"--namespace={namespace}")
    with account(kube, namespace) as kubeconfig:
        async with serving(kubeconfig, tmp_path, "--namespace", namespace) as plane:
            await plane.launch()
            await eventually_async(
                lambda: len(plane.events("problem_found")) == len(KINDS), deadline=30
            )
            forbidden = {problem["code"] for problem in plane.events("problem_found")}
            assert (forbidden, plane.events("serving")) == ({"SourceForbidden"}, [])

            await asyncio.to_thread(grant, kube, namespace, ALL_BUT_SPLITS)
            await plane.logged("serving", deadline=30)
            await eventually_async(lambda: len(plane.events("problem_solved")) == len(KINDS) - 1)
            [synced] = plane.events("synced")

    assert (synced["services"], synced["workloads"]) == (1, 1)
    solved = {problem["message"] for problem in plane.events("problem_solved")}
    [left] = [it for it in plane.events("problem_found") if it["message"] not in solved]
    assert f"trafficsplits.split.smi-spec.io in namespace {namespace}" in left["message"]
    assert f"system:serviceaccount:{namespace}:reader" in left["message"]
    assert "Bind a role" in left["cure"]


@pytest.mark.timeout(120)
async def test_crds_that_are_missing_are_waited_for(
    kube_without_crds: KubeCluster, tmp_path: Path
) -> None:
    """Each is a problem that says what to apply, and all else is served; then objects count."""
    kube = kube_without_crds
    async with serving(kube.kubeconfig, tmp_path) as plane:
        await plane.start()
        found = plane.events("problem_found")
        assert [problem["code"] for problem in found] == ["MissingCRD"] * len(SMI_KINDS)
        [cure] = {problem["cure"] for problem in found}
        assert cure.endswith("kubectl apply -k deploy/crds.")

        await asyncio.to_thread(kube.apply_crds, CRDS)
        await eventually_async(lambda: len(plane.events("problem_solved")) == len(SMI_KINDS))
        await asyncio.to_thread(kube.apply, SPLIT_OF_NOTHING)

        def is_read() -> bool:
            last: str = plane.events("problem_found")[-1]["object"]
            return last == "TrafficSplit default/of-nothing"

        await eventually_async(is_read)
        await asyncio.to_thread(kube.kubectl, "delete", "trafficsplit", "of-nothing")
