"""`--files`: folders of objects, watched, or read once.

A change becomes one complete new set, so that objects which belong together change together.
"""

import asyncio
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from smi_xds.objects.store import Origin, Replaced, Sink, Store, Synced
from smi_xds.objects.views import Objects
from smi_xds.sources.folder import Contents, Folder
from smi_xds.sources.watcher import Watcher

FILES = "files"
"""The name of this source, of which there is one for all folders."""

# Seconds. What inotify cannot see is found by looking.
LOOK_EVERY = 1.0


def read_folders(roots: Iterable[Path]) -> Objects:
    """The picture that `serve` would have of some folders; SourceError where one is not there."""
    store = Store([FILES])
    store.apply(Origin(FILES), _replaced(Folder(roots).load()))
    return store.objects()


class FilesSource:
    """Folders, as a source of the store."""

    name = FILES

    def __init__(self, roots: Iterable[Path]) -> None:
        self._folder = Folder(roots)

    async def open(self) -> None:
        """Read everything for the first time; SourceError where a folder is not there."""
        self._first = await asyncio.to_thread(self._folder.load)

    async def run(self, sink: Sink) -> NoReturn:
        """Say what the folders hold, and again whenever that changes."""
        watcher = Watcher(self._folder.roots)
        try:
            sink.apply(Origin(FILES), [_replaced(self._first), Synced()])
            while True:
                contents = await asyncio.to_thread(self._step, watcher)
                if contents is not None:
                    sink.apply(Origin(FILES), [_replaced(contents)])
        finally:
            watcher.stop()

    def _step(self, watcher: Watcher) -> Contents | None:
        """Wait and look, in a thread: a folder may be on a slow disk."""
        until = self._folder.look_again
        left = LOOK_EVERY if until is None else min(LOOK_EVERY, until - time.monotonic())
        touched = frozenset() if watcher.watch() else watcher.wait(max(left, 0.0))
        return self._folder.scan(now=time.monotonic(), touched=touched)


def _replaced(contents: Contents) -> Replaced:
    return Replaced(contents.objects, contents.problems)
