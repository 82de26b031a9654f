"""Rewrites the CRDs in deploy/: `make crds`."""

from pathlib import Path

from smi_xds.crds import Conversion
from smi_xds.crds.manifests import manifests

DEPLOY = Path(__file__).parent
FOLDERS = {
    DEPLOY / "crds": (
        Conversion.NONE,
        "# kubectl apply -k deploy/crds\n"
        "# Needs nothing else in the cluster, and serves the newest versions only.\n",
    ),
    DEPLOY / "kubernetes" / "crds": (
        Conversion.WEBHOOK,
        "# Every version of every kind; the API server asks smi-xds to convert between them.\n",
    ),
}


def main() -> None:
    """Write every folder anew; what is no longer generated goes."""
    for folder, (conversion, comment) in FOLDERS.items():
        folder.mkdir(parents=True, exist_ok=True)
        files = manifests(conversion, comment=comment)
        for old in folder.glob("*.yaml"):
            if old.name not in files:
                old.unlink()
        for name, text in files.items():
            (folder / name).write_text(text)


if __name__ == "__main__":
    main()
