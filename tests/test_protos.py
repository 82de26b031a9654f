"""What is generated from `protos/` is what is committed."""

from pathlib import Path

from protos.compile import PROTOS, TARGET, compile_into


def contents(folder: Path) -> dict[str, bytes]:
    """The files below a folder, but what Python and editors leave there."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }


def test_generating_anew_changes_nothing(tmp_path: Path) -> None:
    """Whoever changes a proto runs `make protos`."""
    compile_into(tmp_path)

    generated = contents(tmp_path)
    assert generated == contents(TARGET)
    for proto in PROTOS.rglob("*.proto"):
        assert f"{proto.parent.relative_to(PROTOS)}/__init__.py" in generated
