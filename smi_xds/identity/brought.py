"""An authority that the operator brings: files, which are replaced when it is renewed."""

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from smi_xds.config import BroughtConfig
from smi_xds.identity.signer import (
    Signer,
    check_key,
    check_trust_domain,
    parse_certificates,
    parse_signing_key,
)
from smi_xds.identity.state import state_of
from smi_xds.identity.trial import check_believed
from smi_xds.problems import IdentityError


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """What the files said, to see whether they say something else."""

    contents: tuple[bytes, ...] = field(repr=False)
    signer: Signer


def read_brought(
    files: BroughtConfig, *, trust_domain: str, now: datetime, last: Brought | None = None
) -> Brought:
    """Read the files; IdentityError names the one that cannot be used.

    Whoever reads between two of them that are being replaced finds that they do not fit.
    """
    contents = tuple(
        _read(file, flag)
        for file, flag in (
            (files.chain, "--ca-cert"),
            (files.key, "--ca-key"),
            (files.root, "--ca-root"),
        )
        if file is not None
    )
    if last is not None and (last.contents, last.signer.trust_domain) == (contents, trust_domain):
        return last
    chain, key, *root = contents
    where = f"--ca-cert {files.chain}"
    try:
        parse_certificates(chain, is_whole=not root)
        certificates = parse_certificates(b"\n".join((chain, *root)))
        check_trust_domain(certificates[0], trust_domain)
    except ValueError as error:
        cure = "" if files.root else "; add the root's certificate at its end, or give --ca-root"
        raise IdentityError(f"{where} {error}: put it right{cure}") from None
    try:
        signing_key = parse_signing_key(key)
    except ValueError as error:
        raise IdentityError(f"--ca-key {files.key} {error}: give another one") from None
    try:
        check_key(certificates, signing_key)
    except ValueError:
        raise IdentityError(
            f"{where} does not belong to --ca-key {files.key}: give the two that do"
        ) from None
    signer = Signer(
        trust_domain=trust_domain, certificates=certificates, key=signing_key, brought=True
    )
    if not signer.not_before <= now < signer.not_after:
        raise IdentityError(
            f"{where} is valid from {signer.not_before:%Y-%m-%d %H:%M:%S} to "
            f"{signer.not_after:%Y-%m-%d %H:%M:%S} UTC, and not now: replace it, or set the clock"
        )
    try:
        check_believed(state_of(signer, now=now).authority(), now=now)
    except ValueError as error:
        raise IdentityError(
            f"{where} {error}: bring an authority that may sign workloads' certificates (clients' "
            "and servers', with URI names) for sidecars"
        ) from None
    return Brought(contents=contents, signer=signer)


def _read(file: Path, flag: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise IdentityError(f"{flag} {file} cannot be read: {error.strerror}") from error
