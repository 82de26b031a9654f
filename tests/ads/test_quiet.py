"""How often the log says the same."""

from smi_xds.ads.quiet import Quiet


def test_a_burst_is_told_and_what_follows_is_counted() -> None:
    """Three at once, then one a tenth of a second."""
    quiet = Quiet(rate=10, burst=3)

    assert [quiet.lets(0.0) for _ in range(5)] == [True, True, True, False, False]
    assert quiet.lets(0.1)
    assert quiet.told() == 2
    assert quiet.told() == 0
    assert not quiet.lets(0.1)


def test_after_a_while_a_burst_is_told_again() -> None:
    """And no more than one."""
    quiet = Quiet(rate=10, burst=2)
    assert [quiet.lets(0.0) for _ in range(3)] == [True, True, False]
    assert [quiet.lets(60.0) for _ in range(3)] == [True, True, False]
