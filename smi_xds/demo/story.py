"""The bookstore story: its files, who takes part, and its steps as edits of those files.

The files in `story/` are what a user would write. The demo works on a copy of them, under
loopback addresses of its own, and edits that copy as a user would.
"""

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeAlias

from smi_xds.demo.addresses import STORY_PREFIX
from smi_xds.demo.apps import BETA_HEADER, BETA_SUFFIX, BETA_VALUE, Call, Spec
from smi_xds.problems import SourceError
from smi_xds.values import ProxyId

SPLIT: Final = "split.yaml"
ACCESS: Final = "access.yaml"

BUYER: Final = "bookbuyer"
THIEF: Final = "bookthief"
BETA_BUYER: Final = BUYER + BETA_SUFFIX
STORE_V1: Final = "bookstore-v1"
STORE_V2: Final = "bookstore-v2"
WAREHOUSE: Final = "bookwarehouse"

PORT: Final = 14001  # the well-known port of the bookstore story

_BUY = Call(service="bookstore", host="bookstore.bookstore", method="POST", path="/buy-a-book")
_STEAL = Call(service="bookstore", host="bookstore.bookstore", method="GET", path="/steal-a-book")
_RESTOCK = Call(
    service=WAREHOUSE, host="bookwarehouse.bookwarehouse", method="POST", path="/restock"
)

Edit: TypeAlias = Callable[[str], str]
"""What a user does to a file: its text before, its text after."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """An application of the story, and the last number of its two addresses."""

    proxy: ProxyId
    number: int
    serves: bool = False
    call: Call | None = None
    connections: int = 0
    calling_paths: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The application's name is its pod's."""
        return self.proxy.name

    def spec(self, prefix: str) -> Spec:
        """The application, at its address in this block."""
        return Spec(
            name=self.name,
            address=f"{prefix}.{100 + self.number}",
            sidecar=f"{prefix}.{self.number}",
            port=PORT if self.serves else 0,
            call=self.call,
            connections=self.connections,
            calling_paths=self.calling_paths,
        )


def _store(name: str, number: int) -> Member:
    return Member(
        proxy=ProxyId("bookstore", name),
        number=number,
        serves=True,
        call=_RESTOCK,
        calling_paths=(_BUY.path,),
    )


MEMBERS: Final = (
    Member(proxy=ProxyId(BUYER, BUYER), number=11, call=_BUY, connections=8),
    Member(proxy=ProxyId(THIEF, THIEF), number=12, call=_STEAL, connections=4),
    _store(STORE_V1, 13),
    _store(STORE_V2, 14),
    Member(proxy=ProxyId(WAREHOUSE, WAREHOUSE), number=15, serves=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step: what is done to which file, and what must be seen from then on.

    `shares` are the weights by which a source's requests must be spread; `thief` is the only
    status code that the thief may see. Every second request of `beta_readers` says so.
    """

    name: str
    change: str
    file: str
    edit: Edit
    shares: Mapping[str, Mapping[str, int]]
    thief: str
    beta_readers: tuple[str, ...] = ()


def _weights(v1: int, v2: int) -> Edit:
    def edit(text: str) -> str:
        for service, weight in ((STORE_V1, v1), (STORE_V2, v2)):
            line = rf"(- service: {service}\n +weight: )\d+"
            text = re.sub(line, rf"\g<1>{weight}", text, count=1)
        return text

    return edit


def _block(mark: str, change_line: Callable[[str], str]) -> Edit:
    def edit(text: str) -> str:
        before, begin, rest = text.partition(f"# BEGIN {mark}\n")
        block, end, after = rest.partition(f"# END {mark}\n")
        lines = "".join(change_line(line) for line in block.splitlines(keepends=True))
        return before + begin + lines + end + after

    return edit


def _uncomment(mark: str) -> Edit:
    return _block(mark, lambda line: line.removeprefix("# "))


def _comment_out(mark: str) -> Edit:
    return _block(mark, lambda line: line if line.startswith("# ") else f"# {line}")


def _begin_beta(text: str) -> str:
    return _uncomment("beta")(_weights(100, 0)(text))


def _canary(name: str, v1: int, v2: int) -> Step:
    return Step(
        name=name,
        change=f"{SPLIT}: weight {v1} for {STORE_V1}, {v2} for {STORE_V2}",
        file=SPLIT,
        edit=_weights(v1, v2),
        shares={BUYER: {STORE_V1: v1, STORE_V2: v2}},
        thief="403",
    )


_ALL_V2: Final[Mapping[str, Mapping[str, int]]] = MappingProxyType(
    {BUYER: {STORE_V1: 0, STORE_V2: 100}}
)

STEPS: Final = (
    Step(
        name="v1 only",
        change=f"{SPLIT}: a new TrafficSplit sends everything to {STORE_V1}",
        file=SPLIT,
        edit=lambda _: packaged(SPLIT),
        shares={BUYER: {STORE_V1: 100, STORE_V2: 0}},
        thief="403",
    ),
    _canary("canary", 90, 10),
    _canary("half and half", 50, 50),
    _canary("v2 only", 0, 100),
    Step(
        name="the thief is allowed",
        change=f"{ACCESS}: a new TrafficTarget names {THIEF} as a source",
        file=ACCESS,
        edit=_uncomment("thief"),
        shares={**_ALL_V2, THIEF: {STORE_V1: 0, STORE_V2: 100}},
        thief="200",
    ),
    Step(
        name="the thief is denied",
        change=f"{ACCESS}: that TrafficTarget is gone again",
        file=ACCESS,
        edit=_comment_out("thief"),
        shares=_ALL_V2,
        thief="403",
    ),
    Step(
        name="A/B by header",
        change=(
            f"{SPLIT}: {BETA_HEADER}: {BETA_VALUE} goes to {STORE_V2}, everything else to "
            f"{STORE_V1}; every second request of {BUYER} says so now"
        ),
        file=SPLIT,
        edit=_begin_beta,
        shares={BUYER: {STORE_V1: 100, STORE_V2: 0}, BETA_BUYER: {STORE_V1: 0, STORE_V2: 100}},
        thief="403",
        beta_readers=(BUYER,),
    ),
)


def packaged(name: str) -> str:
    """A file of the story, as it is packaged."""
    return (resources.files("smi_xds.demo") / "story" / name).read_text(encoding="utf-8")


def _packaged_names() -> list[str]:
    folder = resources.files("smi_xds.demo") / "story"
    return sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".yaml"))


@dataclass(frozen=True, slots=True)
class WorkFolder:
    """The copy that the demo edits; its addresses are in the block of this run."""

    path: Path
    prefix: str
    """The first three numbers of the block."""

    def fill(self) -> None:
        """Write the story as it begins: without a TrafficSplit."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            occupied = any(self.path.iterdir())
        except OSError as error:
            raise SourceError(f"{self.path} cannot be used: {error.strerror}") from error
        if occupied:
            raise SourceError(f"{self.path} is not empty: give --dir a new folder")
        for name in _packaged_names():
            if name != SPLIT:
                self._write(name, self._moved(packaged(name)))

    def edit(self, name: str, edit: Edit) -> str:
        """Change a file as a user would; return the lines that changed."""
        path = self.path / name
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        after = self._moved(edit(before))
        self._write(name, after)
        return changed_lines(before, after)

    def _moved(self, text: str) -> str:
        return text.replace(f"{STORY_PREFIX}.", f"{self.prefix}.")

    def _write(self, name: str, text: str) -> None:
        # In one go, as editors do: nobody reads a file that is half written.
        draft = self.path / f".{name}.new"
        draft.write_text(text, encoding="utf-8")
        draft.replace(self.path / name)


def changed_lines(before: str, after: str) -> str:
    """The lines that went (`-`) and came (`+`); comments and the lines around them left out."""
    diff = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    lines = list(diff)[2:]
    return "\n".join(line for line in lines if line[:2] not in {"@@", "-#", "+#"})
