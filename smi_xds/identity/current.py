"""The authority of now: replaced at run time, followed by whoever signs or trusts by it.

Everything that outlives one look at it (issuers, TLS contexts, what API servers are told) holds
this and not an `Authority`. One writer, in `app.authority`.
"""

from collections.abc import Callable
from typing import Self

from smi_xds.identity.ca import Authority

Follower = Callable[[Authority], object]


class CurrentAuthority:
    """Which authority it is at the moment."""

    def __init__(self, authority: Authority) -> None:
        self._now = authority
        self._followers: list[Follower] = []

    @classmethod
    def of(cls, authority: "Authority | Self") -> Self:
        """Itself, or one that will stay as it is."""
        return cls(authority) if isinstance(authority, Authority) else authority

    @property
    def now(self) -> Authority:
        """The latest; take it anew each time."""
        return self._now

    @property
    def trust_bundle(self) -> bytes:
        """The roots by which peers are judged now, PEM."""
        return self._now.trust_bundle

    @property
    def trust_domain(self) -> str:
        """Of what is signed now."""
        return self._now.trust_domain

    @property
    def trust_domains(self) -> tuple[str, ...]:
        """Whose identities are ours now; that of what is signed comes first."""
        return self._now.trust_domains

    def follow(self, told: Follower) -> None:
        """Call it with each one that takes the place of another; it must not block."""
        self._followers.append(told)

    def replace(self, authority: Authority) -> None:
        """Another one from now on; its followers are told in the order in which they came."""
        if authority == self._now:
            return
        self._now = authority
        for told in self._followers:
            told(authority)
