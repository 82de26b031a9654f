"""Which API server to watch, and how much of it."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from smi_xds.config.notation import LABEL, home
from smi_xds.problems import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesConfig:
    """Which API server to watch, and how much of it."""

    kubeconfig: str | None
    """Paths as in KUBECONFIG (several are merged); None in-cluster."""
    context: str | None = None
    """A context of the kubeconfig; None for its current one."""
    in_cluster: bool = False
    """Use the service account of the pod that we run in."""
    namespaces: tuple[str, ...] = ()
    """Watch only these; empty for all."""


def parse_kubernetes(
    *,
    kubeconfig: str | None = None,
    context: str | None = None,
    in_cluster: bool = False,
    namespaces: Iterable[str] = (),
    environ: Mapping[str, str] = os.environ,
) -> KubernetesConfig:
    """Read the flags that go with `--kubernetes`, and KUBECONFIG where they leave it open."""
    chosen = tuple(sorted(set(namespaces)))
    for namespace in chosen:
        if not LABEL.fullmatch(namespace):
            raise ConfigError(
                f"--namespace {namespace!r} cannot be the name of a namespace: "
                "use lower case letters, digits and '-', at most 63"
            )
    if in_cluster and (kubeconfig or context):
        flag = "--kubeconfig" if kubeconfig else "--context"
        raise ConfigError(
            f"{flag} and --in-cluster exclude each other: in a pod, its service account is used"
        )
    if in_cluster:
        return KubernetesConfig(kubeconfig=None, in_cluster=True, namespaces=chosen)
    # kubectl's order: the flag, the variable, the file in the home folder.
    paths = (
        kubeconfig
        or environ.get("KUBECONFIG")
        or str(home(environ, instead="--kubeconfig FILE") / ".kube" / "config")
    )
    return KubernetesConfig(kubeconfig=paths, context=context, namespaces=chosen)
