"""Keys and tokens are nowhere but where they belong: not in logs, dumps, answers or errors."""

import asyncio
import copy
import dataclasses
import json
import logging
import pprint
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import structlog

from smi_xds.ads.auth import Credentials as Presented
from smi_xds.ads.tokens import _bearer
from smi_xds.app.logs import configure_logging
from smi_xds.config import LogConfig, LogFormat, LogLevel
from smi_xds.demo.envoy import Sidecar
from smi_xds.identity import ca
from smi_xds.identity.brought import Brought
from smi_xds.identity.document import _written
from smi_xds.identity.embedded import EmbeddedIssuer
from smi_xds.identity.serving import issue_serving
from smi_xds.identity.signer import Signer
from smi_xds.identity.state import Stored, files_of, state_of
from smi_xds.problems import IdentityError
from smi_xds.values import Secret, ServiceAccountRef, SpiffeId
from smi_xds.xds.dump import resource_json
from smi_xds.xds.secrets import Credentials, leaf_secret
from tests.live.test_attempts import WORLD
from tests.support.cli import run_cli
from tests.support.identity import NOW, load_or_create, mk_authority
from tests.support.live import _fetch, live_mesh

WEB = SpiffeId.of("cluster.local", ServiceAccountRef("shop", "web"))
AUTHORITY = mk_authority()
LEAF = AUTHORITY.issue(WEB, now=NOW)
SERVING = issue_serving(AUTHORITY, ["a.b.svc"], now=NOW)
RESOURCE = leaf_secret(LEAF.certificate_chain, LEAF.private_key)
SIGNER = Signer(
    trust_domain="cluster.local",
    certificates=(AUTHORITY.certificate,),
    key=AUTHORITY.key,
    brought=True,
)
TOKEN = "eyJhbGciOi.eyJzdWIiOi.c2lnbmF0dXJl"
HELD = {
    "a secret": Secret(b"PRIVATE KEY"),
    "a leaf": LEAF,
    "an authority": AUTHORITY,
    "a serving certificate": SERVING,
    "a resource": RESOURCE,
    "credentials": Credentials(trust_bundle=b"", leaves={WEB: RESOURCE}),
    "a signer": SIGNER,
    "a state": state_of(SIGNER, now=NOW),
    "a state as it is kept": Stored(files=files_of(state_of(SIGNER, now=NOW)), version="1"),
    "a document of it": _written(SIGNER),
    "files that were brought": Brought(
        contents=(AUTHORITY.trust_bundle, LEAF.private_key.value), signer=SIGNER
    ),
    "what a caller presents": Presented(metadata={"authorization": (f"Bearer {TOKEN}",)}),
    "a bearer token": _bearer({"authorization": (f"Bearer {TOKEN}",)}),
}
SHOWN: dict[str, Callable[[object], str]] = {
    "str": str,
    "repr": repr,
    "format": lambda it: f"{it}",
    "percent": lambda it: "%s %r" % (it, it),  # noqa: UP031 - one of the ways
    "pprint": pprint.pformat,
    "a copy": lambda it: repr(copy.copy(it)),
    "in a list": lambda it: repr([it]),
    "in an error": lambda it: repr(ValueError(it)),
}


def tells(text: str) -> bool:
    """Whether it has a key or a token in it."""
    key = LEAF.private_key.value.decode().splitlines()[1]
    return any(it in text for it in ("PRIVATE KEY", key, TOKEN))


@pytest.mark.parametrize("way", list(SHOWN))
@pytest.mark.parametrize("held", list(HELD))
def test_what_holds_a_key_does_not_show_it(held: str, way: str) -> None:
    """By its type: nobody has to remember."""
    assert not tells(SHOWN[way](HELD[held]))


def test_a_resource_is_dumped_without_its_key() -> None:
    """The certificate may be seen; whoever proves itself by it may not be impersonated."""
    text = json.dumps(resource_json(RESOURCE))

    assert not tells(text)
    assert "redacted" in text


@pytest.mark.parametrize("output", ["json", "console"])
def test_a_secret_in_a_log_line_is_redacted(
    output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where somebody logs the value that holds it, or an error about it."""
    before, root = structlog.get_config(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        configure_logging(LogConfig(format=LogFormat(output), level=LogLevel.DEBUG))
        log = structlog.get_logger()
        try:
            AUTHORITY.issue(WEB, now=AUTHORITY.not_after)
        except IdentityError:
            log.exception("failed", leaf=LEAF, key=LEAF.private_key, credentials=HELD)
    finally:
        structlog.configure(**before)
        root.handlers[:] = handlers
        root.setLevel(level)
    shown = capsys.readouterr()

    assert "failed" in shown.out + shown.err
    assert not tells(shown.out + shown.err)


@pytest.mark.parametrize("rest", ["", "\n-----END PRIVATE KEY-----\n"])
def test_an_error_about_a_key_does_not_quote_it(tmp_path: Path, rest: str) -> None:
    """Whatever is wrong with it."""
    body = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgc2VjcmV0"
    with pytest.raises(ValueError, match="not a readable private key") as caught:
        ca.parse_key(f"-----BEGIN PRIVATE KEY-----\n{body}{rest}".encode())
    assert body not in repr(caught.value)

    state = tmp_path / "state"
    load_or_create(state, trust_domain="cluster.local", now=NOW)
    for file in state.iterdir():
        file.write_bytes(file.read_bytes()[:-100] + body.encode())
    with pytest.raises(IdentityError) as refused:
        load_or_create(state, trust_domain="cluster.local", now=NOW + timedelta(days=1))
    assert body not in repr(refused.value)
    assert "PRIVATE KEY" not in repr(refused.value)


@pytest.mark.envoy
async def test_a_running_mesh_tells_no_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Logs at debug, every command that asks, the debug API, metrics, and what Envoy dumps."""
    async with live_mesh(WORLD, tmp_path) as mesh:
        server = f"{mesh.server.xds_host}:{mesh.server.xds_port}"
        for asked in (
            ("proxies", "--server", server, "-o", "json"),
            ("proxies", "--server", server, "test/server"),
            ("graph", "--server", server, "-o", "json"),
            ("explain", "--server", server, "test/caller", "test/server:8080", "-o", "json"),
            ("translate", "--files", str(mesh.folder), "test/server", "-o", "json"),
            ("check", "--files", str(mesh.folder), "-o", "json"),
        ):
            await asyncio.to_thread(run_cli, *asked)
        dump = await asyncio.to_thread(_fetch, _dump(mesh.sidecars["test/server"]))
        logged = "".join(it.access_log.read_text() for it in mesh.sidecars.values())
        issuer = mesh.server._pipeline._issuer
        assert isinstance(issuer, EmbeddedIssuer)
        keys = {it.private_key.value.decode().splitlines()[1] for it in issuer._leaves.values()}
    shown = capsys.readouterr()

    everything = shown.out + shown.err + dump + logged
    assert "TrafficTarget" in shown.out or "test/callers" in shown.out
    assert len(keys) == 3
    assert not [key for key in keys if key in everything]
    assert "PRIVATE KEY" not in everything


def _dump(sidecar: Sidecar) -> str:
    return f"http://{sidecar.admin_host}:15000/config_dump?include_eds"


def test_values_with_keys_are_told_apart() -> None:
    """The list above has every type of ours with such a field; a new one fails here."""
    fields = {
        field.name
        for held in HELD.values()
        if dataclasses.is_dataclass(held)
        for field in dataclasses.fields(held)
    }
    assert {"private_key", "key", "body", "metadata", "value"} <= fields
