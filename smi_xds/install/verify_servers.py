"""Whether replicas serve: their TLS port by its certificate, their proxies by their word."""

import socket
import ssl
from collections.abc import Sequence
from typing import Any, Final

from smi_xds.config import Address, KubernetesConfig
from smi_xds.install.findings import Finding, failed, unknown, well
from smi_xds.install.forward import forwarded, ready_replicas
from smi_xds.install.names import NAME, NAMESPACE, XDS_TLS_PORT
from smi_xds.problems import AskError

_PORT: Final = "xDS port"
_PROXIES: Final = "proxies"
_HOST: Final = f"{NAME}.{NAMESPACE}.svc"
_PATIENCE: Final = 10.0
_LOGS: Final = f"See `kubectl logs --namespace {NAMESPACE} deployment/{NAME}`."
_REACH: Final = "It takes a replica that is ready, kubectl, and the right to port-forward."


def servers(config: KubernetesConfig, bundle: str) -> list[Finding]:
    """What is to be said of all ready replicas."""
    try:
        pods = ready_replicas(config)
    except AskError as error:
        return [_unreached(what, error) for what in (_PORT, _PROXIES)]
    return [_port_of(config, pods, bundle), _proxies_of(config, pods)]


def _port_of(config: KubernetesConfig, pods: Sequence[str], bundle: str) -> Finding:
    try:
        with forwarded(config, pods, port=XDS_TLS_PORT) as addresses:
            return _port(pods, addresses, bundle)
    except AskError as error:
        return _unreached(_PORT, error)


def _proxies_of(config: KubernetesConfig, pods: Sequence[str]) -> Finding:
    try:
        with forwarded(config, pods) as addresses:
            return _proxies(addresses)
    except AskError as error:
        return _unreached(_PROXIES, error)


def _unreached(what: str, error: AskError) -> Finding:
    return unknown(what, str(error), cure=_REACH)


def _port(pods: Sequence[str], addresses: Sequence[Address], bundle: str) -> Finding:
    if not bundle:
        cure = "See `trust bundle` above."
        return unknown(_PORT, "whom to trust is not known", cure=cure)
    for pod, address in zip(pods, addresses, strict=True):
        try:
            _greet(address, bundle)
        except OSError as error:
            return failed(_PORT, f"{pod}: {error}", cure=_LOGS)
    return well(_PORT, f"{len(pods)} replicas answer on {XDS_TLS_PORT} as {_HOST}")


def _greet(address: Address, bundle: str) -> None:
    """Shake hands as a sidecar does, but for its token."""
    context = ssl.create_default_context(cadata=bundle)
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection((address.host, address.port), timeout=_PATIENCE) as connection,
        context.wrap_socket(connection, server_hostname=_HOST),
    ):
        pass


def _proxies(addresses: Sequence[Address]) -> Finding:
    from smi_xds.debug import client

    found: dict[str, list[Any]] = {}
    for address in addresses:
        for proxy in client.list_proxies(address):
            found.setdefault(proxy["node"], []).append(proxy)
    if not found:
        return well(_PROXIES, "there are none yet")
    refused = [node for node, seen in found.items() if _is_any(seen, "STATE_NACKED")]
    if refused:
        cure = f"See `smi-xds proxies --kubernetes {sorted(refused)[0]}`."
        return failed(_PROXIES, f"{_some(refused)} refused what was sent", cure=cure)
    away = [node for node, seen in found.items() if not any(it["streams"] for it in seen)]
    if away:
        detail = f"{_some(away)} of {len(found)} are not connected"
        return failed(_PROXIES, detail, cure="See the logs of their sidecars, and that they run.")
    return well(_PROXIES, f"{len(found)} are connected")


def _is_any(seen: Sequence[Any], state: str) -> bool:
    return any(it["state"] == state for it in seen)


def _some(nodes: Sequence[str]) -> str:
    shown = sorted(nodes)[:3]
    more = len(nodes) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
