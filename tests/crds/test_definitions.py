"""The CustomResourceDefinitions: which versions are served, and that the files are these."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from deploy.generate import FOLDERS, main
from smi_xds.crds import Conversion, definitions
from smi_xds.crds.manifests import manifests
from smi_xds.objects.parse import FORMS
from smi_xds.objects.versions import SMI_KINDS


def versions_of(definition: Mapping[str, Any]) -> dict[str, bool]:
    """Each version, and whether it is the stored one."""
    return {it["name"]: it["storage"] for it in definition["spec"]["versions"]}


def by_kind(conversion: Conversion) -> dict[str, dict[str, Any]]:
    return {it["spec"]["names"]["kind"]: it for it in definitions(conversion)}


def test_files_are_generated() -> None:
    """The manifests in the repository are what `make crds` writes."""
    for folder, (conversion, comment) in FOLDERS.items():
        found = {path.name: path.read_text() for path in folder.glob("*.yaml")}

        assert found == manifests(conversion, comment=comment)


def test_generating_removes_what_is_gone(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of a kind that is no more does not stay behind."""
    (tmp_path / "old.yaml").write_text("")
    monkeypatch.setattr("deploy.generate.FOLDERS", {tmp_path: (Conversion.NONE, "")})

    main()

    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(manifests(Conversion.NONE))


def test_versions_with_a_webhook() -> None:
    """With conversion every version is served that can be read, and one is stored."""
    for kind, definition in by_kind(Conversion.WEBHOOK).items():
        group, versions = definition["spec"]["group"], versions_of(definition)

        assert sorted(versions) == [
            api_version.partition("/")[2] for api_version, it in sorted(FORMS) if it == kind
        ]
        assert all(api_version.startswith(f"{group}/") for api_version, it in FORMS if it == kind)
        assert [it for it, is_stored in versions.items() if is_stored] == [SMI_KINDS[kind].stored]


def test_versions_without_a_webhook() -> None:
    """Without conversion only versions are served that have the same shape as the stored one."""
    served = {kind: versions_of(it) for kind, it in by_kind(Conversion.NONE).items()}

    both = {"v1alpha4": True, "v1alpha3": False}
    assert served == {
        "TrafficTarget": both,
        "IdentityBinding": {"v1alpha4": True},
        "HTTPRouteGroup": both,
        "TCPRoute": {"v1alpha4": True},
        "UDPRoute": {"v1alpha4": True},
        "TrafficSplit": both,
    }


def test_who_converts() -> None:
    """The API server asks our webhook for kinds with several versions, and nobody for others."""
    asked = {k: it["spec"]["conversion"] for k, it in by_kind(Conversion.WEBHOOK).items()}
    unasked = {str(it["spec"]["conversion"]) for it in definitions(Conversion.NONE)}

    service = asked["TrafficSplit"]["webhook"]["clientConfig"]["service"]
    assert service == {
        "namespace": "smi-xds",
        "name": "smi-xds-webhooks",
        "port": 15017,
        "path": "/convert",
    }
    assert {it["strategy"] for k, it in asked.items() if len(SMI_KINDS[k].versions) > 1} == {
        "Webhook"
    }
    assert asked["UDPRoute"] == asked["IdentityBinding"] == {"strategy": "None"}
    assert unasked == {"{'strategy': 'None'}"}


def schemas(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from schemas(inner, f"{path}.{name}")
    if isinstance(items := schema.get("items"), dict):
        yield from schemas(items, f"{path}[]")


@pytest.mark.parametrize("conversion", Conversion)
def test_schemas_say_what_fields_are(conversion: Conversion) -> None:
    """Every field of SMI has words for `kubectl explain`; nothing has a default."""
    for definition in definitions(conversion):
        for version in definition["spec"]["versions"]:
            root = version["schema"]["openAPIV3Schema"]
            for path, schema in schemas(root, ""):
                assert "default" not in schema, path
                is_given = path in {".apiVersion", ".kind", ".metadata"}
                assert is_given or path.endswith("[]") or schema.get("description"), path
