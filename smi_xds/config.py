"""The only reader of flags and environment: both become frozen values, or one line of error.

The command line hands its flags over as the text that the user wrote; nothing here knows of the
library that parsed them, opens a file or asks the network.
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar

from smi_xds.config_authority import AuthorityConfig
from smi_xds.problems import ConfigError
from smi_xds.values import AccessMode, Mode, is_trust_domain

DEFAULT_XDS_ADDRESS = "127.0.0.1:15010"  # Istio's port for xDS in plaintext, which operators know
DEFAULT_MONITORING_ADDRESS = "127.0.0.1:15014"  # Istio's port for it, as well
NO_XDS_ADDRESS = "off"  # in the place of an address
DEFAULT_WEBHOOK_SERVICE = "smi-xds/smi-xds-webhooks"  # as in deploy/kubernetes
DEFAULT_TRUST_DOMAIN = "cluster.local"  # what the meshes of this field default to

# The name of a Kubernetes namespace: RFC 1123, section 2.1, in lower case.
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

# An external issuer has a group of its own, as in KIND.GROUP.
_ISSUER = re.compile(
    rf"(?P<namespace>{_NAMESPACE.pattern})/(?P<kind>[A-Za-z][A-Za-z0-9]{{0,62}})"
    r"(\.(?P<group>[a-z0-9.-]{1,253}))?/(?P<name>[a-z0-9][a-z0-9.-]{0,252})"
)

_Choice = TypeVar("_Choice", bound=StrEnum)


class LogFormat(StrEnum):
    """One JSON object a line for machines, or coloured lines for people."""

    JSON = "json"
    CONSOLE = "console"


class LogLevel(StrEnum):
    """The least severe events that are written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """Where a server listens or is found."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it; a name other than localhost could be anyone's."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False


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


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshConfig:
    """What decides how objects are understood, by whichever command reads them."""

    trust_domain: str = DEFAULT_TRUST_DOMAIN
    access_mode: AccessMode = AccessMode.STRICT
    mtls_mode: Mode = Mode.STRICT


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookConfig:
    """Where API servers have objects converted and validated."""

    address: Address
    namespace: str
    """Of the Service by whose names they call; the certificate has these."""
    service: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CertManagerConfig:
    """Which issuer of cert-manager signs the workloads' certificates."""

    namespace: str
    """Where it is asked."""
    kind: str
    group: str
    name: str
    ca: Path | None = None
    """Its roots, PEM; None to believe what its answers say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class XdsTlsConfig:
    """Where proxies ask over TLS and prove who they are, and by which names they know us."""

    tokens: Address | None
    """For pods, with tokens; None for nowhere."""
    certificates: Address | None
    """For others, with client certificates; None for nowhere."""
    names: tuple[str, ...]
    """DNS names and IP addresses for the server's certificate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseConfig:
    """Which Lease says who of the replicas leads."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """How events are written."""

    format: LogFormat = LogFormat.JSON
    level: LogLevel = LogLevel.INFO


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeConfig:
    """All that `smi-xds serve` needs to know."""

    files: tuple[Path, ...]
    kubernetes: KubernetesConfig | None
    xds_address: Address | None
    """In plaintext; None for nowhere."""
    xds_tls: XdsTlsConfig | None = None
    """None for nowhere."""
    monitoring_address: Address | None = None
    """Where metrics and health are served; None for nowhere."""
    webhooks: WebhookConfig | None = None
    """None for nowhere."""
    state_folder: Path
    """Where the authority's state is kept, unless `authority` says otherwise."""
    authority: AuthorityConfig = field(default_factory=AuthorityConfig)
    cert_manager: CertManagerConfig | None = None
    """None where our own authority signs."""
    lease: LeaseConfig | None = None
    """None without an API server."""
    write_back: bool = False
    """Whether the leader writes conditions and events."""
    mesh: MeshConfig
    log: LogConfig

    @property
    def needs_leader(self) -> bool:
        """Whether one of the replicas has something to do that the others have not."""
        has_tokens = self.xds_tls is not None and self.xds_tls.tokens is not None
        return self.write_back or self.authority.secret is not None or has_tokens


def parse_serve(
    *,
    files: Iterable[Path] = (),
    kubernetes: KubernetesConfig | None = None,
    xds_address: str = DEFAULT_XDS_ADDRESS,
    allow_plaintext: bool = False,
    xds_tls: XdsTlsConfig | None = None,
    monitoring_address: str | None = None,
    webhooks: WebhookConfig | None = None,
    state_folder: Path | None = None,
    authority: AuthorityConfig | None = None,
    cert_manager: CertManagerConfig | None = None,
    lease: LeaseConfig | None = None,
    write_back: bool = False,
    mesh: MeshConfig | None = None,
    log: LogConfig | None = None,
    environ: Mapping[str, str] = os.environ,
) -> ServeConfig:
    """Judge the flags of `serve` together; ConfigError says which one to change."""
    folders = tuple(dict.fromkeys(files))
    if not folders and kubernetes is None:
        raise ConfigError("nothing to serve: give --files DIR or --kubernetes")
    if xds_tls is not None and xds_tls.tokens is not None and kubernetes is None:
        raise ConfigError(
            "--xds-tls-address takes tokens of pods, which an API server has to judge: add "
            "--kubernetes, or have clients prove themselves by certificates (--xds-mtls-address)"
        )
    if cert_manager is not None and kubernetes is None:
        raise ConfigError("--cert-manager is asked over the API server: add --kubernetes")
    if authority is not None and authority.secret is not None:
        if kubernetes is None:
            raise ConfigError("--state-secret is kept by an API server: add --kubernetes")
        if state_folder is not None:
            raise ConfigError("--state-secret and --state-folder exclude each other: choose one")
    plaintext = parse_xds_address(xds_address, allow_plaintext=allow_plaintext)
    if plaintext is None and xds_tls is None:
        raise ConfigError(
            f"--xds-address {NO_XDS_ADDRESS} leaves no port for xDS: add --xds-tls-address or "
            "--xds-mtls-address"
        )
    return ServeConfig(
        files=folders,
        kubernetes=kubernetes,
        xds_address=plaintext,
        xds_tls=xds_tls,
        monitoring_address=(
            None
            if monitoring_address is None
            else parse_address(monitoring_address, flag="--monitoring-address")
        ),
        webhooks=webhooks,
        state_folder=state_folder or default_state_folder(environ),
        authority=authority or AuthorityConfig(),
        cert_manager=cert_manager,
        lease=lease,
        write_back=write_back,
        mesh=mesh or MeshConfig(),
        log=log or LogConfig(),
    )


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
        if not _NAMESPACE.fullmatch(namespace):
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
        or str(_home(environ, instead="--kubeconfig FILE") / ".kube" / "config")
    )
    return KubernetesConfig(kubeconfig=paths, context=context, namespaces=chosen)


def parse_mesh(
    *,
    trust_domain: str = DEFAULT_TRUST_DOMAIN,
    access_mode: str = AccessMode.STRICT,
    mtls_mode: str = Mode.STRICT,
) -> MeshConfig:
    """Read the flags that decide how objects are understood."""
    if not is_trust_domain(trust_domain):
        raise ConfigError(
            f"--trust-domain {trust_domain!r} cannot be a trust domain: use lower case letters, "
            "digits, '.', '-' and '_', at most 255, without spiffe:// and path"
        )
    return MeshConfig(
        trust_domain=trust_domain,
        access_mode=_parse_choice(AccessMode, access_mode, flag="--access-mode"),
        mtls_mode=_parse_choice(Mode, mtls_mode, flag="--mtls-mode"),
    )


def parse_webhooks(
    address: str | None, *, service: str = DEFAULT_WEBHOOK_SERVICE
) -> WebhookConfig | None:
    """Read where webhooks are served, and by which Service; None where they are not wanted."""
    if address is None:
        return None
    namespace, name = parse_service(
        service, flag="--webhook-service", example=DEFAULT_WEBHOOK_SERVICE
    )
    return WebhookConfig(
        address=parse_address(address, flag="--webhook-address"), namespace=namespace, service=name
    )


def parse_cert_manager(
    reference: str | None, *, ca: Path | None = None
) -> CertManagerConfig | None:
    """Read who signs instead of our own authority; None where nobody does."""
    if reference is None:
        if ca is not None:
            raise ConfigError("--cert-manager-ca is of use with --cert-manager only: add it")
        return None
    found = _ISSUER.fullmatch(reference)
    if found is None:
        raise ConfigError(
            f"--cert-manager {reference!r} is not NAMESPACE/KIND/NAME of an issuer, such as "
            "smi-xds/Issuer/mesh or smi-xds/ClusterIssuer/mesh"
        )
    return CertManagerConfig(
        namespace=found["namespace"],
        kind=found["kind"],
        group=found["group"] or "cert-manager.io",
        name=found["name"],
        ca=ca,
    )


def parse_log(*, log_format: str = LogFormat.JSON, log_level: str = LogLevel.INFO) -> LogConfig:
    """Read the flags that decide what is logged, and how."""
    return LogConfig(
        format=_parse_choice(LogFormat, log_format, flag="--log-format"),
        level=_parse_choice(LogLevel, log_level, flag="--log-level"),
    )


def parse_xds_address(text: str, *, allow_plaintext: bool = False) -> Address | None:
    """Read where xDS is served in plaintext: on loopback, or wherever the user insists."""
    if text == NO_XDS_ADDRESS:
        return None
    address = parse_address(text, flag="--xds-address")
    if not (allow_plaintext or address.is_loopback):
        # Without TLS and tokens whoever reaches the port may ask for any identity and its key.
        raise ConfigError(
            f"--xds-address {text} is refused: without TLS, xDS is served on loopback only; "
            f"use 127.0.0.1:{address.port} or [::1]:{address.port}, --xds-tls-address for pods "
            "elsewhere, or --allow-plaintext-xds where only what you trust reaches the port"
        )
    return address


def parse_service(text: str, *, flag: str, example: str) -> tuple[str, str]:
    """Read `NAMESPACE/NAME` of a Service."""
    namespace, slash, name = text.partition("/")
    if not (slash and _NAMESPACE.fullmatch(namespace) and _NAMESPACE.fullmatch(name)):
        raise ConfigError(f"{flag} {text!r} is not NAMESPACE/NAME of a Service, such as {example}")
    return namespace, name


def parse_address(text: str, *, flag: str) -> Address:
    """Read `HOST:PORT`, or `[HOST]:PORT` for IPv6; port 0 lets the system choose one."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        is_host = _is_ipv6(host)
    else:
        is_host = bool(host) and not re.search(r"[\s\[\]:/]", host)
    if not (colon and is_host):
        raise ConfigError(f"{flag} {text!r} is not HOST:PORT, such as {DEFAULT_XDS_ADDRESS}")
    # int() would also take '+1', '1_0' and digits of other scripts.
    if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise ConfigError(f"{flag} {text!r} has a port that is not a number from 0 to 65535")
    return Address(host, int(port))


def default_state_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """`${XDG_STATE_HOME:-~/.local/state}/smi-xds` (XDG Base Directory Specification)."""
    base = Path(environ.get("XDG_STATE_HOME", ""))
    # The specification: a path in it that is not absolute is to be ignored.
    if not base.is_absolute():
        base = _home(environ, instead="--state-folder DIR") / ".local" / "state"
    return base / "smi-xds"


def _home(environ: Mapping[str, str], *, instead: str) -> Path:
    home = Path(environ.get("HOME", ""))
    if not home.is_absolute():
        raise ConfigError(f"HOME is not set to a folder: set it, or give {instead}")
    return home


def _is_ipv6(host: str) -> bool:
    try:
        # A zone (fe80::1%eth0) names an interface of one machine.
        return ip_address(host).version == 6 and "%" not in host
    except ValueError:
        return False


def _parse_choice(choices: type[_Choice], text: str, *, flag: str) -> _Choice:
    try:
        return choices(text)
    except ValueError:
        raise ConfigError(f"{flag} {text!r} must be one of: {', '.join(choices)}") from None
