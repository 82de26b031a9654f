"""Who signs: what fits together, and one line for what does not."""

from datetime import timedelta
from pathlib import Path

import pytest

from smi_xds.config import (
    AuthorityConfig,
    BroughtConfig,
    CertManagerConfig,
    KubernetesConfig,
    SecretName,
    ServeConfig,
    parse_authority,
    parse_cert_manager,
    parse_serve,
)
from smi_xds.problems import ConfigError

CERT, KEY, ROOT = Path("tls.crt"), Path("tls.key"), Path("ca.crt")

HOME = {"HOME": "/home/operator"}


def test_without_flags_we_make_a_root_of_our_own() -> None:
    """Its state is in the folder, and leaves live for a day."""
    config = parse_authority()

    assert config == AuthorityConfig(secret=None, brought=None, leaf_lifetime=timedelta(days=1))


def test_flags_are_read() -> None:
    """A Secret, an intermediate in files, and shorter leaves."""
    config = parse_authority(
        state_secret="smi-xds/smi-xds-ca",
        ca_cert=CERT,
        ca_key=KEY,
        ca_root=ROOT,
        leaf_lifetime="90m",
    )

    assert config == AuthorityConfig(
        secret=SecretName("smi-xds", "smi-xds-ca"),
        brought=BroughtConfig(chain=CERT, key=KEY, root=ROOT),
        leaf_lifetime=timedelta(minutes=90),
    )
    assert str(config.secret) == "smi-xds/smi-xds-ca"


@pytest.mark.parametrize(
    "cert, key, root, said",
    [
        (CERT, None, None, "--ca-cert is of use together with --ca-key only"),
        (None, KEY, None, "--ca-key is of use together with --ca-cert only"),
        (None, None, ROOT, "--ca-root is of use with --ca-cert and --ca-key only"),
    ],
)
def test_files_that_lack_another_are_refused(
    cert: Path | None, key: Path | None, root: Path | None, said: str
) -> None:
    """The flag that is missing is named."""
    with pytest.raises(ConfigError, match=said):
        parse_authority(ca_cert=cert, ca_key=key, ca_root=root)


@pytest.mark.parametrize(
    "text", ["", "smi-xds", "/smi-xds-ca", "smi-xds/", "A/b", "a/b/c", "a.b/c", "a/b."]
)
def test_a_secret_is_a_namespace_and_a_name(text: str) -> None:
    """Anything else is refused, with an example."""
    with pytest.raises(ConfigError, match="is not NAMESPACE/NAME of a Secret, such as"):
        parse_authority(state_secret=text)


@pytest.mark.parametrize("text", ["", "24", "4s", "91d", "1.5h", "-1h", "1w", "9999999s", "1h30m"])
def test_lifetimes_are_numbers_with_a_unit(text: str) -> None:
    """From five seconds to ninety days."""
    with pytest.raises(ConfigError, match="is no time from 5s to 90d: write a number with"):
        parse_authority(leaf_lifetime=text)


def test_a_secret_needs_an_api_server_and_no_folder() -> None:
    """Two places for one state would be two authorities."""
    secret = parse_authority(state_secret="smi-xds/smi-xds-ca")

    with pytest.raises(ConfigError, match="--state-secret is kept by an API server"):
        parse_serve(files=[Path("objects")], authority=secret)
    with pytest.raises(ConfigError, match="--state-secret and --state-folder exclude each other"):
        parse_serve(
            kubernetes=KubernetesConfig(kubeconfig="config"),
            authority=secret,
            state_folder=Path("state"),
        )


@pytest.mark.parametrize(
    "text, namespace, kind, group, name",
    [
        ("smi-xds/Issuer/mesh", "smi-xds", "Issuer", "cert-manager.io", "mesh"),
        ("pki/ClusterIssuer/a.b-c", "pki", "ClusterIssuer", "cert-manager.io", "a.b-c"),
        ("pki/Signer.example.com/x", "pki", "Signer", "example.com", "x"),
    ],
)
def test_an_issuer_of_cert_manager(
    text: str, namespace: str, kind: str, group: str, name: str
) -> None:
    """Where it is asked, of what kind it is, and its name; others have a group of their own."""
    expected = CertManagerConfig(
        namespace=namespace, kind=kind, group=group, name=name, ca=Path("ca.crt")
    )
    assert parse_cert_manager(text, ca=Path("ca.crt")) == expected
    assert parse_cert_manager(None) is None


@pytest.mark.parametrize(
    "text", ["", "mesh", "a/b", "a//b", "A/Issuer/b", "a/Issuer/b/c", "a/1/b", "a/Issuer/b-"]
)
def test_an_issuer_that_cannot_be_one(text: str) -> None:
    """The line has an example."""
    with pytest.raises(ConfigError, match=r"NAMESPACE/KIND/NAME .* such as smi-xds/Issuer/mesh"):
        parse_cert_manager(text)


def test_an_issuer_needs_an_api_server_and_roots_need_an_issuer() -> None:
    """Each flag that is missing is named."""
    with pytest.raises(ConfigError, match="add --kubernetes"):
        parse_serve(files=[Path("x")], cert_manager=parse_cert_manager("a/Issuer/b"), environ=HOME)
    with pytest.raises(ConfigError, match="--cert-manager only: add it"):
        parse_cert_manager(None, ca=Path("ca.crt"))


def test_an_issuer_that_is_asked_takes_a_minute() -> None:
    """What ends sooner would be refused when it comes, each time."""

    def serve(lifetime: str) -> ServeConfig:
        return parse_serve(
            kubernetes=KubernetesConfig(kubeconfig="x"),
            cert_manager=parse_cert_manager("a/Issuer/b"),
            authority=parse_authority(leaf_lifetime=lifetime),
            environ=HOME,
        )

    assert serve("60s").authority.leaf_lifetime == timedelta(minutes=1)
    with pytest.raises(ConfigError, match="--leaf-lifetime 59s is too short for --cert-manager"):
        serve("59s")
