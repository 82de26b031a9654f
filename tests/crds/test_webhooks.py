"""The manifests that lead API servers to our webhooks."""

from deploy.generate import WEBHOOKS
from smi_xds.config import DEFAULT_WEBHOOK_SERVICE
from smi_xds.crds import Conversion, definitions
from smi_xds.crds.definition import WEBHOOK_NAMESPACE, WEBHOOK_SERVICE
from smi_xds.crds.webhooks import validating_webhook, webhook_manifests, webhook_role_rules
from smi_xds.web.trust import PATHS
from smi_xds.web.webhooks import webhook_forms


def test_files_are_generated() -> None:
    """The manifests in the repository are what `make crds` writes."""
    found = {path.name: path.read_text() for path in WEBHOOKS.glob("*.yaml")}

    assert found == webhook_manifests()


def test_every_served_version_is_judged() -> None:
    """In the version of its writer; never its status, and never a DELETE."""
    [webhook] = validating_webhook()["webhooks"]

    judged = {
        (group, version, resource)
        for rule in webhook["rules"]
        for group in rule["apiGroups"]
        for version in rule["apiVersions"]
        for resource in rule["resources"]
    }
    assert judged == {
        (it["spec"]["group"], version["name"], it["spec"]["names"]["plural"])
        for it in definitions(Conversion.WEBHOOK)
        for version in it["spec"]["versions"]
    }
    assert {tuple(rule["operations"]) for rule in webhook["rules"]} == {("CREATE", "UPDATE")}


def test_nobody_depends_on_it() -> None:
    """While it is down objects are taken, and a dry run may ask it."""
    [webhook] = validating_webhook()["webhooks"]

    assert (webhook["failurePolicy"], webhook["sideEffects"]) == ("Ignore", "None")
    assert webhook["timeoutSeconds"] <= 5


def test_paths_are_those_that_are_served() -> None:
    """Manifests, server and flags speak of one place."""
    [webhook] = validating_webhook()["webhooks"]
    asked = {webhook["clientConfig"]["service"]["path"]}
    for it in definitions(Conversion.WEBHOOK):
        if "webhook" in (conversion := it["spec"]["conversion"]):
            asked.add(conversion["webhook"]["clientConfig"]["service"]["path"])

    assert asked == set(webhook_forms(foresee=lambda _: ()))
    assert f"{WEBHOOK_NAMESPACE}/{WEBHOOK_SERVICE}" == DEFAULT_WEBHOOK_SERVICE


def test_rights_are_for_what_is_patched() -> None:
    """By name, and for nothing else."""
    allowed = {
        f"/apis/{group}/v1/{resource}/{name}"
        for rule in webhook_role_rules()
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule["resourceNames"]
    }

    assert allowed == set(PATHS)
    assert {tuple(rule["verbs"]) for rule in webhook_role_rules()} == {("get", "patch")}
