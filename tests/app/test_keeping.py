"""The authority of a server, and as whom it tells of its proxies."""

from pathlib import Path

from smi_xds.app.keeping import replica_name
from smi_xds.config import MeshConfig, parse_serve, parse_xds_tls


def named(plain: str, certificates: str | None = None) -> str:
    """The name of a server with these ports."""
    tls = parse_xds_tls(certificates=certificates) if certificates else None
    config = parse_serve(files=(Path("x"),), xds_address=plain, xds_tls=tls, mesh=MeshConfig())
    return replica_name(config)


def test_servers_of_one_machine_are_told_apart() -> None:
    """By all of their ports, as one may serve TLS alone: a rotation waits for both."""
    names = [
        named("127.0.0.1:15010"),
        named("127.0.0.1:16010"),
        named("off", "127.0.0.1:15013"),
        named("off", "127.0.0.1:16013"),
        named("127.0.0.1:15010", "127.0.0.1:15013"),
    ]

    assert len(set(names)) == len(names)
    assert named("off", "127.0.0.1:15013") == names[2], "the same after a restart"
