"""`smi-xds translate` and `smi-xds bootstrap`: what a proxy gets, and what it starts with."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from smi_xds import demo
from smi_xds.cli.output import readable, to_yaml
from smi_xds.demo.envoy import envoy_binary
from smi_xds.identity.issuer import wall_clock
from tests.support.cli import run_cli
from tests.support.identity import load_or_create

STORY = Path(demo.__file__).with_name("story")
STORE = ("--files", STORY, "--proxy", "bookstore/bookstore-v1")
ALL_PROXIES = (
    "bookbuyer/bookbuyer",
    "bookstore/bookstore-v1",
    "bookstore/bookstore-v2",
    "bookthief/bookthief",
    "bookwarehouse/bookwarehouse",
)

TCP = """
apiVersion: v1
kind: Service
metadata: {name: db, namespace: bookwarehouse}
spec:
  selector: {app: bookwarehouse}
  ports: [{name: tcp-db, port: 5432}]
---
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: db, namespace: bookwarehouse}
spec:
  destination: {kind: ServiceAccount, name: bookwarehouse, namespace: bookwarehouse}
  rules: [{kind: TCPRoute, name: db}]
  sources: [{kind: ServiceAccount, name: bookstore, namespace: bookstore}]
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: TCPRoute
metadata: {name: db, namespace: bookwarehouse}
spec: {matches: {ports: [5432]}}
"""

INTERCEPTED = """
apiVersion: v1
kind: Pod
metadata:
  name: web
  namespace: shop
  annotations:
    smi-xds.io/sidecar: intercepted
    smi-xds.io/egress: closed
    smi-xds.io/address: 10.0.0.1
spec: {serviceAccountName: web}
"""


def test_json_lists_resources_by_type(capsys: pytest.CaptureFixture[str]) -> None:
    """Clusters, endpoints, listeners, routes and secrets, by the names that Envoy sees."""
    assert run_cli("translate", *STORE, "--output", "json") == 0

    printed = json.loads(capsys.readouterr().out)
    assert [cluster["name"] for cluster in printed["Cluster"]] == [
        "bookwarehouse/bookwarehouse:14001",
        "inbound|14001",
    ]
    assert {"Listener", "RouteConfiguration", "ClusterLoadAssignment", "Secret"} < set(printed)


def test_no_key_is_printed_and_two_calls_print_the_same(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Private keys and certificates are left out, so that outputs can be compared."""
    assert run_cli("translate", *STORE) == 0
    first = capsys.readouterr().out
    assert run_cli("translate", *STORE) == 0
    second = capsys.readouterr().out

    assert first == second
    assert "PRIVATE KEY" not in first
    assert "inline_bytes" not in first
    assert "<certificate of spiffe://cluster.local/ns/bookstore/sa/bookstore>" in first


def test_yaml_says_the_same_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """The two forms differ in nothing else."""
    assert run_cli("translate", *STORE, "--output", "json") == 0
    as_json = json.loads(capsys.readouterr().out)
    assert run_cli("translate", *STORE, "--output", "yaml") == 0

    assert yaml.safe_load(capsys.readouterr().out) == as_json


@pytest.mark.envoy
@pytest.mark.parametrize("proxy", ALL_PROXIES)
@pytest.mark.parametrize("command", ["static", "bootstrap"])
def test_envoy_takes_what_is_printed(
    command: str, proxy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`envoy --mode validate` accepts the static form and the bootstrap of every proxy."""
    arguments = ("--files", STORY, "--proxy", proxy)
    if command == "static":
        assert run_cli("translate", *arguments, "--output", "static") == 0
    else:
        assert run_cli("bootstrap", *arguments) == 0
    config = tmp_path / ("envoy.json" if command == "bootstrap" else "envoy.yaml")
    config.write_text(capsys.readouterr().out)

    done = subprocess.run(
        [envoy_binary(), "--mode", "validate", "--config-path", config],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_bootstrap_names_proxy_and_server(capsys: pytest.CaptureFixture[str]) -> None:
    """The node id is the pod's, the server is where `--server` says."""
    assert run_cli("bootstrap", *STORE, "--server", "[::1]:12345", "--output", "json") == 0

    printed = json.loads(capsys.readouterr().out)
    assert printed["node"]["id"] == "bookstore/bookstore-v1"
    assert '"::1"' in json.dumps(printed["static_resources"])
    assert "12345" in json.dumps(printed["static_resources"])


def test_a_bootstrap_for_interception_says_what_redirects_to_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rules, the user that they know, and where else the application may connect."""
    (tmp_path / "pod.yaml").write_text(INTERCEPTED)
    assert run_cli("bootstrap", "--files", tmp_path, "--proxy", "shop/web") == 0
    out, told = capsys.readouterr()

    assert json.loads(out)["node"]["id"] == "shop/web"
    assert "deploy/interception/iptables.sh" in told
    assert "(1337)" in told
    assert "egress to anything else is closed" in told
    assert "calls HTTP services" not in told


@pytest.mark.parametrize(
    "flags, asked",
    [
        ((), "DELTA_GRPC"),
        (("--protocol", "delta"), "DELTA_GRPC"),
        (("--protocol", "sotw"), "GRPC"),
    ],
)
def test_a_bootstrap_asks_in_the_protocol_that_is_wanted(
    flags: tuple[str, ...], asked: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """On one stream for all types, whose node is sent once."""
    assert run_cli("bootstrap", *STORE, *flags) == 0

    ads = json.loads(capsys.readouterr().out)["dynamic_resources"]["ads_config"]
    assert ads["api_type"] == asked
    assert ads["set_node_on_first_message_only"] is True


def test_a_bootstrap_says_how_the_application_calls_and_is_called(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Addresses for HTTP, a local port for each TCP service it may call, and what it serves."""
    (tmp_path / "db.yaml").write_text(TCP)
    assert run_cli("bootstrap", *STORE, "--files", tmp_path) == 0
    told = capsys.readouterr().err
    assert run_cli("bootstrap", *STORE, "--files", tmp_path, "--output", "yaml") == 0
    text = capsys.readouterr().out

    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert "# calls HTTP services: http://127.0.1.13:15001/ with their name as Host" in comments
    assert any(line.startswith("# calls bookwarehouse/db:5432: 127.0.1.13:2") for line in comments)
    assert any("127.0.1.13:14001, handed over to 127.0.1.113:14001" in line for line in comments)
    assert comments == told.splitlines()
    assert yaml.safe_load(text)["node"]["id"] == "bookstore/bookstore-v1"

    assert run_cli("bootstrap", "--files", STORY, "--files", tmp_path, "-p", ALL_PROXIES[0]) == 0
    assert "bookwarehouse/db" not in capsys.readouterr().err


@pytest.mark.parametrize("command", ["translate", "bootstrap"])
@pytest.mark.parametrize(
    "proxy, said",
    [
        ("bookstore/nobody", "no proxy bookstore/nobody"),
        ("nobody", "'nobody' is not NAMESPACE/NAME"),
        ("a/b/c", "'a/b/c' is not NAMESPACE/NAME"),
    ],
)
def test_a_proxy_that_is_not_there_is_2(
    command: str, proxy: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line says what is wrong with the name, or which proxies there are."""
    assert run_cli(command, "--files", STORY, "--proxy", proxy) == 2

    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""


def test_a_folder_without_proxies_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty folder has none at all."""
    assert run_cli("translate", "--files", tmp_path, "--proxy", "a/b") == 2
    assert "none at all" in capsys.readouterr().err


def test_a_bad_server_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    """The flag is named."""
    assert run_cli("bootstrap", *STORE, "--server", "nowhere") == 2
    assert "--server 'nowhere' is not HOST:PORT" in capsys.readouterr().err


def test_long_texts_are_blocks_and_fields_keep_their_order() -> None:
    """A certificate is readable in YAML, and so is the order of a message's fields."""
    document = {"z": "one\ntwo\n", "a": {"inline_bytes": "b25lCg=="}}

    assert to_yaml(readable(document)) == ("z: |\n  one\n  two\na:\n  inline_string: |\n    one\n")


PROXYLESS = """
apiVersion: v1
kind: Pod
metadata: {name: job, namespace: shop, annotations: {smi-xds.io/sidecar: proxyless}}
spec: {serviceAccountName: worker}
"""


@pytest.fixture
def job(tmp_path: Path) -> tuple[str | Path, ...]:
    folder = tmp_path / "objects"
    folder.mkdir()
    (folder / "job.yaml").write_text(PROXYLESS)
    return ("--files", folder, "--proxy", "shop/job")


def test_a_grpc_process_gets_a_bootstrap_of_its_own(
    job: tuple[str | Path, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """JSON as gRPC reads it, alone on standard output."""
    assert run_cli("bootstrap", *job, "--grpc", "--server", "[::1]:12345") == 0

    printed = json.loads(capsys.readouterr().out)
    assert printed["node"]["id"] == "shop/job"
    assert printed["xds_servers"][0]["server_uri"] == "[::1]:12345"
    assert "certificate_providers" not in printed


def test_certificates_of_a_grpc_process_are_signed_by_the_state_folder(
    job: tuple[str | Path, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The bootstrap names the files by their full paths, and standard error says when they end."""
    monkeypatch.chdir(tmp_path)
    load_or_create(tmp_path / "state", trust_domain="cluster.local", now=wall_clock())
    signed = ("--certificates", "certificates", "--state-folder", "state")
    assert run_cli("bootstrap", *job, "--grpc", *signed) == 0

    captured = capsys.readouterr()
    identity = json.loads(captured.out)["certificate_providers"]["identity"]["config"]
    for field, file in (("certificate_file", "tls.crt"), ("private_key_file", "tls.key")):
        assert identity[field] == str(tmp_path / "certificates" / file)
        assert (tmp_path / "certificates" / file).exists()
    assert "# The certificate of spiffe://cluster.local/ns/shop/sa/worker ends at" in captured.err

    before = (tmp_path / "certificates" / "tls.crt").read_bytes()
    assert run_cli("bootstrap", *job, "--grpc", *signed[:2]) == 0
    assert (tmp_path / "certificates" / "tls.crt").read_bytes() == before


@pytest.mark.parametrize(
    "flags, said",
    [
        ((), "shop/job says smi-xds.io/sidecar: proxyless; add --grpc"),
        (("--grpc", "--output", "yaml"), "gRPC reads JSON alone"),
        (("--grpc", "--protocol", "delta"), "gRPC speaks state of the world alone"),
        (("--certificates", "x"), "proxyless; add --grpc"),
        (("--grpc", "--state-folder", "x"), "--state-folder signs what --certificates names"),
        (("--grpc", "--certificates", "x", "--state-folder", "y"), "no certificate authority"),
    ],
)
def test_flags_that_do_not_fit_are_2(
    job: tuple[str | Path, ...],
    flags: tuple[str, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line names the flag to change."""
    monkeypatch.chdir(tmp_path)
    assert run_cli("bootstrap", *job, *flags) == 2

    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""


def test_a_sidecar_is_no_grpc_process(capsys: pytest.CaptureFixture[str]) -> None:
    """Its bootstrap is Envoy's."""
    assert run_cli("bootstrap", *STORE, "--grpc") == 2
    assert "sidecar: bound; leave out --grpc" in capsys.readouterr().err


def test_a_grpc_process_has_no_static_form(
    job: tuple[str | Path, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """There is no Envoy to run it; what it gets is printed in the other forms."""
    assert run_cli("translate", *job, "--output", "static") == 2
    assert "leave out static" in capsys.readouterr().err
    assert run_cli("translate", *job, "--output", "json") == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)["Cluster"]] == ["denied"]
