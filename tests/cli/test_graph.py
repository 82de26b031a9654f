"""`smi-xds graph`: a tree, JSON, Graphviz and Mermaid."""

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from smi_xds.cli.graph_text import to_dot, to_mermaid, to_tree
from smi_xds.cli.offline import read_mesh
from smi_xds.config import MeshConfig
from smi_xds.debug.service import debug_services
from tests.ads.client import serving
from tests.support.cli import run_cli

EXAMPLES = Path(__file__).parents[2] / "examples"

# Everything that either language could read as its own.
ODD = 'a"b\\c|d`e#f;g&h<i>j[k](l){m}\n/%% --> x'
GRAPH = {
    "services": [
        {
            "service": "shop/api",
            "ports": [
                {"number": 80, "protocol": "http", "identities": ["shop/api"]},
                {"number": 53, "protocol": "udp", "identities": []},
            ],
        },
        {"service": "shop/v2", "ports": []},
    ],
    "allows": [
        {
            "source": "shop/web",
            "service": "shop/api",
            "port": 80,
            "protocol": "http",
            "target": "shop/t",
            "requests": [ODD],
            "why": "",
        },
        {
            "source": "anyone",
            "service": "shop/api",
            "port": 80,
            "protocol": "http",
            "target": "",
            "requests": [],
            "why": "access is permissive",
        },
    ],
    "splits": [
        {
            "split": "shop/s",
            "service": "shop/api",
            "port": 80,
            "requests": [ODD],
            "backends": [
                {"service": "shop/api", "share": 66.67},
                {"service": "shop/v2", "share": 33.33},
            ],
        },
        {"split": "shop/z", "service": "shop/api", "port": 80, "requests": [], "backends": []},
    ],
}


def test_a_tree_for_terminals() -> None:
    """By service and port: who, by what, and how it splits."""
    odd = ODD.replace("\n", " ")
    assert to_tree(GRAPH).replace(ODD, odd).splitlines() == [
        "shop/api",
        "├─ 80 http, served by shop/api",
        "│  ├─ from shop/web  (TrafficTarget shop/t)",
        f"│  │     {odd}",
        "│  ├─ from anyone  (access is permissive)",
        "│  ├─ TrafficSplit shop/s: 66.67% shop/api, 33.33% shop/v2",
        f"│  │     when {odd}",
        "│  └─ TrafficSplit shop/z: nowhere (503)",
        "└─ 53 udp, served by nobody in the mesh",
        "   └─ nobody may call it",
        "shop/v2",
    ]


def test_nothing_is_no_services(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And no error."""
    assert run_cli("graph", "--files", tmp_path) == 0
    assert capsys.readouterr().out == "no services\n"


def test_graphviz_takes_it() -> None:
    """Whatever stands in an expression; by `dot` where there is one, by its grammar anywhere."""
    text = to_dot(GRAPH)

    assert text.startswith("digraph mesh {\n")
    assert text.endswith("\n}")
    for line in text.splitlines()[3:-1]:
        assert re.fullmatch(rf"  n\d+( -> n\d+)? \[label={DOT_STRING}(, \w+=\w+)?\];", line), line
    if dot := shutil.which("dot"):
        subprocess.run([dot, "-Tsvg"], input=text.encode(), check=True, capture_output=True)


DOT_STRING = r'"(\\["\\n]|[^"\\\n])*"'


def test_mermaid_takes_it() -> None:
    """One statement a line, names that are plain, labels without a sign of its own."""
    lines = to_mermaid(GRAPH).splitlines()

    assert lines[0] == "flowchart LR"
    label = r'"([^"\n`|\\#<>&]|#\d+;|<br/>)*"'
    for line in lines[1:]:
        node, edge = (
            rf"  n\d+(\[{label}\]|\(\[{label}\]\))",
            rf"  n\d+ (-->|-\.->)\|{label}\| n\d+",
        )
        assert re.fullmatch(f"{node}|{edge}", line), line
    assert "  n0 -.->|" in "\n".join(lines)


def edges(text: str) -> Iterator[tuple[str, str]]:
    """(from, to) of each edge, by label."""
    labels = dict(re.findall(r'^  (n\d+)\(?\["([^"]*)"\]', text, re.M))
    for start, end in re.findall(r"^  (n\d+) -.*\| (n\d+)$", text, re.M):
        yield labels[start], labels[end]


def test_the_examples_as_mermaid(capsys: pytest.CaptureFixture[str]) -> None:
    """Callers point at services, services at those that they split to."""
    assert run_cli("graph", "--files", EXAMPLES / "03-canary", "-o", "mermaid") == 0
    shown = capsys.readouterr().out
    assert f"```mermaid\n{shown}```\n" in (EXAMPLES / "03-canary" / "README.md").read_text()
    assert sorted(edges(shown)) == [
        ("canary/client", "canary/web"),
        ("canary/client", "canary/web-v1"),
        ("canary/client", "canary/web-v2"),
        ("canary/web", "canary/web-v1"),
        ("canary/web", "canary/web-v2"),
    ]


@pytest.mark.parametrize("form", ["text", "json", "dot", "mermaid"])
async def test_a_server_says_the_same(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    """From the mesh that it serves; of one namespace, if one is named."""
    mesh = read_mesh([EXAMPLES], MeshConfig())
    more = ("--namespace", "canary", "--output", form)
    with capture_logs():
        async with serving(lambda c, s: debug_services(c, s, mesh=lambda: mesh)) as here:
            asked = ("graph", "--server", here.target, *more)
            assert await asyncio.to_thread(run_cli, *asked) == 0
    by_server = capsys.readouterr().out
    assert run_cli("graph", "--files", EXAMPLES, *more) == 0
    by_files = capsys.readouterr().out

    if form == "json":
        assert json.loads(by_server) == json.loads(by_files)
    else:
        assert by_server == by_files
    assert "canary/web" in by_server
    assert "shop/cart" not in by_server
