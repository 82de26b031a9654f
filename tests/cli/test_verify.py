"""`smi-xds verify`: what its exit code says. Its findings: `tests/install/test_verify.py`."""

import pytest

from smi_xds.cli import verify
from smi_xds.install.findings import Finding, failed, unknown, warned, well
from tests.support.cli import run_cli


@pytest.mark.parametrize(
    "found, code, last",
    [
        ([well("leader", "renews")], 0, "all is well"),
        ([well("leader", "renews"), warned("CRD a", "old", cure="Mend.")], 0, "1 of 2 need a look"),
        ([failed("leader", "nobody", cure="Mend.")], 1, "1 of 1 need a look"),
        ([unknown("leader", "nobody", cure="Ask.")], 1, "1 of 1 need a look"),
    ],
)
def test_a_warning_is_no_failure(
    found: list[Finding],
    code: int,
    last: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is printed with its cure, and what waits for an installation goes on."""

    async def verified(_: object) -> list[Finding]:
        return found

    monkeypatch.setattr(verify, "_verify", verified)
    assert run_cli("verify") == code
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == last
    assert [it.cure for it in found if it.cure] == [line.strip() for line in lines if "." in line]
