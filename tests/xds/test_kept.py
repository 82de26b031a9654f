"""Encoded parts that are likely to be needed again."""

from smi_xds.xds.kept import _EACH, Kept


def never() -> bytes:
    raise AssertionError("it is kept")


def test_a_part_is_made_once() -> None:
    """As long as it is used."""
    kept = Kept(size=3 * _EACH)
    assert kept.get("a", lambda: b"a") == b"a"
    assert kept.get("a", never) == b"a"
    for key in "bcdefg":
        kept.get(key, key.encode)
        assert kept.get("a", never) == b"a"


def test_what_is_not_used_is_forgotten() -> None:
    """By size: large ones take the place of many."""
    kept = Kept(size=10 * _EACH)
    kept.get("a", lambda: b"a")
    for key in ("b", "c"):
        kept.get(key, lambda: bytes(10 * _EACH))
    assert kept.get("c", never) == bytes(10 * _EACH)
    assert kept.get("a", lambda: b"another") == b"another"


def test_it_does_not_grow() -> None:
    """Whatever is put into it, at most one that is larger than its size counts beside the rest."""
    kept = Kept(size=10 * _EACH)
    for number in range(100):
        kept.get(number, lambda: bytes(_EACH))
    assert len(kept._new) + len(kept._old) <= 10
