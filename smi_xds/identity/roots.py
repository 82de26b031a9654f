"""The roots of an authority that is not ours: given by the operator, or learned from its answers.

A root that is new is trusted everywhere before a leaf under it is used, and an old one as long as a
leaf under it may live.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509

from smi_xds.identity.answers import read_certificates, write_certificates

# Pushing a bundle takes a second where there are thousands of proxies.
SETTLE: Final = timedelta(seconds=10)


class Roots:
    """What is trusted; the state is when each root was first seen, and how long it is needed."""

    def __init__(self, given: Callable[[], bytes] | None = None) -> None:
        self._given = given
        self._since: dict[x509.Certificate, datetime] = {}
        self._until: dict[x509.Certificate, datetime] = {}
        self._bundle = b""

    @property
    def bundle(self) -> bytes:
        """All of them, PEM; empty before the first is known."""
        return self._bundle

    def look(self, now: datetime) -> bool:
        """Read what the operator gives, forget what nobody needs; whether that changed anything.

        IdentityError where what is given cannot be used.
        """
        if self._given is not None:
            found = read_certificates(self._given(), what="--cert-manager-ca")
            # What is taken out of the file is no longer trusted: that is what the file is for.
            self._since = {it: self._since.get(it, now) for it in found}
        else:
            self._since = {
                it: since for it, since in self._since.items() if now < self._until.get(it, now)
            }
        return self._written()

    def judging(self, ca: bytes, certificate: bytes) -> Sequence[x509.Certificate]:
        """By which roots an answer is judged: those given, else what it says itself.

        Whoever may write the answer may write this as well: it is the issuer, over the API server.
        """
        if self._given is not None:
            return tuple(self._since)
        if ca:
            return read_certificates(ca, what="status.ca")
        last = read_certificates(certificate, what="the answer")[-1]
        return (last,) if last.subject == last.issuer else ()

    def learn(
        self, roots: Sequence[x509.Certificate], *, now: datetime, until: datetime
    ) -> datetime:
        """Trust these until then at least; from when on leaves under them are of use."""
        is_first = not self._since
        usable = now
        for root in roots:
            if self._given is None and root not in self._since:
                self._since[root] = now - SETTLE if is_first else now
            self._until[root] = max(until, self._until.get(root, until))
            usable = max(usable, self._since.get(root, now) + SETTLE)
        self._written()
        return usable

    def _written(self) -> bool:
        before = self._bundle
        self._bundle = write_certificates(sorted(self._since, key=lambda it: self._since[it]))
        return self._bundle != before
