"""Secrets are those of the leaves, however the leaves change, and are made once for each."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smi_xds.app import secrets as room
from smi_xds.app.secrets import LeafSecrets
from smi_xds.identity.ca import Leaf
from smi_xds.objects.snapshot import Snapshot
from smi_xds.values import SpiffeId
from smi_xds.xds.resources import Resource
from smi_xds.xds.secrets import leaf_secret
from tests.support.identity import NOW, mk_authority

AUTHORITY = mk_authority()
FORMER = mk_authority(trust_domain="former.test")
NAMES = ("buyer", "store", "thief")


def mk_id(name: str, *, domain: str = "cluster.local") -> SpiffeId:
    return SpiffeId(domain, f"/ns/shop/sa/{name}")


LEAVES = {
    (name, turn): AUTHORITY.issue(mk_id(name), now=NOW + timedelta(hours=turn))
    for name in NAMES
    for turn in range(2)
}


def secret_of(leaf: Leaf) -> Resource:
    return leaf_secret(leaf.certificate_chain, leaf.private_key)


CHANGES = st.lists(
    st.tuples(
        st.booleans(),  # whether the next leaves are a changed copy of these
        st.dictionaries(st.sampled_from(NAMES), st.sampled_from([None, 0, 1])),
    )
)


@given(CHANGES)
def test_each_identity_has_the_secret_of_its_leaf(
    changes: list[tuple[bool, dict[str, int | None]]],
) -> None:
    """Leaves that come, go and are replaced, in copies or in mappings that say nothing."""
    secrets, leaves = LeafSecrets(), Snapshot[SpiffeId, Leaf]()
    for is_copy, changed in changes:
        leaves = Snapshot(leaves)
        for name, turn in changed.items():
            if turn is not None or mk_id(name) in leaves:
                leaves.write(mk_id(name), None if turn is None else LEAVES[name, turn])
        given_ = leaves if is_copy else dict(leaves)

        found = secrets.of(given_, identities=leaves.keys(), aliases=())

        assert found == {identity: secret_of(leaf) for identity, leaf in leaves.items()}


def test_only_what_was_written_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a changed copy one leaf makes one secret; the very same leaves give the very same ones."""
    secrets = LeafSecrets()
    first = Snapshot[SpiffeId, Leaf]()
    for name in NAMES:
        first.write(mk_id(name), LEAVES[name, 0])
    before = secrets.of(first, identities=first.keys(), aliases=())
    made: list[bytes] = []
    monkeypatch.setattr(room, "leaf_secret", lambda chain, key: made.append(chain))

    assert secrets.of(first, identities=first.keys(), aliases=()) is before
    second = Snapshot(first)
    second.write(mk_id("store"), LEAVES["store", 1])
    after = secrets.of(second, identities=second.keys(), aliases=())

    assert made == [LEAVES["store", 1].certificate_chain]
    assert isinstance(after, Snapshot)
    assert after.follows(before)


def test_who_is_pending_keeps_the_secret_of_a_former_trust_domain() -> None:
    """Until the leaf of the new one is there; whoever is gone has none."""
    secrets, aliases = LeafSecrets(), ("former.test",)
    old = {
        mk_id(name, domain="former.test"): FORMER.issue(mk_id(name, domain="former.test"), now=NOW)
        for name in NAMES
    }
    secrets.of(old, identities=old.keys(), aliases=())
    buyer, store, thief = (mk_id(name) for name in NAMES)
    new = {buyer: LEAVES["buyer", 0]}

    meanwhile = secrets.of(new, identities={buyer, store, thief}, aliases=aliases)
    later = secrets.of(new, identities={buyer, store}, aliases=aliases)
    done = {buyer: LEAVES["buyer", 0], store: LEAVES["store", 0]}
    at_last = secrets.of(done, identities={buyer, store}, aliases=aliases)

    borrowed = {mk_id(name): secret_of(old[mk_id(name, domain="former.test")]) for name in NAMES}
    assert meanwhile == {**borrowed, buyer: secret_of(LEAVES["buyer", 0])}
    assert later == {buyer: meanwhile[buyer], store: meanwhile[store]}
    assert at_last == {identity: secret_of(leaf) for identity, leaf in done.items()}
