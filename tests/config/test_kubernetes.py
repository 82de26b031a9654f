"""Which API server is watched, and how much of it."""

import pytest

from smi_xds.config import KubernetesConfig, parse_kubernetes
from smi_xds.problems import ConfigError

HOME = {"HOME": "/home/operator"}


def test_the_kubeconfig_is_found_as_kubectl_finds_it() -> None:
    """The flag wins over KUBECONFIG, which wins over the file in the home folder."""
    variable = {"KUBECONFIG": "/a:/b", **HOME}

    assert parse_kubernetes(kubeconfig="/c", environ=variable).kubeconfig == "/c"
    assert parse_kubernetes(environ=variable).kubeconfig == "/a:/b"
    assert parse_kubernetes(environ=HOME).kubeconfig == "/home/operator/.kube/config"


def test_without_a_home_the_kubeconfig_must_be_given() -> None:
    """The error names the flag that helps here."""
    with pytest.raises(ConfigError, match="set it, or give --kubeconfig FILE"):
        parse_kubernetes(environ={})


def test_in_a_cluster_no_kubeconfig_is_read() -> None:
    """The pod's own service account is used, whatever the environment says."""
    config = parse_kubernetes(in_cluster=True, environ={"KUBECONFIG": "/a"})

    assert config == KubernetesConfig(kubeconfig=None, in_cluster=True)


def test_in_cluster_excludes_a_kubeconfig_and_a_context() -> None:
    """Asking for both is a mistake, and the error names the two flags."""
    with pytest.raises(ConfigError, match="--kubeconfig and --in-cluster exclude each other"):
        parse_kubernetes(kubeconfig="/c", in_cluster=True, environ=HOME)
    with pytest.raises(ConfigError, match="--context and --in-cluster exclude each other"):
        parse_kubernetes(context="kind", in_cluster=True, environ=HOME)


def test_a_context_and_namespaces_narrow_what_is_watched() -> None:
    """Namespaces are sorted, each once."""
    config = parse_kubernetes(context="kind", namespaces=["b", "a", "b"], environ=HOME)

    assert config.context == "kind"
    assert config.namespaces == ("a", "b")


@pytest.mark.parametrize("name", ["", "Upper", "a_b", "-a", "a-", "a.b", "a" * 64])
def test_what_cannot_be_a_namespace_is_refused(name: str) -> None:
    """A typo would watch nothing for ever, in silence."""
    with pytest.raises(ConfigError, match=rf"^--namespace '{name}' cannot be the name"):
        parse_kubernetes(namespaces=["good", name], environ=HOME)
