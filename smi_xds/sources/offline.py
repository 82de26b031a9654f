"""The objects of some folders, read once: what `check`, `translate` and `bootstrap` work on."""

from collections.abc import Sequence
from pathlib import Path

from smi_xds.objects.store import Origin, Replaced, Store
from smi_xds.objects.views import Objects
from smi_xds.sources.folder import read_folder

FILES = "files"
"""The name of the source of files."""


def read_objects(roots: Sequence[Path]) -> Objects:
    """The picture that a store gives of some folders; SourceError where one is not there."""
    contents = read_folder(roots)
    store = Store([FILES])
    store.apply(Origin(FILES), Replaced(contents.objects, contents.problems))
    return store.objects()
