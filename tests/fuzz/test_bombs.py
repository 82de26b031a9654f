"""Inputs that were made to hurt: none crashes a parser, takes its time, or fills the memory."""

import time
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from smi_xds.problems import Problem
from smi_xds.sources.reading import MAX_SIZE, read_file
from tests.fuzz.targets import TARGETS

# The processor's time, which others on the machine do not use up. A second for what is small;
# what is large may take longer, in proportion: the largest file is 8 MiB.
SECONDS = 1.0
SECONDS_PER_MIB = 6.0
# What is built of an input is some 100 times as large as its densest text, such as `[[[[`.
BYTES = 40 * 2**20
TIMES = 100

MIB = 2**20
POD = b'"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","namespace":"b"}'


def _split(weight: bytes) -> bytes:
    return (
        b"apiVersion: split.smi-spec.io/v1alpha4\nkind: TrafficSplit\n"
        b"metadata: {name: a, namespace: b}\n"
        b"spec: {service: a, backends: [{service: b, weight: " + weight + b"}]}\n"
    )


def _routes(regex: bytes) -> bytes:
    return (
        b"apiVersion: specs.smi-spec.io/v1alpha4\nkind: HTTPRouteGroup\n"
        b"metadata: {name: a, namespace: b}\n"
        b"spec: {matches: [{name: m, pathRegex: '" + regex + b"'}]}\n"
    )


def _laughs(levels: int, width: int) -> bytes:
    lines = [b"l0: &l0 [lol]"]
    for level in range(1, levels):
        items = b",".join([b"*l%d" % (level - 1)] * width)
        lines.append(b"l%d: &l%d [%s]" % (level, level, items))
    return b"\n".join(lines)


BOMBS: Mapping[str, Callable[[], bytes]] = {
    "a billion laughs": lambda: _laughs(12, 10),
    "merged laughs": lambda: b"a: &a {x: 1}\n" + b"b: {<<: [" + b"*a," * 50_000 + b"]}\n",
    "deep lists": lambda: b"[" * 200_000,
    "deep maps": lambda: b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
    "deep in an object": lambda: b"{" + POD + b',"spec":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep blocks": lambda: b"\n".join(b" " * n + b"a:" for n in range(2_000)),
    "deep flow keys": lambda: b"? " * 20_000,
    "many documents": lambda: b"1 " * 200_000,
    "a list of many": lambda: (
        b'{"apiVersion":"v1","kind":"List","items":[' + b"1," * 400_000 + b"1]}"
    ),
    "many yaml documents": lambda: b"---\na\n" * 50_000,
    "many keys, one twice": lambda: (
        b"{" + b",".join(b'"%d":1' % n for n in range(100_000)) + b',"99999":1}'
    ),
    "many anchors": lambda: b"".join(b"- &a%d x\n" % n for n in range(50_000)),
    "a long key": lambda: b"a" * MIB + b": 1\n",
    "a long word": lambda: b"x" * MIB,
    "many colons": lambda: b":" * MIB,
    "many quotes": lambda: b'"' * MIB,
    "many percents": lambda: b"%2e" * 100_000,
    "many dots": lambda: b"/.." * 100_000 + b"%2f;" * 10_000,
    "many slashes": lambda: b"/" * 300_000,
    "huge number": lambda: b"1" * 5_000,
    "huge exponent": lambda: b"1e999999999",
    "huge port": lambda: b"shop/web:" + b"8" * 5_000,
    "huge weight": lambda: _split(b"9" * 10_000),
    "weight with a huge exponent": lambda: _split(b"1e999999999"),
    "weight that is no number": lambda: _split(b".nan"),
    "endless weight": lambda: _split(b".inf"),
    "nan": lambda: b'{"a": NaN, "b": -Infinity}',
    "controls": lambda: bytes(range(32)) * 10,
    "null in a name": lambda: b"{" + POD.replace(b'"a"', b'"a\\u0000b"') + b"}",
    "half a pair": lambda: b"{" + POD.replace(b'"a"', b'"\\ud800"') + b"}",
    "no utf-8": lambda: b"\xff\xfe\xc0\x80\xed\xa0\x80" * 100,
    "byte order marks": lambda: b"\xef\xbb\xbf" * 1_000,
    "a regex that repeats repeats": lambda: _routes(b"((((a{100}){100}){100}){100}){100}"),
    "a regex that backtracks": lambda: _routes(b"(a*)*" * 200 + b"b"),
    "a regex of alternatives": lambda: _routes(b"|".join([b"a{0,900}"] * 1_000)),
    "a deep regex": lambda: _routes(b"(" * 5_000 + b")" * 5_000),
    "a regex of classes": lambda: _routes(rb"[\pL\pN]" * 10_000),
    "binary": lambda: b"\x0a\xff\xff\xff\xff\x0f" * 1_000,
    "deep groups": lambda: b"\x0b" * 100_000,
    "deep messages": lambda: b"".join(b"\x12\x80\x80\x40" for _ in range(10_000)),
    "a chain of nothing": lambda: b"-----BEGIN CERTIFICATE-----\nAAAA\n" * 10_000,
    "a certificate without an end": lambda: b"-----BEGIN CERTIFICATE-----\n" + b"A" * MIB,
    "2 MiB of lists": lambda: b"- []\n" * (2 * MIB // 5),
    "2 MiB of spaces": lambda: b" " * (2 * MIB),
}
# Whoever hands these on reads no more than the limit of its port or file, which is larger for
# some: the rest would cost time in proportion.
LIMITS: Mapping[str, int] = {"token": 8 * 1024, "words": 64 * 1024, "api server": MIB // 4}


@pytest.mark.parametrize("target", list(TARGETS))
def test_bombs_do_not_go_off(target: str) -> None:
    """An answer or a refusal of our own, soon."""
    for name, make in BOMBS.items():
        bomb = make()[: LIMITS.get(target, MIB)]
        began = time.thread_time()
        TARGETS[target](bomb)
        seconds = time.thread_time() - began
        assert seconds < SECONDS + SECONDS_PER_MIB * len(bomb) / MIB, f"{name}: {seconds:.1f} s"


@pytest.mark.parametrize("name", ["a billion laughs", "deep lists", "deep maps"])
@pytest.mark.parametrize("target", ["yaml", "json", "webhooks", "api server"])
def test_bombs_fill_no_memory(target: str, name: str) -> None:
    """What they stand for is never built."""
    bomb = BOMBS[name]()
    tracemalloc.start()
    try:
        TARGETS[target](bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < BYTES + TIMES * min(len(bomb), MIB)


@pytest.mark.parametrize("suffix", ["yaml", "json"])
def test_a_file_of_100_mb_is_not_read(tmp_path: Path, suffix: str) -> None:
    """No more of it than the limit."""
    path = tmp_path / f"large.{suffix}"
    with path.open("wb") as file:
        file.truncate(100_000_000)
    tracemalloc.start()
    try:
        found = read_file(path, label=path.name)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert isinstance(found, Problem)
    assert "larger than 8 MiB" in found.message
    assert peak < 3 * MAX_SIZE
