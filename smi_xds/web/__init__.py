"""The HTTP edge: `server` speaks aiohttp, everything else is functions of data."""
