"""What the control plane may do: all that it needs by its own lists, nothing by accident."""

from collections.abc import Iterator

from smi_xds.install.names import AUTHORITY_SECRET, NAMESPACE, TRUST_CONFIG_MAP
from smi_xds.install.rights import all_rules
from smi_xds.objects.versions import SMI_KINDS
from smi_xds.sources.kube_kinds import KINDS

WRITES = {"create", "update", "patch", "delete", "deletecollection", "*"}


def granted() -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    """Namespace, resource, verb and names, of everything."""
    for namespace, rule in all_rules():
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                full = f"{resource}.{group}".removesuffix(".")
                names = tuple(rule.get("resourceNames", ()))
                yield from ((namespace, full, verb, names) for verb in rule["verbs"])


def test_all_that_is_watched_may_be_read() -> None:
    """Each kind of the source, everywhere."""
    readable = {resource for namespace, resource, verb, _ in granted() if verb == "watch"}
    listed = {it for namespace, it, verb, _ in granted() if (namespace, verb) == ("", "list")}

    assert readable == listed == {kind.full_name for kind in KINDS}


def test_of_users_objects_only_the_status_is_written() -> None:
    """And of that nothing but a patch."""
    written = {(it, verb) for _, it, verb, _ in granted() if verb in WRITES and "smi-spec" in it}

    assert written == {(f"{it.plural}/status.{it.group}", "patch") for it in SMI_KINDS.values()}


def test_secrets_and_leases_are_ours_alone() -> None:
    """In our namespace, secrets by name; only making one cannot be limited so."""
    private = {
        (namespace, resource, names)
        for namespace, resource, verb, names in granted()
        if resource in {"secrets", "leases.coordination.k8s.io"} and (names or verb != "create")
    }

    assert private == {
        (NAMESPACE, "secrets", (AUTHORITY_SECRET,)),
        (NAMESPACE, "leases.coordination.k8s.io", ()),
    }


def test_a_config_map_is_changed_by_name_only() -> None:
    """That which holds our root."""
    changed = {n for _, it, verb, n in granted() if it == "configmaps" and verb != "create"}

    assert changed == {(TRUST_CONFIG_MAP,)}


def test_nothing_is_deleted_and_nothing_is_everything() -> None:
    """No verb, group or resource by a star; of ours, the leases of replicas that are gone."""
    wide = [it for it in granted() if "*" in it[1] or it[2] in {"*", "delete"}]

    assert wide == [(NAMESPACE, "leases.coordination.k8s.io", "delete", ())]


def test_rules_do_not_repeat_each_other() -> None:
    """Each right is granted once."""
    found = list(granted())

    assert len(found) == len(set(found))
