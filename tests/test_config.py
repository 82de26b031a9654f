"""Flags and environment become frozen values, or one line that names the flag."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smi_xds.config import (
    Address,
    CertManagerConfig,
    KubernetesConfig,
    LogConfig,
    LogFormat,
    LogLevel,
    MeshConfig,
    ServeConfig,
    WebhookConfig,
    default_state_folder,
    parse_address,
    parse_cert_manager,
    parse_kubernetes,
    parse_log,
    parse_mesh,
    parse_serve,
    parse_webhooks,
    parse_xds_address,
)
from smi_xds.config_xds import parse_xds_tls
from smi_xds.problems import ConfigError
from smi_xds.values import AccessMode, Mode

HOME = {"HOME": "/home/operator"}


def test_serve_needs_a_folder_and_nothing_else() -> None:
    """Every other flag has a default, the strict one where there is a choice."""
    config = parse_serve(files=[Path("objects")], environ=HOME)

    assert config == ServeConfig(
        files=(Path("objects"),),
        kubernetes=None,
        xds_address=Address("127.0.0.1", 15010),
        state_folder=Path("/home/operator/.local/state/smi-xds"),
        mesh=MeshConfig(
            trust_domain="cluster.local", access_mode=AccessMode.STRICT, mtls_mode=Mode.STRICT
        ),
        log=LogConfig(format=LogFormat.JSON, level=LogLevel.INFO),
    )


def test_serve_takes_what_it_is_given() -> None:
    """Each flag arrives in its place; a folder given twice is read once."""
    kubernetes = KubernetesConfig(kubeconfig="/tmp/kubeconfig")
    mesh = MeshConfig(trust_domain="example.org")
    log = LogConfig(level=LogLevel.DEBUG)

    config = parse_serve(
        files=[Path("b"), Path("a"), Path("b/")],
        kubernetes=kubernetes,
        xds_address="[::1]:0",
        state_folder=Path("state"),
        mesh=mesh,
        log=log,
        environ={},
    )

    assert config == ServeConfig(
        files=(Path("b"), Path("a")),
        kubernetes=kubernetes,
        xds_address=Address("::1", 0),
        state_folder=Path("state"),
        mesh=mesh,
        log=log,
    )


def test_serve_without_a_source_is_refused() -> None:
    """There is nothing to serve from."""
    with pytest.raises(ConfigError, match="give --files DIR or --kubernetes"):
        parse_serve(environ=HOME)


@pytest.mark.parametrize(
    "text, host, port",
    [
        ("127.0.0.1:15010", "127.0.0.1", 15010),
        ("localhost:0", "localhost", 0),
        ("[::1]:65535", "::1", 65535),
        ("control.example.org:443", "control.example.org", 443),
    ],
)
def test_an_address_is_host_and_port(text: str, host: str, port: int) -> None:
    """It is printed as it was written."""
    address = parse_address(text, flag="--server")

    assert address == Address(host, port)
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", ":", ":15010", "127.0.0.1", "::1:15010", "[::1]", "[::1:15010", "[]:1", "[a.b]:1"),
        *("[127.0.0.1]:1", "[fe80::1%eth0]:1", "http://a:1", "a b:1", "a/b:1", "[::1]x:1"),
    ],
)
def test_what_is_not_host_and_port_is_refused(text: str) -> None:
    """The error quotes it, names the flag and shows the form."""
    with pytest.raises(ConfigError) as caught:
        parse_address(text, flag="--server")

    assert str(caught.value) == f"--server {text!r} is not HOST:PORT, such as 127.0.0.1:15010"


@pytest.mark.parametrize("port", ["", "x", "-1", "+1", "1_0", "65536", "1 ", "\u0661", "000080"])
def test_a_port_is_a_number_from_0_to_65535(port: str) -> None:
    """Spellings that only a programming language knows are refused too."""
    with pytest.raises(ConfigError, match="has a port that is not a number from 0 to 65535"):
        parse_address(f"127.0.0.1:{port}", flag="--server")


@given(text=st.text(max_size=30))
def test_any_text_is_an_address_or_one_line(text: str) -> None:
    """Nothing but ConfigError escapes, and its message has one line."""
    message = ""
    address: Address | None = None
    try:
        address = parse_address(text, flag="--server")
    except ConfigError as error:
        message = str(error)

    assert len(message.splitlines()) == (1 if address is None else 0)
    assert address is None or parse_address(str(address), flag="--server") == address


@pytest.mark.parametrize("text", ["127.0.0.1:1", "127.9.9.9:1", "localhost:1", "[::1]:1"])
def test_xds_is_served_on_loopback(text: str) -> None:
    """Every loopback address will do."""
    address = parse_xds_address(text)

    assert address is not None
    assert address.is_loopback


@pytest.mark.parametrize(
    "text",
    [
        *("0.0.0.0:15010", "[::]:15010", "10.0.0.1:15010", "example.org:15010"),
        *("localhost.example.org:15010", "[::ffff:127.0.0.1]:15010"),
    ],
)
def test_xds_in_plaintext_is_refused_elsewhere(text: str) -> None:
    """Whoever reaches it could take any identity: the error says so, and what to use."""
    with pytest.raises(ConfigError) as caught:
        parse_xds_address(text)

    assert str(caught.value) == (
        f"--xds-address {text} is refused: without TLS, xDS is served on loopback only; "
        "use 127.0.0.1:15010 or [::1]:15010, --xds-tls-address for pods elsewhere, or "
        "--allow-plaintext-xds where only what you trust reaches the port"
    )


def test_plaintext_xds_is_allowed_elsewhere_to_who_insists() -> None:
    """And where nobody wants it, there is none."""
    assert parse_xds_address("0.0.0.0:1", allow_plaintext=True) == Address("0.0.0.0", 1)
    assert parse_xds_address("off") is None


def test_some_port_serves_xds() -> None:
    """Without plaintext, TLS has to be there."""
    with pytest.raises(ConfigError, match="leaves no port"):
        parse_serve(files=[Path()], xds_address="off", environ={"HOME": "/h"})


def test_tokens_need_someone_who_judges_them() -> None:
    """That is the API server; certificates are judged by ourselves."""
    tokens = parse_xds_tls(tokens="0.0.0.0:15012")
    certificates = parse_xds_tls(certificates="0.0.0.0:15013")

    with pytest.raises(ConfigError, match="add --kubernetes, or"):
        parse_serve(files=[Path()], xds_tls=tokens, environ={"HOME": "/h"})

    config = parse_serve(
        files=[Path()], xds_address="off", xds_tls=certificates, environ={"HOME": "/h"}
    )
    assert config.xds_tls is certificates
    assert config.xds_address is None


def test_the_names_of_the_xds_server() -> None:
    """Those of its Service, those of this machine, and more where they are given."""
    config = parse_xds_tls(
        tokens="[::]:15012", service="mesh/plane", names=["xds.example.org", "192.0.2.7"]
    )

    assert config is not None
    assert (config.tokens, config.certificates) == (Address("::", 15012), None)
    assert config.names[0] == "plane.mesh.svc"
    assert {"localhost", "127.0.0.1", "xds.example.org", "192.0.2.7"} < set(config.names)


@pytest.mark.parametrize("name", ["", "*.example.org", "a b", "A.example.org", "fe80::1%eth0"])
def test_names_that_no_certificate_has(name: str) -> None:
    """One line that names the flag."""
    with pytest.raises(ConfigError, match="--xds-name"):
        parse_xds_tls(tokens="127.0.0.1:1", names=[name])


def test_no_tls_unless_an_address_is_given() -> None:
    """Names alone serve nothing, and a bad Service is told all the same."""
    assert parse_xds_tls(names=["xds.example.org"]) is None
    with pytest.raises(ConfigError, match="--xds-service 'x' is not NAMESPACE/NAME"):
        parse_xds_tls(service="x")


@pytest.mark.parametrize("text", ["", "Cluster.local", "spiffe://cluster.local", "a/b", "a b"])
def test_a_bad_trust_domain_is_refused(text: str) -> None:
    """The error quotes it and says what one is made of."""
    with pytest.raises(ConfigError) as caught:
        parse_mesh(trust_domain=text)

    assert str(caught.value).startswith(f"--trust-domain {text!r} cannot be a trust domain: use ")


def test_access_and_mtls_have_modes_of_their_own() -> None:
    """One may be permissive while the other stays strict."""
    mesh = parse_mesh(trust_domain="example.org", access_mode="permissive", mtls_mode="strict")

    assert mesh == MeshConfig(
        trust_domain="example.org", access_mode=AccessMode.PERMISSIVE, mtls_mode=Mode.STRICT
    )


def test_a_choice_that_does_not_exist_is_refused_with_those_that_do() -> None:
    """Each flag with a fixed set of values names them."""
    with pytest.raises(ConfigError, match=r"^--access-mode 'lax' must be one of: strict, shadow"):
        parse_mesh(access_mode="lax")
    with pytest.raises(ConfigError, match=r"^--mtls-mode 'off' must be one of: strict, permissive"):
        parse_mesh(mtls_mode="off")
    with pytest.raises(ConfigError, match=r"^--log-format 'xml' must be one of: json, console$"):
        parse_log(log_format="xml")
    with pytest.raises(ConfigError, match=r"^--log-level 'all' must be one of: debug, info, warn"):
        parse_log(log_level="all")


def test_the_log_is_json_at_info_unless_asked() -> None:
    """People at a terminal ask for the console."""
    assert parse_log() == LogConfig(format=LogFormat.JSON, level=LogLevel.INFO)
    assert parse_log(log_format="console", log_level="error") == LogConfig(
        format=LogFormat.CONSOLE, level=LogLevel.ERROR
    )


@pytest.mark.parametrize(
    "environ, folder",
    [
        ({"XDG_STATE_HOME": "/var/state", **HOME}, "/var/state/smi-xds"),
        ({"XDG_STATE_HOME": "/var/state"}, "/var/state/smi-xds"),
        ({"XDG_STATE_HOME": "", **HOME}, "/home/operator/.local/state/smi-xds"),
        ({"XDG_STATE_HOME": "relative", **HOME}, "/home/operator/.local/state/smi-xds"),
        (HOME, "/home/operator/.local/state/smi-xds"),
    ],
)
def test_state_is_kept_where_xdg_says(environ: dict[str, str], folder: str) -> None:
    """The variable where it is absolute, else the folder below HOME."""
    assert default_state_folder(environ) == Path(folder)


@pytest.mark.parametrize("environ", [{}, {"HOME": ""}, {"HOME": "relative"}])
def test_without_a_home_the_state_folder_must_be_given(environ: dict[str, str]) -> None:
    """As in a container without a passwd entry; a given folder needs no HOME."""
    with pytest.raises(ConfigError, match="set it, or give --state-folder DIR"):
        parse_serve(files=[Path("objects")], environ=environ)

    config = parse_serve(files=[Path("objects")], state_folder=Path("state"), environ=environ)

    assert config.state_folder == Path("state")


def test_the_environment_is_that_of_the_process_unless_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is read at the call, not at the import."""
    monkeypatch.setenv("XDG_STATE_HOME", "/elsewhere")

    assert default_state_folder() == Path("/elsewhere/smi-xds")


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


def test_webhooks_are_off_unless_asked_for() -> None:
    """With an address they are there; the Service is that of our manifests, or another."""
    address = Address("0.0.0.0", 15017)

    assert parse_webhooks(None, service="nonsense") is None
    assert parse_webhooks("0.0.0.0:15017") == WebhookConfig(
        address=address, namespace="smi-xds", service="smi-xds-webhooks"
    )
    assert parse_webhooks("0.0.0.0:15017", service="mesh/hooks") == WebhookConfig(
        address=address, namespace="mesh", service="hooks"
    )


@pytest.mark.parametrize(
    "service", ["", "hooks", "/hooks", "mesh/", "Mesh/hooks", "a/b/c", "a/b.c"]
)
def test_a_webhook_service_that_is_none(service: str) -> None:
    """It goes into a certificate: a namespace and a name, and no more."""
    with pytest.raises(ConfigError, match=r"--webhook-service .* such as smi-xds/smi-xds-webhooks"):
        parse_webhooks("0.0.0.0:15017", service=service)


def test_a_webhook_address_that_is_none() -> None:
    """The flag is named."""
    with pytest.raises(ConfigError, match="--webhook-address '15017' is not HOST:PORT"):
        parse_webhooks("15017")


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


@pytest.mark.parametrize("text", ["", "mesh", "a/b", "a//b", "A/Issuer/b", "a/Issuer/b/c", "a/1/b"])
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
