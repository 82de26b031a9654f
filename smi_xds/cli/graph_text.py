"""A graph as a tree for terminals, for Graphviz and for Mermaid."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from smi_xds.cli.asking import Json

# The number sign first: entities begin with it.
_ENTITIES: Final = (
    *(("#", "#35;"), ("&", "#38;"), ('"', "#34;"), ("<", "#60;"), (">", "#62;")),
    *(("`", "#96;"), ("|", "#124;"), ("\\", "#92;")),
)


def to_tree(graph: Json) -> str:
    """By service: who may call each port, then how it splits."""
    return "\n".join(_tree(graph)) or "no services"


def to_dot(graph: Json) -> str:
    """Graphviz: callers are ellipses, services boxes, splits dashed."""
    names = _numbered(graph)
    lines = ["digraph mesh {", "  rankdir=LR;", '  node [fontname="sans-serif"];']
    for name, node in names.items():
        shape = "box" if name.startswith("service ") else "ellipse"
        lines.append(f"  {node} [label={_dot(name.partition(' ')[2])}, shape={shape}];")
    for start, end, label, is_split in _edges(graph):
        style = ", style=dashed" if is_split else ""
        lines.append(f"  {names[start]} -> {names[end]} [label={_dot(label)}{style}];")
    return "\n".join([*lines, "}"])


def to_mermaid(graph: Json) -> str:
    """A flowchart of Mermaid: the same, with rounded callers."""
    names = _numbered(graph)
    lines = ["flowchart LR"]
    for name, node in names.items():
        text = _mermaid(name.partition(" ")[2])
        lines.append(f"  {node}[{text}]" if name.startswith("service ") else f"  {node}([{text}])")
    for start, end, label, is_split in _edges(graph):
        arrow = "-.->" if is_split else "-->"
        lines.append(f"  {names[start]} {arrow}|{_mermaid(label)}| {names[end]}")
    return "\n".join(lines)


# ------------------------------------------------------------------ a tree


def _tree(graph: Json) -> Iterator[str]:
    for node in graph["services"]:
        yield node["service"]
        ports = node["ports"]
        splits = [it for it in graph["splits"] if it["service"] == node["service"]]
        for index, port in enumerate(ports):
            yield from _port_lines(graph, node, port, splits, is_last=index == len(ports) - 1)


def _port_lines(
    graph: Json, node: Json, port: Json, splits: Sequence[Json], *, is_last: bool
) -> Iterator[str]:
    behind = ", ".join(port["identities"]) or "nobody in the mesh"
    yield f"{_branch(is_last)}{port['number']} {port['protocol']}, served by {behind}"
    key = (node["service"], port["number"], port["protocol"])
    callers = [it for it in graph["allows"] if (it["service"], it["port"], it["protocol"]) == key]
    below = [_allow_lines(it) for it in callers] or [["nobody may call it"]]
    if port["protocol"] != "udp" or not callers:
        below += [_split_lines(it) for it in splits if it["port"] == port["number"]]
    for index, lines in enumerate(below):
        last = index == len(below) - 1
        for number, line in enumerate(lines):
            sign = _branch(last) if number == 0 else _indent(last)
            yield _indent(is_last) + sign + line


def _branch(is_last: bool) -> str:
    return "└─ " if is_last else "├─ "


def _indent(is_last: bool) -> str:
    return "   " if is_last else "│  "


def _allow_lines(allow: Json) -> list[str]:
    by = f"  (TrafficTarget {allow['target']})" if allow["target"] else ""
    why = f"  ({allow['why']})" if allow["why"] else ""
    return [f"from {allow['source']}{by}{why}", *(f"   {it}" for it in allow["requests"])]


def _split_lines(split: Json) -> list[str]:
    shares = ", ".join(f"{it['share']:g}% {it['service']}" for it in split["backends"])
    when = [f"   when {request}" for request in split["requests"]]
    return [f"TrafficSplit {split['split']}: {shares or 'nowhere (503)'}", *when]


# ------------------------------------------------------------------ nodes and edges


def _edges(graph: Json) -> Iterator[tuple[str, str, str, bool]]:
    for allow in graph["allows"]:
        label = [f"{allow['port']} {allow['protocol']}", *allow["requests"]]
        label.append(allow["target"] or allow["why"])
        yield (
            f"caller {allow['source']}",
            f"service {allow['service']}",
            "\n".join(label),
            False,
        )
    for split in graph["splits"]:
        for backend in split["backends"]:
            label = [
                f"{backend['share']:g}% of {split['port']}",
                *split["requests"],
                split["split"],
            ]
            yield (
                f"service {split['service']}",
                f"service {backend['service']}",
                "\n".join(label),
                True,
            )


def _numbered(graph: Json) -> dict[str, str]:
    """Names that both languages take as they are."""
    found: Iterable[str] = (f"service {node['service']}" for node in graph["services"])
    ends = (end for edge in _edges(graph) for end in edge[:2])
    return {name: f"n{index}" for index, name in enumerate(dict.fromkeys([*found, *ends]))}


def _dot(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _mermaid(text: str) -> str:
    """Quoted, with what Mermaid or a browser would read as its own written as entities."""
    for sign, entity in _ENTITIES:
        text = text.replace(sign, entity)
    return '"' + text.replace("\n", "<br/>") + '"'
