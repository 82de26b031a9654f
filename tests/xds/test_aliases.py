"""While a trust domain is changed, identities of both are accepted, and nothing else differs."""

from dataclasses import replace

import pytest

from smi_xds.mesh.build import MeshBuilder
from smi_xds.mesh.model import Mesh, MeshSettings
from smi_xds.values import AccessMode, Secret
from smi_xds.xds.aliases import Aliases
from smi_xds.xds.dump import set_json
from smi_xds.xds.secrets import Credentials, leaf_secret
from smi_xds.xds.translate import Translator
from tests.support.objects import (
    http,
    mk_http_routes,
    mk_match,
    mk_pod,
    mk_port,
    mk_service,
    mk_target,
    mk_tcp_route,
    picture,
    tcp,
)

WORLD = (
    mk_pod("web", "10.0.0.1"),
    mk_pod("client", "10.0.0.2"),
    mk_service("web", mk_port(80), mk_port(5432)),
    mk_http_routes("all", mk_match("all")),
    mk_tcp_route("all"),
    mk_target("t", ["client"], "web", tcp("all")),
    mk_target("u", ["client"], "web", http("all")),
)


def mesh_of(domain: str, *aliases: str, access: AccessMode = AccessMode.STRICT) -> Mesh:
    settings = MeshSettings(trust_domain=domain, aliases=aliases, access=access)
    return MeshBuilder(settings)(picture(*WORLD))


def translated(translator: Translator, mesh: Mesh) -> dict[str, str]:
    """Everything that each proxy gets, as text."""
    leaf = leaf_secret(b"chain", Secret(b"key"))
    leaves = dict.fromkeys(mesh.identities, leaf)
    sets = translator(mesh, credentials=Credentials(trust_bundle=b"roots", leaves=leaves))
    return {node: str(set_json(resources)) for node, resources in sets.items()}


def test_without_aliases_it_is_the_same_mesh() -> None:
    """Who never changes a trust domain pays nothing."""
    mesh = mesh_of("cluster.local")

    assert Aliases()(mesh) is mesh


def test_callers_and_peers_are_accepted_by_both_names() -> None:
    """In rules, in handshakes and in what clients expect; certificates are of one."""
    found = translated(Translator(), mesh_of("cluster.local", "example.org"))

    web = found["shop/web"]
    for domain in ("cluster.local", "example.org"):
        # The rules of both TrafficTargets, and the list of the TCP chain.
        assert web.count(f"spiffe://{domain}/ns/shop/sa/client") == 3
        assert f"spiffe://{domain}/ns/shop/sa/web" in found["shop/client"]


@pytest.mark.parametrize("access", [AccessMode.STRICT, AccessMode.SHADOW])
def test_who_is_accepted_does_not_depend_on_what_is_signed(access: AccessMode) -> None:
    """When leaves of the new trust domain replace the old, no list changes with them."""
    before = mesh_of("cluster.local", "example.org", access=access)
    after = mesh_of("example.org", "cluster.local", access=access)

    old = Aliases()(before).workloads.values()
    new = Aliases()(after).workloads.values()

    assert [it.ports for it in old] == [it.ports for it in new]
    assert [it.udp_ports for it in old] == [it.udp_ports for it in new]
    expected = [
        [port.identities for service in Aliases()(mesh).services.values() for port in service.ports]
        for mesh in (before, after)
    ]
    assert expected[0] == expected[1]


def test_what_stays_is_the_very_same() -> None:
    """Rounds during a change cost what they cost without: a change, not the mesh."""
    aliases = Aliases()
    builder = MeshBuilder(MeshSettings(trust_domain="cluster.local", aliases=("example.org",)))
    first = aliases(builder(picture(*WORLD)))
    second = aliases(builder(picture(*WORLD, mk_pod("other", "10.0.0.9"))))

    for proxy, workload in first.workloads.items():
        assert second.workloads[proxy] is workload
    assert len(second.workloads) == 3


def test_the_end_of_a_change_is_as_if_it_had_never_been() -> None:
    """No trace of the former trust domain is left."""
    translator = Translator()
    translated(translator, mesh_of("cluster.local", "example.org"))

    after = translated(translator, mesh_of("example.org"))

    assert after == translated(Translator(), mesh_of("example.org"))
    assert "spiffe://cluster.local" not in str(after)


def test_connections_that_began_with_an_alias_are_drained() -> None:
    """Chains on which requests are judged get another name, and everything else stays."""
    settings = MeshSettings(trust_domain="example.org", aliases=("cluster.local",))
    before = MeshBuilder(settings)(picture(*WORLD))
    fading = MeshBuilder(replace(settings, fading=True))(picture(*WORLD))
    translator = Translator()

    old, new = translated(translator, before), translated(translator, fading)

    assert old["shop/client"] == new["shop/client"]
    # The HTTP chain; the TCP chain is judged in the handshake alone.
    assert new["shop/web"].count("'mtls|example.org'") == 1
    assert new["shop/web"].replace("'mtls|example.org'", "'mtls'") == old["shop/web"]
