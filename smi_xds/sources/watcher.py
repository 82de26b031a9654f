"""Waits for changes below some folders: inotify where it can, else just the time.

It only makes things quick. Whoever waits here looks at all files afterwards, so an event that is
lost (a link to elsewhere, a network file system) costs a second, not the change.
"""

import os
import threading
from collections.abc import Sequence
from pathlib import Path

import structlog
from watchfiles._rust_notify import RustNotify

log = structlog.get_logger()

# Two quiet steps make an event: 3 ms after the last write, at 0.8 % of a core while idle (measured;
# 5 ms: 8.5 ms and 0.5 %). Never longer than DEBOUNCE, however long somebody writes.
STEP_MS = 2
DEBOUNCE_MS = 20

# While there is nothing to watch (a folder is away), look for it this often, in seconds.
WITHOUT_WATCH = 0.2


class Watcher:
    """One inotify instance for some folders, made anew when one of them is another one."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = {Path(os.path.abspath(root)): root for root in roots}  # noqa: PTH100 - keep links
        self._stopped = threading.Event()
        self._notify: RustNotify | None = None
        self._watched: list[tuple[int, int]] = []
        self._has_warned = False

    def stop(self) -> None:
        """End `wait` in whatever thread it is."""
        self._stopped.set()

    def watch(self) -> bool:
        """Start to watch, or start again where a folder came back; whether it just did.

        What changed before is for the caller to find.
        """
        inodes = [_inode(root) for root in self._roots]
        if self._notify is not None and inodes == self._watched:
            return False
        self._notify, self._watched = None, inodes
        if (0, 0) in inodes:
            return False
        try:
            self._notify = RustNotify(
                [str(root) for root in self._roots],
                debug=False,
                force_polling=False,
                poll_delay_ms=0,
                recursive=True,
                ignore_permission_denied=True,
            )
        except OSError as error:  # no inotify instances or watches left, mostly
            if not self._has_warned:
                log.warning("watching_by_time_only", reason=str(error))
            self._has_warned = True
        return self._notify is not None

    def wait(self, timeout: float) -> frozenset[Path]:
        """Block until something changed, or the time is over; the files that were written."""
        if self._notify is None:
            self._stopped.wait(min(timeout, WITHOUT_WATCH))
            return frozenset()
        if timeout * 1000 < STEP_MS:
            return frozenset()
        changes = self._notify.watch(DEBOUNCE_MS, STEP_MS, int(timeout * 1000), self._stopped)
        if isinstance(changes, str):  # the time is over
            return frozenset()
        return frozenset(self._as_given(Path(path)) for _, path in changes)

    def _as_given(self, path: Path) -> Path:
        for absolute, root in self._roots.items():
            if path.is_relative_to(absolute):
                return root / path.relative_to(absolute)
        return path


def _inode(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return (status.st_dev, status.st_ino)
