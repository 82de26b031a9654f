"""Whether what an authority signs will be believed, found out before anybody depends on it.

A certificate may say in many ways what is not to be believed below it: purposes, names, lengths,
extensions that a verifier has to know. So a workload's leaf is signed, and shown in both directions
of a handshake that takes place in memory. The time is not looked at here.
"""

import ssl
from datetime import datetime
from typing import Final

from smi_xds.identity.ca import Authority
from smi_xds.identity.serving import as_file
from smi_xds.problems import IdentityError
from smi_xds.values import ServiceAccountRef, SpiffeId
from smi_xds.xds.secrets import LONGEST_CHAIN

_SOMEBODY: Final = ServiceAccountRef("smi-xds", "trial")
_NO_CHECK_TIME: Final = 0x200000  # X509_V_FLAG_NO_CHECK_TIME, which Python has no name for
_TURNS: Final = 10  # TLS 1.2 takes three of each end


def check_believed(authority: Authority, *, now: datetime) -> None:
    """ValueError says why nobody would believe what it signs; IdentityError why it is not known."""
    if len(authority.intermediates) > LONGEST_CHAIN:
        raise ValueError(
            f"has {len(authority.intermediates)} authorities below its root, and sidecars follow "
            f"{LONGEST_CHAIN} at most"
        )
    leaf = authority.issue(SpiffeId.of(authority.trust_domain, _SOMEBODY), now=now)
    pem = leaf.certificate_chain + leaf.private_key.value
    try:
        client, server = (
            _context(side, pem, authority.trust_bundle)
            for side in (ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS_SERVER)
        )
        _shake_hands(client, server)
    except ssl.SSLCertVerificationError as error:
        raise ValueError(f"signs what is not believed: {error.verify_message}") from None
    except ssl.SSLError as error:
        raise ValueError(f"signs what is not believed: {error.reason}") from None
    except OSError as error:  # of descriptors there may be none left, for a while
        raise IdentityError(
            f"--ca-cert cannot be tried: {error.strerror}: see how many files this process may "
            "have open"
        ) from error


def _context(side: int, pem: bytes, roots: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(side)
    context.check_hostname = False  # it has a SPIFFE id instead
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= _NO_CHECK_TIME
    context.load_verify_locations(cadata=roots.decode())
    with as_file(pem) as path:
        context.load_cert_chain(path)
    return context


def _shake_hands(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    """To its end: a server's refusal comes last, and is raised there."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(_TURNS):
        for end in tuple(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            ends.remove(end)
