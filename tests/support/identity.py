"""An authority without a folder, at a fixed time."""

from datetime import UTC, datetime

from smi_xds.identity import ca

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)


def mk_authority(*, trust_domain: str = "cluster.local", now: datetime = NOW) -> ca.Authority:
    """A new root, and its key."""
    key = ca.create_key()
    root = ca.create_root(key, trust_domain=trust_domain, now=now)
    return ca.Authority(trust_domain=trust_domain, certificate=root, key=key)
