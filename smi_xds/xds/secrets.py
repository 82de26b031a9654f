"""Certificates and trust, as SDS secrets and TLS contexts.

Clients and servers name their own certificate by one constant (`identity`), which the server
resolves per stream: so clusters and listeners are the same bytes for every identity.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CertificateValidationContext,
    CommonTlsContext,
    CommonTlsContextCombinedCertificateValidationContext,
    DownstreamTlsContext,
    SdsSecretConfig,
    SubjectAltNameMatcher,
    SubjectAltNameMatcherSanType,
    TlsCertificate,
    TlsParameters,
    TlsParametersTlsProtocol,
    UpstreamTlsContext,
)
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import Secret as TlsSecret
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher

from smi_xds.mesh.model import PortRef
from smi_xds.values import Secret, SpiffeId
from smi_xds.xds import names
from smi_xds.xds.common import ads, inline
from smi_xds.xds.encode import encode
from smi_xds.xds.resources import SECRET, Resource

# So many authorities may stand between a leaf and its root. Envoy's own limit is 100, and its TLS
# library does not look at the path length of a root.
LONGEST_CHAIN: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What the certificate authority hands out: the trust bundle (PEM), and a leaf each."""

    trust_bundle: bytes
    leaves: Mapping[SpiffeId, Resource]


def leaf_secret(certificate_chain: bytes, private_key: Secret) -> Resource:
    """A proxy's own certificate and key (PEM), as the secret `identity`."""
    certificate = TlsCertificate(
        certificate_chain=inline(certificate_chain), private_key=inline(private_key.value)
    )
    secret = TlsSecret(name=names.IDENTITY, tls_certificate=certificate)
    return Resource.of(SECRET, names.IDENTITY, encode(secret))


def trust_secret(trust_bundle: bytes) -> Resource:
    """The trust bundle alone: any identity of the mesh is accepted."""
    context = CertificateValidationContext(
        trusted_ca=inline(trust_bundle), max_verify_depth=LONGEST_CHAIN
    )
    secret = TlsSecret(name=names.TRUST, validation_context=context)
    return Resource.of(SECRET, names.TRUST, encode(secret))


def peers_secret(ref: PortRef, identities: tuple[SpiffeId, ...], trust_bundle: bytes) -> Resource:
    """The trust bundle with the identities that a client accepts behind a service port."""
    name = names.peers(ref)
    context = CertificateValidationContext(
        trusted_ca=inline(trust_bundle),
        match_typed_subject_alt_names=san_matchers(identities),
        max_verify_depth=LONGEST_CHAIN,
    )
    return Resource.of(SECRET, name, encode(TlsSecret(name=name, validation_context=context)))


def san_matchers(identities: Iterable[SpiffeId]) -> list[SubjectAltNameMatcher]:
    """Exact URI SANs. Never an empty list: Envoy reads that as "anyone with a certificate"."""
    accepted = [str(identity) for identity in sorted(identities)] or [names.NO_ONE]
    return [
        SubjectAltNameMatcher(
            san_type=SubjectAltNameMatcherSanType.URI, matcher=StringMatcher(exact=uri)
        )
        for uri in accepted
    ]


def upstream_tls(ref: PortRef) -> UpstreamTlsContext:
    """mTLS to the sidecars behind a service port."""
    return UpstreamTlsContext(
        common_tls_context=CommonTlsContext(
            tls_params=_tls_13(),
            tls_certificate_sds_secret_configs=[sds(names.IDENTITY)],
            validation_context_sds_secret_config=sds(names.peers(ref)),
            alpn_protocols=[names.ALPN],
        ),
        # Names the service in packet captures; nothing is chosen by it.
        sni=f"{ref.service.name}.{ref.service.namespace}.svc",
    )


def downstream_tls(
    callers: tuple[SpiffeId, ...] | None = None, *, alpn: tuple[str, ...] = ()
) -> DownstreamTlsContext:
    """mTLS within the mesh; `callers` are the identities admitted in the handshake, None for all.

    The list stands in the chain and not in a secret: a new list is then a new chain, and the
    connections of whoever was admitted before are drained.
    """
    common = CommonTlsContext(
        tls_params=_tls_13(),
        tls_certificate_sds_secret_configs=[sds(names.IDENTITY)],
        alpn_protocols=list(alpn),
    )
    if callers is None:
        common.validation_context_sds_secret_config = sds(names.TRUST)
    else:
        common.combined_validation_context = CommonTlsContextCombinedCertificateValidationContext(
            default_validation_context=CertificateValidationContext(
                match_typed_subject_alt_names=san_matchers(callers)
            ),
            validation_context_sds_secret_config=sds(names.TRUST),
        )
    return DownstreamTlsContext(common_tls_context=common, require_client_certificate=True)


def sds(name: str) -> SdsSecretConfig:
    """A secret by name, from the same ADS stream."""
    return SdsSecretConfig(name=name, sds_config=ads())


def _tls_13() -> TlsParameters:
    # Both ends are ours.
    version = TlsParametersTlsProtocol.TLSv1_3
    return TlsParameters(tls_minimum_protocol_version=version, tls_maximum_protocol_version=version)
