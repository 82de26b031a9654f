"""The cluster by which a sidecar finds its control plane, and how it proves itself there.

Tokens, certificates and roots are files that are rotated. Envoy reads such files again only where
a secret names them that it has from a file itself: those are `secret_files`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import PurePosixPath
from typing import Final, TypeAlias

from envoy_data_plane.envoy.config.cluster.v3 import (
    Cluster,
    ClusterDiscoveryType,
    ClusterDnsLookupFamily,
)
from envoy_data_plane.envoy.config.core.v3 import (
    ApiVersion,
    ConfigSource,
    DataSource,
    Http2ProtocolOptions,
    KeepaliveSettings,
    PathConfigSource,
    TransportSocket,
    TypedExtensionConfig,
    WatchedDirectory,
)
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    Endpoint,
    LbEndpoint,
    LocalityLbEndpoints,
)
from envoy_data_plane.envoy.extensions.filters.http.credential_injector.v3 import (
    CredentialInjector,
)
from envoy_data_plane.envoy.extensions.filters.http.upstream_codec.v3 import UpstreamCodec
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.extensions.http.injected_credentials.generic.v3 import Generic
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CertificateValidationContext,
    CommonTlsContext,
    CommonTlsContextCombinedCertificateValidationContext,
    GenericSecret,
    SdsSecretConfig,
    SubjectAltNameMatcher,
    SubjectAltNameMatcherSanType,
    TlsCertificate,
    TlsParameters,
    TlsParametersTlsProtocol,
    UpstreamTlsContext,
)
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import Secret as TlsSecret
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import (
    HttpProtocolOptions,
    HttpProtocolOptionsExplicitHttpConfig,
)
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher

from smi_xds.values import as_ip
from smi_xds.xds.common import socket
from smi_xds.xds.encode import pack

XDS_CLUSTER: Final = "xds"

TOKEN_FILE, CERTIFICATE_FILE, TRUST_FILE = "token.json", "certificate.json", "trust.json"
"""What the secret files are called, in the folder `secrets`."""

_TLS: Final = "envoy.transport_sockets.tls"


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """Proves which pod it is; the file holds the token of a service account."""

    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """Proves whose workload it is; files of PEM."""

    chain: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """How it is called over TLS."""

    root: str
    """A file with the roots that its certificate may lead to, PEM."""
    name: str
    """The name, DNS or IP, that the certificate has to be for."""
    proof: Token | Certificate
    secrets: str
    """The folder in which Envoy finds the secret files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlane:
    """Where it is; in plaintext unless `tls` says how."""

    host: str
    port: int
    tls: Tls | None = None


Documents: TypeAlias = Mapping[str, TlsSecret]


def secret_files(tls: Tls) -> Documents:
    """The secrets that the bootstrap refers to, by the name of their file in `secrets`."""
    roots = CertificateValidationContext(trusted_ca=DataSource(filename=tls.root))
    trust = TlsSecret(name=TRUST_FILE, validation_context=roots)
    proof = _proof(tls.proof)
    return {proof.name: proof, trust.name: trust}


def _proof(proof: Token | Certificate) -> TlsSecret:
    if isinstance(proof, Token):
        secret = GenericSecret(secret=DataSource(filename=proof.token))
        return TlsSecret(name=TOKEN_FILE, generic_secret=secret)
    certificate = TlsCertificate(
        certificate_chain=DataSource(filename=proof.chain),
        private_key=DataSource(filename=proof.key),
    )
    return TlsSecret(name=CERTIFICATE_FILE, tls_certificate=certificate)


def xds_cluster(plane: ControlPlane) -> Cluster:
    """The one cluster that a sidecar starts with."""
    # A control plane that vanished without a word is noticed within 40 seconds.
    alive = KeepaliveSettings(interval=timedelta(seconds=30), timeout=timedelta(seconds=10))
    options = HttpProtocolOptions(
        explicit_http_config=HttpProtocolOptionsExplicitHttpConfig(
            http2_protocol_options=Http2ProtocolOptions(connection_keepalive=alive)
        )
    )
    if plane.tls is not None and isinstance(plane.tls.proof, Token):
        options.http_filters = _injecting(plane.tls, plane.tls.proof)
    endpoint = LbEndpoint(endpoint=Endpoint(address=socket(plane.host, plane.port)))
    cluster = Cluster(
        name=XDS_CLUSTER,
        type=(
            ClusterDiscoveryType.STATIC if as_ip(plane.host) else ClusterDiscoveryType.STRICT_DNS
        ),
        # The first that answers: a name may have an address of a family that leads nowhere.
        dns_lookup_family=ClusterDnsLookupFamily.ALL,
        connect_timeout=timedelta(seconds=5),
        load_assignment=ClusterLoadAssignment(
            cluster_name=XDS_CLUSTER, endpoints=[LocalityLbEndpoints(lb_endpoints=[endpoint])]
        ),
        typed_extension_protocol_options={
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": pack(options)
        },
    )
    if plane.tls is not None:
        cluster.transport_socket = TransportSocket(name=_TLS, typed_config=pack(_tls(plane.tls)))
    return cluster


def _injecting(tls: Tls, token: Token) -> list[HttpFilter]:
    """Put the token of this moment on every stream that begins."""
    generic = Generic(
        credential=_from_file(tls, TOKEN_FILE, watching=token.token), header_value_prefix="Bearer "
    )
    injector = CredentialInjector(
        overwrite=True,
        credential=TypedExtensionConfig(
            name="envoy.http.injected_credentials.generic", typed_config=pack(generic)
        ),
    )
    return [
        HttpFilter(name="envoy.filters.http.credential_injector", typed_config=pack(injector)),
        HttpFilter(name="envoy.filters.http.upstream_codec", typed_config=pack(UpstreamCodec())),
    ]


def _tls(tls: Tls) -> UpstreamTlsContext:
    """Checks that it is our control plane, before any token is shown."""
    ip = as_ip(tls.name) is not None
    name = SubjectAltNameMatcher(
        san_type=(
            SubjectAltNameMatcherSanType.IP_ADDRESS if ip else SubjectAltNameMatcherSanType.DNS
        ),
        matcher=StringMatcher(exact=tls.name),
    )
    validation = CommonTlsContextCombinedCertificateValidationContext(
        default_validation_context=CertificateValidationContext(
            match_typed_subject_alt_names=[name]
        ),
        validation_context_sds_secret_config=_from_file(tls, TRUST_FILE, watching=tls.root),
    )
    context = CommonTlsContext(
        tls_params=TlsParameters(tls_maximum_protocol_version=TlsParametersTlsProtocol.TLSv1_3),
        alpn_protocols=["h2"],
        combined_validation_context=validation,
    )
    if isinstance(tls.proof, Certificate):
        context.tls_certificate_sds_secret_configs = [
            _from_file(tls, CERTIFICATE_FILE, watching=tls.proof.chain)
        ]
    # A server name is one of DNS (RFC 6066, section 3).
    return UpstreamTlsContext(common_tls_context=context, sni="" if ip else tls.name)


def _from_file(tls: Tls, file: str, *, watching: str) -> SdsSecretConfig:
    """A secret that is read again whenever something moves into the folder of what it names."""
    source = PathConfigSource(
        path=str(PurePosixPath(tls.secrets) / file),
        watched_directory=WatchedDirectory(path=str(PurePosixPath(watching).parent)),
    )
    config = ConfigSource(path_config_source=source, resource_api_version=ApiVersion.V3)
    return SdsSecretConfig(name=file, sds_config=config)
