"""The definitions as manifests: YAML files, and the kustomization that lists them."""

from collections.abc import Mapping
from typing import Any

import yaml

from smi_xds.crds.definition import Conversion, definitions


class _Dumper(yaml.SafeDumper):
    """Indents lists, as people do, and repeats what stands in two places."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - theirs
        super().increase_indent(flow, indentless=False)

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - theirs
        return True


def manifests(conversion: Conversion, *, comment: str = "") -> Mapping[str, str]:
    """Texts by file name."""
    files = {
        f"{it['spec']['names']['plural']}.yaml": document(it) for it in definitions(conversion)
    }
    return with_kustomization(files, comment=comment)


def with_kustomization(files: Mapping[str, str], *, comment: str) -> Mapping[str, str]:
    """These files, and what lists them for `kubectl apply -k`."""
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": sorted(files),
    }
    return {**files, "kustomization.yaml": comment + document(kustomization)}


def document(it: Mapping[str, Any], *, made_from: str = "smi_xds/crds") -> str:
    """One object, with a line that says where to change it."""
    return f"# Made by `make crds` from {made_from}: change it there.\n{plain(it)}"


def plain(it: Mapping[str, Any]) -> str:
    """One object."""
    return yaml.dump(dict(it), Dumper=_Dumper, sort_keys=False, width=96, allow_unicode=True)
