"""The pure rooms, which tests must cover wholly, and how their coverage is measured."""

from pathlib import Path

import coverage

FOLDER = "SMI_XDS_COVERAGE"
"""The environment variable with the folder that data files go to."""

ROOT = Path(__file__).parents[2]

# The pure rooms: no I/O, so nothing excuses a line or a branch that no test runs.
GATED = (
    "smi_xds/values.py",
    "smi_xds/problems.py",
    "smi_xds/objects",
    "smi_xds/mesh",
    "smi_xds/xds",
    "smi_xds/ads/session",
)


def gated_files() -> list[Path]:
    """Every module of the gated rooms."""
    rooms = [ROOT / room for room in GATED]
    return sorted(
        file for room in rooms for file in (room.rglob("*.py") if room.is_dir() else [room])
    )


def new_coverage(folder: str) -> coverage.Coverage:
    """Coverage of the gated rooms, kept in `folder`."""
    measured = coverage.Coverage(
        data_file=str(Path(folder) / "coverage"),
        data_suffix=True,
        config_file=str(ROOT / "pyproject.toml"),
        include=[str(file) for file in gated_files()],
    )
    # A worker may run no test of these rooms; warnings are errors.
    measured.set_option("run:disable_warnings", ["no-data-collected"])
    return measured
