"""Ends the connections of a loop that is about to end, as a process that ends would."""

import asyncio
import gc


async def end_connections() -> None:
    """Over TLS, closing politely waits for the peer, and pytest tells of what is left of it."""
    loop = asyncio.get_running_loop()
    for found in gc.get_objects():
        # By type: some proxies pretend to be of another class, and do much to find out of which.
        if issubclass(type(found), asyncio.Transport) and getattr(found, "_loop", None) is loop:
            found.abort()
    for _ in range(3):  # aborted transports are lost in the next turns
        await asyncio.sleep(0)
