"""Snapshots: copies that know what makes them differ."""

from smi_xds.objects.snapshot import Snapshot


def test_a_copy_tells_what_was_written_to_it() -> None:
    """The one that it was copied from stays as it was."""
    first: Snapshot[str, int] = Snapshot()
    first.write("a", 1)
    first.write("b", 2)
    second = Snapshot(first)
    second.write("a", None)
    second.write("c", 3)
    assert (first, second) == ({"a": 1, "b": 2}, {"b": 2, "c": 3})
    assert second.changed == {"a", "c"}


def test_it_follows_the_one_that_it_was_copied_from_alone() -> None:
    """Who missed one, or holds something else, has to compare."""
    first: Snapshot[str, int] = Snapshot()
    second = Snapshot(first)
    third = Snapshot(second)
    assert second.follows(first)
    assert not third.follows(first)
    assert not first.follows(first)
    assert not second.follows({})


def test_a_chain_of_copies_keeps_none_of_them() -> None:
    """A control plane makes millions of them."""
    first: Snapshot[str, int] = Snapshot()
    second = Snapshot(first)
    assert not any(value is first for value in (second.mark, second._before, second.changed))


def test_what_comes_and_goes_adds_up_to_nothing() -> None:
    """Whether somebody copies it or not: pods come and go for as long as a server runs."""
    first: Snapshot[int, int] = Snapshot()
    first.write(-1, 0)
    second = Snapshot(first)
    assert second.follows(first)
    for each in (first, second):
        for number in range(1000):
            each.write(number, 1)
            each.write(number, None)
        assert len(each.changed) <= 102

    assert not second.follows(first), "who has the first one has to compare"
    third = Snapshot(second)
    third.write(5, 1)
    assert third.follows(second)
    assert third.changed == {5}
