"""The other end of network benchmarks, in a process of its own: `far_end udp|tcp ADDRESS PORT`.

UDP: a datagram that begins with `E` comes back, one with `S` is counted, `Q` asks for the count.
TCP: says `ready`, echoes what begins with `E`, swallows what begins with `S`.
"""

import asyncio
import socket
import sys

READY = b"ready\n"
_BUFFER = 4 << 20


def serve_udp(address: str, port: int) -> None:
    """Answer until killed."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
        here.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        here.bind((address, port))
        counted = 0
        while True:
            data, sender = here.recvfrom(65_536)
            if data[:1] == b"S":
                counted += 1
            elif data[:1] == b"Q":
                here.sendto(b"%d" % counted, sender)
                counted = 0
            else:
                here.sendto(data, sender)


class _Converse(asyncio.Protocol):
    def __init__(self) -> None:
        self._echoes: bool | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(READY)

    def data_received(self, data: bytes) -> None:
        if self._echoes is None:
            self._echoes = data[:1] == b"E"
        if self._echoes:
            self._transport.write(data)


async def serve_tcp(address: str, port: int) -> None:
    """Converse until killed."""
    server = await asyncio.get_running_loop().create_server(_Converse, address, port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    if sys.argv[1] == "udp":
        serve_udp(sys.argv[2], int(sys.argv[3]))
    else:
        asyncio.run(serve_tcp(sys.argv[2], int(sys.argv[3])))
