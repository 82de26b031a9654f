"""A gRPC client that finds its servers by xDS, driven over standard input.

Each line is a JSON order, each answer a JSON line: who answered how many calls, and with which
status codes (numbers) the others failed. `go/main.go` is the same on grpc-go.
"""

import json
import sys
from collections import Counter
from typing import Any, TypedDict

import grpc
from grpc import experimental


class Order(TypedDict):
    """What to call, how often, and how long to wait for each call."""

    target: str
    method: str
    count: int
    timeout: float
    metadata: dict[str, str]


def main() -> None:
    """Obey until the input ends."""
    untyped: Any = experimental
    credentials: Any = untyped.insecure_channel_credentials()
    if sys.argv[1:] == ["xds"]:
        credentials = grpc.xds_channel_credentials(credentials)
    channels: dict[str, grpc.Channel] = {}
    for line in sys.stdin:
        order: Order = json.loads(line)
        target = order["target"]
        if target not in channels:
            channels[target] = grpc.secure_channel(target, credentials)
        sys.stdout.write(json.dumps(_call(channels[target], order)) + "\n")
        sys.stdout.flush()


def _call(channel: grpc.Channel, order: Order) -> dict[str, object]:
    served: Counter[str] = Counter()
    failed: Counter[int] = Counter()
    detail = ""
    call: Any = channel.unary_unary(order["method"])
    metadata = tuple(order["metadata"].items())
    for _ in range(order["count"]):
        try:
            reply: bytes = call(b"", timeout=order["timeout"], metadata=metadata)
            served[reply.decode()] += 1
        except grpc.RpcError as error:
            code: Any = error.code()
            failed[code.value[0]] += 1
            detail = str(error.details())
    return {"served": served, "failed": failed, "detail": detail}


if __name__ == "__main__":
    main()
