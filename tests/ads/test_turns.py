"""Turns: so many at a time, few of each host."""

import asyncio

from smi_xds.ads.turns import Turns
from tests.support.wait import eventually_async


class Hall:
    """Those who wait, and those whose turn it is."""

    def __init__(self, turns: Turns) -> None:
        self.served: list[str] = []
        self.inside: list[str] = []
        self._turns = turns
        self._go = asyncio.Semaphore(0)

    async def ask(self, host: str) -> None:
        async with self._turns.of(host):
            self.inside.append(host)
            self.served.append(host)
            await self._go.acquire()
            self.inside.remove(host)

    def leave(self) -> None:
        """One of those inside may go."""
        self._go.release()


async def holds(hall: Hall, *hosts: str) -> bool:
    return await eventually_async(lambda: _is(hall, hosts))


async def _is(hall: Hall, hosts: tuple[str, ...]) -> bool:
    return sorted(hall.inside) == sorted(hosts)


async def test_a_host_has_no_more_than_its_share() -> None:
    """The others are served at once, however many of it wait; then they take turns."""
    turns = Turns(3, of_one_host=2)
    hall = Hall(turns)
    async with asyncio.TaskGroup() as tasks:
        for host in ("a", "a", "a", "a", "a", "b", "c"):
            tasks.create_task(hall.ask(host))
        assert await holds(hall, "a", "a", "b")
        for _ in range(7):
            hall.leave()

    assert hall.served[:5] == ["a", "a", "b", "c", "a"]
    assert turns._lanes == {}


async def test_who_gives_up_leaves_his_place() -> None:
    """To those who come after."""
    turns = Turns(1, of_one_host=1)
    hall = Hall(turns)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(hall.ask("a"))
        assert await holds(hall, "a")
        impatient = [tasks.create_task(hall.ask(host)) for host in ("a", "b")]
        tasks.create_task(hall.ask("c"))
        await asyncio.sleep(0)
        for task in impatient:
            task.cancel()
        hall.leave()
        assert await holds(hall, "c")
        hall.leave()

    assert turns._lanes == {}
