"""A DNS server that knows a handful of names, and a client for it; both in plain Python.

python dns.py serve 127.1.9.103 5353
python dns.py ask shop.example 127.1.9.1 PORT
"""

import ipaddress
import secrets
import socket
import struct
import sys

NAMES = {"shop.example": "192.0.2.10", "pay.example": "192.0.2.20"}

# RFC 1035, section 4.1.1: this is an answer, from one who knows; NXDOMAIN is code 3.
_ANSWER, _UNKNOWN = 0x8400, 0x8403
_A, _IN = 1, 1


def question(name: str, number: int) -> bytes:
    """A query for the address of a name."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    header = struct.pack("!6H", number, 0x0100, 1, 0, 0, 0)
    return header + labels + b"\0" + struct.pack("!2H", _A, _IN)


def answer(query: bytes) -> bytes:
    """What the server says to a query."""
    number, asked = query[:2], query[12:]
    labels, at = [], 0
    while length := asked[at]:
        labels.append(asked[at + 1 : at + 1 + length].decode())
        at += 1 + length
    asked, address = asked[: at + 5], NAMES.get(".".join(labels))
    if address is None:
        return number + struct.pack("!5H", _UNKNOWN, 1, 0, 0, 0) + asked
    # The name is the one at offset 12 (section 4.1.4), and holds for a minute.
    record = struct.pack("!3HIH", 0xC00C, _A, _IN, 60, 4) + ipaddress.ip_address(address).packed
    return number + struct.pack("!5H", _ANSWER, 1, 1, 0, 0) + asked + record


def serve(address: str, port: int) -> None:
    """Answer until interrupted."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
        here.bind((address, port))
        while True:
            query, sender = here.recvfrom(512)
            here.sendto(answer(query), sender)


def ask(name: str, address: str, port: int) -> str:
    """The address of a name, or why there is none."""
    number = secrets.randbits(16)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
        here.settimeout(2)
        here.connect((address, port))
        here.send(question(name, number))
        try:
            reply = here.recv(512)
        except (TimeoutError, ConnectionError):
            return "no answer"
    if reply[:2] != struct.pack("!H", number):
        return "an answer to something else"
    return str(ipaddress.ip_address(reply[-4:])) if reply[7] else "no such name"


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], int(sys.argv[3]))
    else:
        sys.stdout.write(ask(sys.argv[2], sys.argv[3], int(sys.argv[4])) + "\n")
