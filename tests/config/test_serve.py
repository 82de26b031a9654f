"""The flags of `serve`, judged together."""

from pathlib import Path

import pytest

from smi_xds.config import (
    Address,
    KubernetesConfig,
    LogConfig,
    LogFormat,
    LogLevel,
    MeshConfig,
    ServeConfig,
    default_state_folder,
    parse_serve,
    parse_xds_tls,
)
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


def test_monitoring_needs_an_address() -> None:
    """The line has one to copy, and not that of xDS."""
    with pytest.raises(
        ConfigError, match=r"--monitoring-address 'off' .* such as 127\.0\.0\.1:15014$"
    ):
        parse_serve(files=[Path("objects")], monitoring_address="off", environ=HOME)
