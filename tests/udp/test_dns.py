"""The DNS example: real questions, and real answers, through real Envoys."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.live import live_mesh
from tests.support.udp import SILENCE, udp_applications, udp_session

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "09-udp-dns"


def load() -> ModuleType:
    """The example's program."""
    spec = importlib.util.spec_from_file_location("dns", EXAMPLE / "dns.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.envoy
async def test_the_web_is_answered_and_the_intruder_is_not(tmp_path: Path) -> None:
    """A name that there is, one that there is not; and silence for whom nobody lets in."""
    dns = load()
    async with (
        live_mesh(EXAMPLE, tmp_path) as mesh,
        udp_applications(mesh, answer=lambda _, query: bytes(dns.answer(query))),
    ):
        async with udp_session(mesh, "names/web", "names/dns:53") as session:
            known = await session.ask(dns.question("shop.example", 7))
            assert (known[:2], known[-4:]) == (b"\x00\x07", bytes((192, 0, 2, 10)))
            unknown = await session.ask(dns.question("nowhere.example", 8))
            assert (unknown[:2], unknown[3] & 0xF) == (b"\x00\x08", 3)
        async with udp_session(mesh, "names/intruder", "names/dns:53") as session:
            question = dns.question("shop.example", 9)
            assert await session.ask(question, patience=SILENCE) == b""
