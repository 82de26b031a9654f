"""The secrets of leaves: made once for each, and of thousands only those looked at that changed."""

from collections.abc import Collection, Mapping

from smi_xds.identity.ca import Leaf
from smi_xds.objects.snapshot import Snapshot
from smi_xds.values import SpiffeId
from smi_xds.xds.resources import Resource
from smi_xds.xds.secrets import leaf_secret


class LeafSecrets:
    """What was made for which leaves."""

    def __init__(self) -> None:
        self._leaves: Mapping[SpiffeId, Leaf] = {}
        self._secrets: Snapshot[SpiffeId, Resource] = Snapshot()
        self._borrows = False

    def of(
        self,
        leaves: Mapping[SpiffeId, Leaf],
        *,
        identities: Collection[SpiffeId],
        aliases: tuple[str, ...],
    ) -> Mapping[SpiffeId, Resource]:
        """Who is pending has none, but for those with one of a former trust domain (`aliases`)."""
        before, self._leaves = self._leaves, leaves
        borrows = bool(aliases) and len(leaves) < len(identities)
        if borrows or self._borrows:
            self._secrets = self._all(before, identities=identities, aliases=aliases)
        elif leaves is not before:
            self._secrets = self._changed(before)
        self._borrows = borrows
        return self._secrets

    def _changed(self, before: Mapping[SpiffeId, Leaf]) -> Snapshot[SpiffeId, Resource]:
        """A copy with other secrets for those whose leaf is another one."""
        leaves, secrets = self._leaves, Snapshot(self._secrets)
        if isinstance(leaves, Snapshot) and leaves.follows(before):
            suspects = leaves.changed
        else:
            suspects = {*before, *leaves}
        for identity in suspects:
            leaf = leaves.get(identity)
            if leaf is not before.get(identity):
                secrets.write(identity, None if leaf is None else _secret(leaf))
        return secrets

    def _all(
        self,
        before: Mapping[SpiffeId, Leaf],
        *,
        identities: Collection[SpiffeId],
        aliases: tuple[str, ...],
    ) -> Snapshot[SpiffeId, Resource]:
        found: Snapshot[SpiffeId, Resource] = Snapshot()
        for identity, leaf in self._leaves.items():
            known = self._secrets.get(identity) if before.get(identity) is leaf else None
            found.write(identity, known or _secret(leaf))
        for identity in identities:
            if identity not in found and (former := self._former(identity, aliases)) is not None:
                found.write(identity, former)
        return found

    def _former(self, identity: SpiffeId, aliases: tuple[str, ...]) -> Resource | None:
        domains = (identity.trust_domain, *aliases)
        known = (self._secrets.get(SpiffeId(domain, identity.path)) for domain in domains)
        return next((it for it in known if it is not None), None)


def _secret(leaf: Leaf) -> Resource:
    return leaf_secret(leaf.certificate_chain, leaf.private_key)
