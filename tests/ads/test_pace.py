"""How fast a client may ask."""

from smi_xds.ads.pace import Pace


def test_a_burst_is_read_at_once_and_what_follows_waits() -> None:
    """Three at once, then one a tenth of a second."""
    pace = Pace(rate=10, burst=3)

    waits = [round(pace.wait(0.0, 10), 6) for _ in range(5)]

    assert waits == [0, 0, 0, 0.1, 0.2]


def test_who_was_quiet_has_a_burst_again() -> None:
    """And no more than that, however long it was quiet."""
    pace = Pace(rate=10, burst=2)
    for _ in range(2):
        pace.wait(0.0, 10)

    waits = [round(pace.wait(100.0, 10), 6) for _ in range(3)]

    assert waits == [0, 0, 0.1]


def test_a_large_request_counts_as_several() -> None:
    """32 MB of names cost what a thousand small requests do."""
    pace = Pace(rate=10, burst=2)

    assert round(pace.wait(0.0, 4096 * 3), 6) == 0.2


def test_what_was_asked_for_counts_by_its_size() -> None:
    """Much of it as several requests, and a little as next to nothing."""
    pace = Pace(rate=10, burst=2)
    pace.owe(0.0, 4096)
    pace.owe(0.0, 2048)

    assert [round(pace.wait(0.0, 10), 6) for _ in range(2)] == [0.05, 0.15]
