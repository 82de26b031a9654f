"""`smi-xds explain`, over files and over a running server."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from smi_xds.cli.offline import read_mesh
from smi_xds.config import MeshConfig
from smi_xds.debug.service import debug_services
from tests.ads.client import Served, serving
from tests.support.cli import run_cli

EXAMPLES = Path(__file__).parents[2] / "examples"
ROUTE = ("--files", EXAMPLES / "01-allow-one-route", "--from", "shop/frontend")
CART = (*ROUTE, "--to", "shop/cart:8080")
CANARY = ("--files", EXAMPLES / "03-canary", "--from", "canary/client", "--to", "canary/web:8080")


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """A server that has the mesh of the examples."""
    mesh = read_mesh([EXAMPLES], MeshConfig())
    # The server's own log would stand between the lines of the command.
    with capture_logs():
        async with serving(lambda c, s: debug_services(c, s, mesh=lambda: mesh)) as here:
            yield here


def test_what_is_allowed_is_0(capsys: pytest.CaptureFixture[str]) -> None:
    """The verdict, the request as it was judged, by what, and where it goes."""
    assert run_cli("explain", *CART, "--path", "/x/../items%2f7") == 0
    assert capsys.readouterr().out.splitlines() == [
        "ALLOWED: shop/frontend -> shop/cart:8080 (http)",
        "  GET /x/../items%2f7 for cart.shop:8080, judged as /items/7",
        "  TrafficTarget shop/frontend-reads-cart allows it by HTTPRouteGroup cart-routes, match "
        "read-items.",
        "",
        "    100% shop/cart: allowed",
        "         allowed at http port 8080 of shop/cart (access strict, mTLS strict, 1 ready)",
        "",
        "  Note: A sidecar answers 307 first, because of escaped slashes: to /items/7, which is "
        "what is",
        "  judged here.",
    ]


def test_what_is_denied_is_1_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    """And everything in it that fails."""
    assert run_cli("explain", *CART, "-X", "POST", "-H", "x-user=ann") == 1
    shown = capsys.readouterr().out.splitlines()
    assert shown[:5] == [
        "DENIED: shop/frontend -> shop/cart:8080 (http)",
        "  POST / for cart.shop:8080, x-user: ann",
        "  No TrafficTarget allows it. The nearest is shop/frontend-reads-cart: match read-items "
        "of",
        "  HTTPRouteGroup cart-routes does not hold: the path / does not begin with a match of "
        "'/items' and",
        "  the method POST is not GET.",
    ]


def test_other_traffic_targets_are_listed_below(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What failed next, in a list; and who else would allow it."""
    for file in (EXAMPLES / "01-allow-one-route").glob("*.yaml"):
        text = file.read_text()
        (tmp_path / file.name).write_text(text)
        if file.name == "access.yaml":
            again = text.replace("frontend-reads-cart", "second").replace("cart-routes", "again")
            (tmp_path / "again.yaml").write_text(again)
    ask = ("explain", "--files", tmp_path, "--from", "shop/frontend", "--to", "shop/cart:8080")

    assert run_cli(*ask) == 1
    denied = capsys.readouterr().out
    assert run_cli(*ask, "--path", "/items") == 0
    allowed = capsys.readouterr().out

    assert "           TrafficTarget shop/second fails:\n             - match read-items" in denied
    assert "also by TrafficTarget shop/second: HTTPRouteGroup again, match read-items" in allowed


def test_a_split_shows_its_shares(capsys: pytest.CaptureFixture[str]) -> None:
    """Each backend with its share and its verdict."""
    assert run_cli("explain", *CANARY) == 0
    shown = capsys.readouterr().out
    assert "  TrafficSplit canary/web-rollout decides where it goes:\n" in shown
    assert "     90% canary/web-v1: allowed\n" in shown
    assert "     10% canary/web-v2: allowed\n" in shown


def test_splits_by_match_are_told_either_way(capsys: pytest.CaptureFixture[str]) -> None:
    """Which match it was, or why none was."""
    ask = ("explain", "--files", EXAMPLES, "--from", "ab/browser", "--to", "ab/page:8080")

    assert run_cli(*ask, "-H", "user-agent: Firefox") == 0
    taken = capsys.readouterr().out
    assert run_cli(*ask) == 0
    passed = capsys.readouterr().out

    assert (
        "TrafficSplit ab/page-experiment decides where it goes by match by-user-agent of" in taken
    )
    assert "TrafficSplit ab/page-experiment does not decide: Match by-user-agent of" in passed


def test_a_caller_outside_and_a_connection(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a request there is no line about one."""
    ask = ("explain", "--files", EXAMPLES / "05-tcp", "--to", "data/db:3306", "--tcp")

    assert run_cli(*ask, "--from", "data/api") == 0
    inside = capsys.readouterr().out.splitlines()
    assert run_cli(*ask, "--from", "outside") == 1
    outside = capsys.readouterr().out.splitlines()

    assert inside[0] == "ALLOWED: data/api -> data/db:3306 (tcp-server-first)"
    assert inside[1] == "  TrafficTarget data/api-uses-db allows it by TCPRoute mysql."
    assert outside[0] == "DENIED: a caller outside the mesh -> data/db:3306 (tcp-server-first)"


def test_json_has_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    """For scripts, whose first look is at the verdict."""
    assert run_cli("explain", *CART, "--path", "/items", "-o", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "allowed"
    assert found["split"] == {"name": "", "group": "", "match": ""}
    assert found["branches"][0]["destinations"][0]["nearest"] == []


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((*ROUTE, "--to", "shop/crt:8080"), "no Service shop/crt; did you mean shop/cart?"),
        ((*CART, "--tcp", "-X", "GET"), "--method is of a request: leave out --tcp."),
        ((*CART, "--udp", "-H", "a=b"), "--header is of a request: leave out --udp."),
        (
            (*CART, "--server", "127.0.0.1:1"),
            "--server or --kubernetes, not two of them.",
        ),
        ((*CART, "-H", "nothing"), "the header 'nothing' is not NAME=VALUE"),
        ((*CART[2:], "--server", "x"), "--server 'x' is not HOST:PORT"),
    ],
)
def test_a_question_without_an_answer_is_2(
    arguments: tuple[object, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With one line that says what to change."""
    assert run_cli("explain", *arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "question",
    [
        ("--from", "shop/frontend", "--to", "shop/cart:8080", "--path", "/items?a"),
        ("--from", "shop/frontend", "--to", "shop/cart:8080", "-H", "a=b", "-X", "POST"),
        ("--from", "canary/client", "--to", "canary/web:8080"),
        ("--from", "ab/browser", "--to", "ab/page:8080", "-H", "user-agent=Firefox"),
        ("--from", "data/api", "--to", "data/db:3306", "--tcp"),
        ("--from", "outside", "--to", "legacy/open:8080"),
    ],
)
async def test_a_server_says_the_same(
    served: Served, question: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """The very JSON, the same text, the same exit code."""
    asked = ("explain", "--server", served.target, *question)
    codes = [await asyncio.to_thread(run_cli, *asked, "-o", form) for form in ("json", "text")]
    by_server = capsys.readouterr().out
    read = ("explain", "--files", EXAMPLES, *question)
    assert codes == [run_cli(*read, "-o", form) for form in ("json", "text")]
    by_files = capsys.readouterr().out

    decoder = json.JSONDecoder()
    (said, at), (expected, end) = (decoder.raw_decode(it) for it in (by_server, by_files))
    assert said == expected
    assert by_server[at:] == by_files[end:]


async def test_a_server_names_who_is_near(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its line is the command's."""
    asked = ("--server", served.target, "--from", "shop/frontnd", "--to", "shop/cart:8080")

    assert await asyncio.to_thread(run_cli, "explain", *asked) == 2
    assert capsys.readouterr().err == (
        "smi-xds: there is no ServiceAccount shop/frontnd, and no pod runs as it; did you mean "
        "shop/frontend?\n"
    )


async def test_a_server_without_a_mesh_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """Resources may be served that somebody else made."""
    with capture_logs():
        async with serving(debug_services) as here:
            asked = ("--server", here.target, "--from", "a/b", "--to", "c/d:1")
            assert await asyncio.to_thread(run_cli, "explain", *asked) == 2
    assert "this server has no mesh to be asked about" in capsys.readouterr().err
