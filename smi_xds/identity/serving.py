"""The certificate of a TLS server of ours, for DNS names: signed, renewed, and put into a context.

Handshakes take what the context holds at that moment, so a renewal ends no connection. Who trusts
the authority's root trusts each of them, whichever replica signed it.
"""

import asyncio
import os
import ssl
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NoReturn

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from smi_xds.identity.ca import (
    CLOCK_SKEW,
    LEAF_LIFETIME,
    LEAF_USAGE,
    Authority,
    authority_key_id,
    create_key,
    encode_key,
)
from smi_xds.identity.current import CurrentAuthority
from smi_xds.identity.issuer import Clock, wall_clock
from smi_xds.problems import IdentityError
from smi_xds.values import Secret, as_ip

# Two fifths of its life are left for a server that cannot sign just now.
_RENEWAL: Final = 0.6
# The wall clock counts, and it jumps: it is looked at again and again instead of awaited once.
_LONGEST_NAP: Final = timedelta(seconds=30)
_SHORTEST_NAP: Final = timedelta(seconds=1)
_NAPS_PER_LIFETIME: Final = 20

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingCertificate:
    """What a server presents. It names no SPIFFE id, so no sidecar takes it for anybody."""

    names: tuple[str, ...]
    certificate_chain: bytes
    """PEM, leaf first, without the root."""
    private_key: Secret
    """PEM, PKCS8."""
    not_before: datetime
    not_after: datetime
    renew_at: datetime


def service_names(namespace: str, service: str) -> tuple[str, ...]:
    """How a Service of Kubernetes is called; API servers call webhooks by the first."""
    short = f"{service}.{namespace}"
    return (f"{short}.svc", f"{short}.svc.cluster.local", short)


def issue_serving(
    authority: Authority,
    names: Sequence[str],
    *,
    now: datetime,
    lifetime: timedelta = LEAF_LIFETIME,
) -> ServingCertificate:
    """Sign a fresh key for these names, DNS or IP; IdentityError where the root has ended."""
    start = now.replace(microsecond=0)  # X.509 counts in seconds
    authority.check_not_ended(start)
    not_before = start - CLOCK_SKEW
    not_after = min((start + lifetime).replace(microsecond=0), authority.not_after)
    key = create_key()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(LEAF_USAGE, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        # Critical where the subject is empty (RFC 5280, section 4.2.1.6).
        .add_extension(x509.SubjectAlternativeName(map(_general_name, names)), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(authority_key_id(authority.certificate), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    return ServingCertificate(
        names=tuple(names),
        certificate_chain=authority.chain(certificate),
        private_key=encode_key(key),
        not_before=not_before,
        not_after=not_after,
        renew_at=start + (not_after - start) * _RENEWAL,
    )


def _general_name(name: str) -> x509.GeneralName:
    address = as_ip(name)
    return x509.DNSName(name) if address is None else x509.IPAddress(address)


class ServerTls:
    """A context for servers, whose certificate is never old, nor of a former authority."""

    def __init__(
        self,
        authority: Authority | CurrentAuthority,
        names: Sequence[str],
        *,
        clock: Clock = wall_clock,
        lifetime: timedelta = LEAF_LIFETIME,
    ) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._authority = CurrentAuthority.of(authority)
        self._authority.follow(lambda _: self._replaced.set())
        self._replaced = asyncio.Event()
        self._names = tuple(names)
        self._clock = clock
        self._lifetime = lifetime
        self.certificate = self._issue(clock())

    def step(self) -> bool:
        """Renew it if it is time, or another authority signs now; whether it was."""
        now = self._clock()
        is_signers = self._signers == self._authority.now.signers
        # Before its time: the clock went back.
        if is_signers and self.certificate.not_before <= now < self.certificate.renew_at:
            return False
        self.certificate = self._issue(now)
        return True

    def nap(self) -> timedelta:
        """How long to look away: until the renewal, and never for long."""
        longest = min(_LONGEST_NAP, self._lifetime / _NAPS_PER_LIFETIME)
        # Where the root ends soon, renewals do not chase each other.
        return max(min(self.certificate.renew_at - self._clock(), longest), _SHORTEST_NAP)

    async def run(self) -> NoReturn:
        """Renew it in time, for ever."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.nap().total_seconds()):
                    await self._replaced.wait()
            self._replaced.clear()
            try:
                if self.step():
                    log.info("server_certificate_renewed", names=self._names)
            except IdentityError as error:
                # What is served already goes on for as long as clients take it.
                log.error("server_certificate_refused", reason=str(error))  # noqa: TRY400 - not ours

    def _issue(self, now: datetime) -> ServingCertificate:
        authority = self._authority.now
        issued = issue_serving(authority, self._names, now=now, lifetime=self._lifetime)
        try:
            with as_file(issued.certificate_chain + issued.private_key.value) as path:
                self.context.load_cert_chain(path)
        except OSError as error:  # of descriptors there may be none left, for a while
            raise IdentityError(
                f"the certificate for {self._names[0]} cannot be handed to OpenSSL: "
                f"{error.strerror}: see how many files this process may have open, and that it "
                "has /proc"
            ) from error
        self._signers = authority.signers
        return issued


@contextmanager
def as_file(content: bytes) -> Iterator[str]:
    """A path for OpenSSL, which reads files only.

    In memory, where there is such a thing: what has a key is on no disk then, and pods have none
    that can be written.
    """
    descriptor = _in_memory()
    if descriptor is not None:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            yield f"/proc/self/fd/{descriptor}"
    else:  # its owner's, and gone at once
        with tempfile.NamedTemporaryFile(prefix="smi-xds-") as temporary:
            temporary.write(content)
            temporary.flush()
            yield temporary.name


def _in_memory() -> int | None:
    """A file that is in no folder; None where this Python or this machine has none.

    Pythons that are built for old machines (by uv and conda, say) do not know of it, and it may be
    forbidden (seccomp, vm.memfd_noexec).
    """
    if sys.platform == "linux" and hasattr(os, "memfd_create"):
        with suppress(PermissionError):
            return os.memfd_create("smi-xds")
    return None
