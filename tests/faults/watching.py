"""What tests of faults read off a server: its counts, its memory, when the last ACK came."""

import asyncio
import sys
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.plane import ControlPlane

_PAGE = 4096


_BEGAN = time.monotonic()


def tell(what: str) -> None:
    """Say what was measured; pytest shows it with -s, and where a test fails."""
    sys.stdout.write(f"\n{time.monotonic() - _BEGAN:7.1f} s  {what}\n")
    sys.stdout.flush()


async def metric(plane: ControlPlane, name: str) -> Mapping[str, float]:
    """The samples of one metric, by what stands between its braces."""
    address = (await plane.logged("serving"))["monitoring_address"]
    text = await asyncio.to_thread(_read, f"http://{address}/metrics")
    found = {}
    for line in text.splitlines():
        sample, _, value = line.rpartition(" ")
        known, _, labels = sample.partition("{")
        if known == name:
            found[labels.rstrip("}")] = float(value)
    return found


def _read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return str(answer.read().decode())


@dataclass(frozen=True, slots=True)
class Sent:
    """What was sent of one type of resources."""

    responses: int
    bytes: int


async def sent(plane: ControlPlane) -> Mapping[str, Sent]:
    """What was sent so far, by the last word of the type."""
    responses = await metric(plane, "smi_xds_pushes_total")
    size = await metric(plane, "smi_xds_config_bytes_sum")
    return {
        label.partition('"')[2].rstrip('"'): Sent(int(value), int(size[label]))
        for label, value in responses.items()
    }


def memory_mb(pid: int) -> float:
    """What a process holds in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE / 1e6
