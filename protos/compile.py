"""Compiles `protos/` into `smi_xds/_proto` (`make protos`): classes of betterproto2, and the
descriptors that server reflection hands out.

Messages only: betterproto2's clients and servers are for grpclib, ours is grpcio.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

PROTOS = Path(__file__).resolve().parent
TARGET = PROTOS.parent / "smi_xds" / "_proto"
DESCRIPTORS = "descriptors.binpb"


def compile_into(folder: Path) -> None:
    """Write everything that is generated into an empty folder."""
    files = sorted(str(file.relative_to(PROTOS)) for file in PROTOS.rglob("*.proto"))
    command = [
        *(sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={PROTOS}"),
        f"--python_betterproto2_out={folder}",
        "--python_betterproto2_opt=client_generation=none",
        f"--descriptor_set_out={folder / DESCRIPTORS}",
        *files,
    ]
    # protoc looks for its plugin, and that for ruff, on PATH. The plugin omits an `__init__.py`
    # that it finds in the folder it runs in; ruff takes its settings from there.
    scripts = str(Path(sys.executable).parent)
    environ = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ.get('PATH', '')}"}
    subprocess.run(command, check=True, env=environ, cwd=PROTOS, stderr=subprocess.PIPE)


def main() -> None:
    """Replace what was generated before."""
    shutil.rmtree(TARGET, ignore_errors=True)
    TARGET.mkdir()
    compile_into(TARGET)


if __name__ == "__main__":
    main()
