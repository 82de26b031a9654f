"""The little applications of the bookstore story, each a process of its own.

Started as `python -m smi_xds.demo.apps PARENT SPEC`, where SPEC is a `Spec` in JSON. Orders come
as JSON lines on standard input and the end of it ends the application; counts go out as JSON
lines on standard output. They keep their connections open and retry nothing.
"""

import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass

from smi_xds.demo import http1
from smi_xds.demo.http1 import Connection, HttpError, Message
from smi_xds.demo.tally import RESET, EdgeKey, Tally
from smi_xds.demo.tether import tie_to_parent

SERVED_BY = "x-served-by"
"""The header in which an application that answers says its name."""

BETA_HEADER = "x-reader"
BETA_VALUE = "beta"
BETA_SUFFIX = f" ({BETA_VALUE})"
"""What is added to the name of a source whose requests say so."""

# How often counts are reported: twice for each picture of the live view.
_REPORT_EVERY = 0.25
# Timers tick in milliseconds; a caller that is late by less than this makes up for it.
_MAY_BE_LATE = 0.02
# Before connecting anew after a reset: no busy loop while a sidecar is away.
_AFTER_RESET = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What an application asks of another one, through its own sidecar."""

    service: str
    host: str
    method: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """One application: where it listens, if it does, where its sidecar is, whom it calls.

    With `connections` it calls all the time on that many; without, it calls once for each
    request to one of the `calling_paths`.
    """

    name: str
    address: str
    sidecar: str
    port: int = 0
    call: Call | None = None
    connections: int = 0
    calling_paths: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, text: str) -> "Spec":
        """Read what `to_json` wrote."""
        fields = json.loads(text)
        call = fields.pop("call")
        paths = tuple(fields.pop("calling_paths"))
        return cls(**fields, call=Call(**call) if call else None, calling_paths=paths)

    def to_json(self) -> str:
        """The specification as one argument of a command line."""
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What the demo wants now: all counts anew under this epoch, and so many requests a second."""

    epoch: int
    rate: float = 0
    beta: bool = False


class Counts:
    """What has been counted in this epoch; requests that began in an earlier one stand apart."""

    def __init__(self) -> None:
        self.epoch = 0
        self._tally = Tally()
        self._strays = Tally()
        self._opened = 0
        self._since = time.perf_counter()

    def answered(self, key: EdgeKey, code: str, *, began: float, epoch: int) -> None:
        """Count a request that has been answered, or lost."""
        tally = self._tally if epoch == self.epoch else self._strays
        tally.count(key, code, time.perf_counter() - began)

    def opened(self) -> None:
        """Count a connection that had to be opened."""
        self._opened += 1

    def turn_to(self, epoch: int) -> None:
        """Report for the last time on this epoch, and begin another."""
        self.report(final=True)
        self.epoch = epoch
        self._tally = Tally()
        self._strays = Tally()
        self._opened = 0
        self._since = time.perf_counter()

    def report(self, *, final: bool) -> None:
        """Write all counts of the epoch."""
        line = {
            "epoch": self.epoch,
            "final": final,
            "edges": self._tally.to_json(),
            "strays": self._strays.to_json(),
            "opened": self._opened,
            "seconds": time.perf_counter() - self._since,
        }
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


class Client:
    """Calls one service through the sidecar, on connections that are kept."""

    def __init__(self, spec: Spec, call: Call, counts: Counts) -> None:
        self._spec = spec
        self._call = call
        self._counts = counts
        self._idle: list[Connection] = []

    async def call(self, *, beta: bool) -> str:
        """Send one request; return the status code, or `reset`."""
        headers = {BETA_HEADER: BETA_VALUE} if beta else {}
        encoded = http1.request(
            self._call.method, self._call.path, host=self._call.host, headers=headers
        )
        source = self._spec.name + (BETA_SUFFIX if beta else "")
        epoch, began = self._counts.epoch, time.perf_counter()
        code, backend = await self._send(encoded)
        key = EdgeKey(source, self._call.service, backend)
        self._counts.answered(key, code, began=began, epoch=epoch)
        return code

    async def _send(self, encoded: bytes) -> tuple[str, str]:
        try:
            connection = await self._connection()
            answer = await connection.send(encoded)
        except HttpError:
            return RESET, ""
        if connection.is_open:
            self._idle.append(connection)
        return answer.first_line[1], answer.headers.get(SERVED_BY, "")

    async def _connection(self) -> Connection:
        while self._idle:
            # The one that was used last: in a pool that is too large the others go stale.
            connection = self._idle.pop()
            if not connection.was_closed:
                return connection
            connection.close()
        self._counts.opened()
        # A sidecar lets nobody out but its own host.
        return await Connection.open(self._spec.sidecar, 15001, source=self._spec.sidecar)


class Pace:
    """So many requests a second, over all connections of an application."""

    def __init__(self) -> None:
        self._rate = 0.0
        self._next = 0.0
        self._may_go = asyncio.Event()

    def set(self, rate: float) -> None:
        """Change the rate; 0 stops."""
        self._rate = rate
        if rate:
            self._may_go.set()
        else:
            self._may_go.clear()

    async def turn(self) -> None:
        """Wait for the next turn; who is too late does not make up for it."""
        await self._may_go.wait()
        now = time.perf_counter()
        turn = max(self._next, now - _MAY_BE_LATE)
        self._next = turn + 1 / self._rate
        if turn > now:
            await asyncio.sleep(turn - now)
            await self._may_go.wait()


class Application:
    """One application at work."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._counts = Counts()
        self._pace = Pace()
        self._beta = False
        self._client = self._new_client()

    async def run(self, orders: asyncio.StreamReader) -> None:
        """Work until the orders end."""
        async with asyncio.TaskGroup() as tasks:
            children = [tasks.create_task(self._report(), name="report")]
            if self._spec.port:
                server = await http1.serve(self._spec.address, self._spec.port, self._answer)
                children.append(tasks.create_task(server.serve_forever(), name="server"))
            children += (
                tasks.create_task(self._keep_calling(), name=f"caller-{number}")
                for number in range(self._spec.connections)
            )
            async for line in orders:
                self._obey(Orders(**json.loads(line)))
            for child in children:
                child.cancel()

    def _new_client(self) -> Client | None:
        return Client(self._spec, self._spec.call, self._counts) if self._spec.call else None

    def _obey(self, orders: Orders) -> None:
        self._counts.turn_to(orders.epoch)
        self._pace.set(orders.rate)
        self._beta = orders.beta

    async def _report(self) -> None:
        while True:
            self._counts.report(final=False)
            await asyncio.sleep(_REPORT_EVERY)

    async def _keep_calling(self) -> None:
        # A client, and so a connection, of its own: one that is opened later was not kept.
        client = self._new_client()
        assert client is not None
        every_second = False
        while True:
            await self._pace.turn()
            every_second = self._beta and not every_second
            if await client.call(beta=every_second) == RESET:
                await asyncio.sleep(_AFTER_RESET)

    async def _answer(self, asked: Message) -> bytes:
        status, body = 200, b"here you are\n"
        if self._client and asked.first_line[1] in self._spec.calling_paths:
            code = await self._client.call(beta=False)
            if code != "200":
                status, body = 502, f"no book from {self._spec.call}: {code}\n".encode()
        return http1.response(status, body, headers={SERVED_BY: self._spec.name})


async def _main(spec: Spec) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    await Application(spec).run(reader)


if __name__ == "__main__":
    import uvloop

    tie_to_parent(int(sys.argv[1]))
    uvloop.run(_main(Spec.from_json(sys.argv[2])))
