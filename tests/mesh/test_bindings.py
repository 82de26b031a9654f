"""IdentityBindings: whom each scheme means, as a caller and as a destination."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from smi_xds.mesh.build import MeshBuilder
from smi_xds.mesh.model import Mesh, MeshSettings, PortRef, Sidecar, Source
from smi_xds.objects.kube import Pod
from smi_xds.objects.parse import MeshObject
from smi_xds.objects.smi import IdentityBinding, Subject
from smi_xds.objects.store import Applied, Deleted, Origin, Replaced, Store
from smi_xds.problems import ProblemCode
from smi_xds.values import ProxyId, ServiceRef
from tests.support.mesh import build_mesh, told
from tests.support.objects import (
    NS,
    http,
    mk_http_routes,
    mk_match,
    mk_pod,
    mk_port,
    mk_service,
    mk_target,
    mk_tcp_route,
    spiffe,
    tcp,
    with_slices,
)

ALL = mk_tcp_route("all")
INTERCEPTED = {"sidecar": "intercepted"}


def mk_binding(
    name: str,
    *,
    labels: Mapping[str, str] | None = None,
    ids: tuple[str, ...] | None = None,
    account: str | None = None,
    namespace: str = NS,
) -> IdentityBinding:
    return IdentityBinding(
        namespace=namespace,
        name=name,
        match_labels=None if labels is None else tuple(sorted(labels.items())),
        spiffe_identities=ids,
        service_account=account,
    )


def bound(name: str, namespace: str | None = None, group: str | None = None) -> Subject:
    return Subject(kind="IdentityBinding", name=name, namespace=namespace, group=group)


def world(sidecar: str = "intercepted") -> tuple[MeshObject, ...]:
    """A server with an HTTP and a TCP port; two callers of one account, and one of another."""
    return (
        ALL,
        mk_pod("server", "10.0.0.1", sidecar=sidecar),
        mk_service("server", mk_port(80, "http"), mk_port(5432, "tcp-db")),
        mk_pod("blue", "10.0.0.2 fd00::2", account="client", app="blue"),
        mk_pod("green", "10.0.0.3", account="client", app="green"),
        mk_pod("other", "10.0.0.4"),
    )


def sources(mesh: Mesh, pod: str = "server") -> tuple[Source, ...]:
    """Who may call the pod's HTTP port; nobody where it has no grant."""
    ports = {port.number: port for port in mesh.workloads[ProxyId(NS, pod)].ports}
    assert len(ports[80].grants) <= 1
    return tuple(source for grant in ports[80].grants for source in grant.sources)


def called_by(binding: IdentityBinding, *more: MeshObject, sidecar: str = "intercepted") -> Mesh:
    target = mk_target("t", [bound(binding.name)], "server", tcp("all"))
    return build_mesh(*world(sidecar), binding, target, *more)


def test_a_service_account_is_its_identity() -> None:
    """The scheme serviceAccount means every pod of that account in the binding's namespace."""
    mesh = called_by(mk_binding("b", account="client"))
    assert sources(mesh) == (Source(spiffe("client")),)
    assert told(mesh) == []


def test_spiffe_identities_are_themselves() -> None:
    """The scheme spiffeIdentities means exactly the ids that it lists."""
    mesh = called_by(mk_binding("b", ids=(str(spiffe("other")), str(spiffe("client")))))
    assert sources(mesh) == (Source(spiffe("client")), Source(spiffe("other")))
    assert told(mesh) == []


def test_selected_pods_are_told_by_their_addresses() -> None:
    """The scheme podLabelSelector means an identity together with the pods' addresses."""
    mesh = called_by(mk_binding("b", labels={"app": "blue"}))
    assert sources(mesh) == (Source(spiffe("client"), ("10.0.0.2", "fd00::2")),)
    assert told(mesh) == []
    ref = PortRef(ServiceRef(NS, "server"), 80)
    assert mesh.routes[ref].callers == (spiffe("client"),)


def test_every_label_must_be_there() -> None:
    """A pod with one of two labels is not selected, and a selector of nobody is told."""
    pod = Pod(
        namespace=NS,
        name="both",
        service_account="other",
        ips=("10.0.0.9",),
        labels=frozenset({("app", "blue"), ("tier", "web")}),
    )
    binding = mk_binding("b", labels={"app": "blue", "tier": "web"})
    assert sources(called_by(binding, pod)) == (Source(spiffe("other"), ("10.0.0.9",)),)
    mesh = called_by(binding)
    assert sources(mesh) == ()
    field = "spec.schemes.podLabelSelector.matchLabels"
    assert told(mesh) == [(field, ProblemCode.NOTHING_SELECTED)]


def test_schemes_are_alternatives() -> None:
    """Pods by label beside a SPIFFE id; an account that may call from anywhere does so."""
    ids = (str(spiffe("other")),)
    mesh = called_by(mk_binding("b", labels={"app": "blue"}, ids=ids))
    blue = Source(spiffe("client"), ("10.0.0.2", "fd00::2"))
    assert sources(mesh) == (blue, Source(spiffe("other")))
    mesh = called_by(mk_binding("b", labels={"app": "blue"}, ids=(str(spiffe("client")),)))
    assert sources(mesh) == (Source(spiffe("client")),)


def test_sources_of_one_traffic_target_unite() -> None:
    """Two bindings of one identity join their addresses; its account beside them lifts these."""
    blue, green = (mk_binding(it, labels={"app": it}) for it in ("blue", "green"))
    subjects: list[Subject | str] = [bound("green"), bound("blue")]
    mesh = build_mesh(*world(), blue, green, mk_target("t", subjects, "server", tcp("all")))
    assert sources(mesh) == (Source(spiffe("client"), ("10.0.0.2", "10.0.0.3", "fd00::2")),)
    subjects.append("client")
    mesh = build_mesh(*world(), blue, green, mk_target("t", subjects, "server", tcp("all")))
    assert sources(mesh) == (Source(spiffe("client")),)


def test_a_bound_sidecar_does_not_see_addresses() -> None:
    """Others on its host call from the same one: labels admit nobody there, and it is told."""
    binding = mk_binding("b", labels={"app": "blue"}, ids=(str(spiffe("other")),))
    mesh = called_by(binding, sidecar="bound")
    assert sources(mesh) == (Source(spiffe("other")),)
    assert told(mesh) == [("spec.sources[0]", ProblemCode.UNTRUSTED_ADDRESS)]
    mesh = called_by(mk_binding("b", labels={"app": "blue"}), sidecar="bound")
    assert sources(mesh) == ()
    assert mesh.reach == {}


def test_where_some_sidecars_see_addresses_these_judge_by_them() -> None:
    """Of two pods of a destination the intercepted one lets the caller in; it is told as well."""
    twin = mk_pod("twin", "10.0.0.8", account="server", app="server")
    mesh = called_by(mk_binding("b", labels={"app": "green"}), twin)
    assert sources(mesh) == (Source(spiffe("client"), ("10.0.0.3",)),)
    assert sources(mesh, "twin") == ()
    assert told(mesh) == [("spec.sources[0]", ProblemCode.UNTRUSTED_ADDRESS)]


def test_a_pod_without_an_address_of_its_own_is_not_told_by_it() -> None:
    """One that ended, one that has none yet; and one on its host's network, which is told."""
    binding = mk_binding("b", labels={"app": "x"})
    mesh = called_by(
        binding, mk_pod("ended", "10.0.0.7", app="x", done=True), mk_pod("new", "", app="x")
    )
    assert (sources(mesh), told(mesh)) == ((), [])
    mesh = called_by(binding, replace(mk_pod("agent", "192.168.0.1", app="x"), host_network=True))
    assert sources(mesh) == ()
    field = "spec.schemes.podLabelSelector.matchLabels"
    assert told(mesh) == [(field, ProblemCode.UNTRUSTED_ADDRESS)]


@pytest.mark.parametrize(
    "text, code",
    [
        ("cluster.local/ns/shop/sa/client", ProblemCode.INVALID_OBJECT),
        ("spiffe://elsewhere.org/ns/shop/sa/client", ProblemCode.UNPROVABLE_IDENTITY),
        ("spiffe://cluster.local/vm/client", ProblemCode.UNPROVABLE_IDENTITY),
        ("spiffe://cluster.local/ns/elsewhere/sa/client", ProblemCode.FOREIGN_NAMESPACE),
    ],
)
def test_an_id_that_cannot_be_meant_drops_out_alone(text: str, code: ProblemCode) -> None:
    """Without the scheme, of another trust domain, no account's, or of another namespace."""
    mesh = called_by(mk_binding("b", ids=(text, str(spiffe("other")))))
    assert sources(mesh) == (Source(spiffe("other")),)
    assert told(mesh) == [("spec.schemes.spiffeIdentities[0]", code)]


def test_an_alias_of_the_trust_domain_may_be_written() -> None:
    """While one trust domain takes the place of another, ids of both mean the same account."""
    world_ = (*world(), mk_binding("b", ids=(f"spiffe://new.example/ns/{NS}/sa/other",)))
    target = mk_target("t", (bound("b"),), "server", tcp("all"))

    mesh = build_mesh(*world_, target, settings=MeshSettings(aliases=("new.example",)))

    assert not told(mesh)
    ports = {it.number: it for it in mesh.workloads[ProxyId(NS, "server")].ports}
    assert ports[5432].callers == (spiffe("other"),)


@pytest.mark.parametrize(
    "binding, where",
    [
        (mk_binding("b", account="gone"), "serviceAccount"),
        (mk_binding("b", ids=(str(spiffe("gone")),)), "spiffeIdentities[0]"),
    ],
)
def test_an_account_that_does_not_exist_is_nobody(binding: IdentityBinding, where: str) -> None:
    """It may come later, as with TrafficTargets that name it themselves; and it may have gone."""
    mesh = called_by(binding)
    assert sources(mesh) == ()
    assert told(mesh) == [(f"spec.schemes.{where}", ProblemCode.MISSING_SERVICE_ACCOUNT)]


@pytest.mark.parametrize(
    "binding",
    [
        mk_binding("b"),
        mk_binding("b", labels={}),
        mk_binding("b", ids=()),
        mk_binding("b", account=""),
        mk_binding("b", labels={"app": "blue"}, account="client"),
        mk_binding("b", labels={"app": "blue"}, account="client", ids=(str(spiffe("other")),)),
    ],
)
def test_what_parsing_refuses_means_nobody(binding: IdentityBinding) -> None:
    """No scheme, empty ones, and the two that exclude each other."""
    assert sources(called_by(binding)) == ()
    target = mk_target("t", ["other"], bound("b"), tcp("all"))
    assert sources(build_mesh(*world(), binding, target)) == ()


@pytest.mark.parametrize(
    "subject, field, code",
    [
        (bound("gone"), "name", ProblemCode.MISSING_IDENTITY_BINDING),
        (bound("b", "elsewhere"), "name", ProblemCode.MISSING_IDENTITY_BINDING),
        (bound("b", group="rbac.authorization.k8s.io"), "group", ProblemCode.UNKNOWN_KIND),
    ],
)
def test_a_subject_that_is_no_binding_is_nobody(
    subject: Subject, field: str, code: ProblemCode
) -> None:
    """A name that does not exist, also in another namespace, and another API group."""
    binding = mk_binding("b", account="client")
    target = mk_target("t", [subject, "other"], "server", tcp("all"))
    mesh = build_mesh(*world(), binding, target)
    assert sources(mesh) == (Source(spiffe("other")),)
    assert told(mesh) == [(f"spec.sources[0].{field}", code)]
    mesh = build_mesh(*world(), binding, mk_target("t", ["other"], subject, tcp("all")))
    assert sources(mesh) == ()
    where = "namespace" if subject.namespace else field
    foreign = ProblemCode.FOREIGN_NAMESPACE if subject.namespace else code
    assert told(mesh) == [(f"spec.destination.{where}", foreign)]


def test_a_source_binding_of_another_namespace_speaks_of_its_own() -> None:
    """The subject says where the binding is; what it means is there, too."""
    binding = mk_binding("b", account="client", namespace="elsewhere")
    target = mk_target("t", [bound("b", "elsewhere", "access.smi-spec.io")], "server", tcp("all"))
    mesh = build_mesh(
        *world(), binding, target, mk_pod("client", "10.2.0.1", namespace="elsewhere")
    )
    assert sources(mesh) == (Source(spiffe("client", "elsewhere")),)
    assert told(mesh) == []


def mk_servers() -> tuple[MeshObject, ...]:
    """Three servers behind one service; two of them run as one account."""
    return (
        ALL,
        mk_service("web", mk_port(80, "http")),
        mk_pod("old", "10.0.1.1", account="web", app="web"),
        mk_pod("new", "10.0.1.2", account="web", app="web"),
        mk_pod("own", "10.0.1.3", app="web"),
        mk_pod("client", "10.0.1.4"),
    )


def protected(mesh: Mesh) -> dict[str, list[str]]:
    """The TrafficTargets that hold at each of the servers."""
    return {
        pod: [grant.target for port in w.ports for grant in port.grants]
        for pod in ("old", "new", "own")
        for w in [mesh.workloads[ProxyId(NS, pod)]]
    }


@pytest.mark.parametrize(
    "binding, pods",
    [
        (mk_binding("b", account="web"), ["old", "new"]),
        (mk_binding("b", ids=(str(spiffe("own")),)), ["own"]),
        (mk_binding("b", ids=(str(spiffe("web", "elsewhere")),)), []),
        (mk_binding("b", account="web", ids=(str(spiffe("own")),)), ["old", "new", "own"]),
    ],
)
def test_a_destination_by_account_or_id(binding: IdentityBinding, pods: list[str]) -> None:
    """It stands at every pod of these in the TrafficTarget's namespace."""
    target = mk_target("t", ["client"], bound("b"), tcp("all"))
    mesh = build_mesh(*mk_servers(), binding, target)
    assert protected(mesh) == {
        pod: [f"{NS}/t"] if pod in pods else [] for pod in ("old", "new", "own")
    }
    ref = PortRef(ServiceRef(NS, "web"), 80)
    assert mesh.routes[ref].callers == ((spiffe("client"),) if pods else ())


def mk_canary() -> Pod:
    return Pod(
        namespace=NS,
        name="new",
        service_account="web",
        ips=("10.0.1.2",),
        labels=frozenset({("app", "web"), ("track", "canary")}),
        annotations=(("smi-xds.io/sidecar", "bound"),),
        ready=True,
    )


def test_a_destination_by_labels_is_single_pods() -> None:
    """Two pods of one account differ; whoever may call one of them reaches the service."""
    servers = tuple(it for it in mk_servers() if it.ref.name != "new")
    target = mk_target("t", ["client"], bound("b"), tcp("all"))
    direct = mk_target("a", ["own"], "web", tcp("all"))
    binding = mk_binding("b", labels={"track": "canary"})
    mesh = build_mesh(*servers, mk_canary(), binding, target, direct)
    assert protected(mesh) == {"old": ["shop/a"], "new": ["shop/a", "shop/t"], "own": []}
    ref = PortRef(ServiceRef(NS, "web"), 80)
    assert mesh.routes[ref].callers == (spiffe("client"), spiffe("own"))
    assert told(mesh) == []


def test_ports_are_judged_by_those_of_the_pods_that_are_meant() -> None:
    """A TrafficTarget for a binding is told of ports, as one for an account is."""
    binding = mk_binding("b", account="web", ids=(str(spiffe("own")),))
    target = mk_target("t", ["client"], bound("b"), tcp("r"))
    mesh = build_mesh(*mk_servers(), binding, target, mk_tcp_route("r", 81))
    assert told(mesh) == [("spec.rules[0]", ProblemCode.UNKNOWN_PORT)]


def test_the_rules_of_a_bound_target_restrict_as_ever() -> None:
    """Matches, sources and rules are read as with an account; what is wrong grants nothing."""
    routes = mk_http_routes("web", mk_match("api", "/api"))
    binding = mk_binding("b", account="web")
    mesh = build_mesh(
        *mk_servers(), binding, routes, mk_target("t", ["client"], bound("b"), http("web"))
    )
    (grant,) = mesh.workloads[ProxyId(NS, "old")].ports[0].grants
    assert [match.path for match in grant.http or ()] == ["/api"]
    mesh = build_mesh(*mk_servers(), binding, mk_target("t", [], bound("b"), tcp("all")))
    assert protected(mesh)["old"] == []
    assert told(mesh) == [("spec.sources", ProblemCode.NO_SOURCES)]


def test_changes_reach_what_they_touch_and_nothing_else() -> None:
    """A pod that gains a label, a binding that goes: the same as from scratch, each time."""
    binding = mk_binding("b", labels={"track": "canary"})
    target = mk_target("t", ["client"], bound("b"), tcp("all"))
    origin = Origin("test")
    store = Store(["test"])
    everything = with_slices((*mk_servers(), binding, target))
    store.apply(origin, Replaced(everything))
    builder = MeshBuilder(MeshSettings())
    first = builder(store.objects())
    assert protected(first)["new"] == []
    for event, expected in (
        (Applied(mk_canary()), ["shop/t"]),
        (Deleted(binding.ref), []),
        (Applied(binding), ["shop/t"]),
        (Deleted(target.ref), []),
    ):
        store.apply(origin, event)
        mesh = builder(store.objects())
        assert protected(mesh)["new"] == expected
        assert mesh == MeshBuilder(MeshSettings())(store.objects())
        proxy = ProxyId(NS, "client")
        assert mesh.workloads[proxy] is first.workloads[proxy]


def test_only_intercepted_sidecars_see_addresses() -> None:
    """Whoever shares a host shares loopback; who has no sidecar judges nobody."""
    assert [it for it in Sidecar if it.sees_addresses] == [Sidecar.INTERCEPTED]
