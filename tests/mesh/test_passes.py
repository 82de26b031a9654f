"""Tables that recompute what changed: only that, and all of that."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smi_xds.mesh.passes import Each, Given, Graph


class Sums:
    """Sums of a number and of the one that a link names, with a count of what was computed."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.graph = Graph()
        self.numbers: Given[str, int] = self.graph.given()
        self.links: Given[str, str] = self.graph.given()
        self.sums: Each[str, int] = self.graph.each(self.numbers, self._sum)
        self.parities = self.graph.groups(self.sums, lambda it: ("odd",) if it % 2 else ("even",))
        self.largest: Each[str, str] = self.graph.each(self.parities, self._largest)
        self.total = self.graph.whole(lambda: sum(self.sums.mapping().values()))
        self.late: Each[str, int] = self.graph.each(
            self.sums, lambda key: self.sums[key] if self.sums[key] > 5 else None
        )

    def _sum(self, key: str) -> int:
        self.calls.append(key)
        link = self.links.get(key)
        if link is None or link not in self.numbers:
            return self.numbers[key]
        return self.numbers[key] + self.numbers[link]

    def _largest(self, parity: str) -> str:
        return max(self.parities[parity])

    def run(self, numbers: Mapping[str, int], links: Mapping[str, str]) -> None:
        self.calls.clear()
        self.numbers.set(numbers)
        self.links.set(links)
        self.graph.run()

    def state(self) -> tuple[object, ...]:
        tables = (self.sums, self.parities, self.largest, self.late)
        return (*(dict(table.mapping()) for table in tables), self.total())


NAMES = st.sampled_from("abcdef")
NUMBERS = st.dictionaries(NAMES, st.integers(0, 9))
LINKS = st.dictionaries(NAMES, NAMES)


@given(st.lists(st.tuples(NUMBERS, LINKS), min_size=1, max_size=6))
def test_after_any_changes_it_is_as_if_computed_anew(
    rounds: list[tuple[dict[str, int], dict[str, str]]],
) -> None:
    """Whatever came, went or changed before leaves no trace in the values."""
    sums = Sums()
    for numbers, links in rounds:
        sums.run(numbers, links)
        anew = Sums()
        anew.run(numbers, links)
        assert sums.state() == anew.state()


def test_only_what_read_the_change_is_computed() -> None:
    """A number is read by its own sum and by those that link to it."""
    sums = Sums()
    numbers = {"a": 1, "b": 2, "c": 3}
    sums.run(numbers, {"a": "b"})
    sums.run(numbers | {"b": 4}, {"a": "b"})
    assert sorted(sums.calls) == ["a", "b"]


def test_a_link_that_is_gone_is_no_longer_read() -> None:
    """Reads are written down anew at each computation."""
    sums = Sums()
    sums.run({"a": 1, "b": 2}, {"a": "b"})
    sums.run({"a": 1, "b": 2}, {})
    sums.run({"a": 1, "b": 3}, {})
    assert sums.calls == ["b"]


def test_that_something_was_not_there_is_remembered() -> None:
    """What was looked for in vain is found when it comes."""
    sums = Sums()
    sums.run({"a": 1}, {"a": "b"})
    sums.run({"a": 1, "b": 2}, {"a": "b"})
    assert sums.sums.mapping() == {"a": 3, "b": 2}


def test_nothing_changed_is_the_very_same_mapping() -> None:
    """Who compares by identity sees at once that there is nothing to do."""
    sums = Sums()
    sums.run({"a": 1, "b": 2}, {})
    before = sums.sums.mapping()
    sums.run({"a": 1, "b": 2}, {})
    assert sums.sums.mapping() is before
    assert sums.calls == []


def test_a_mapping_that_was_handed_out_never_changes() -> None:
    """Who holds the last state keeps it."""
    sums = Sums()
    sums.run({"a": 1}, {})
    before = sums.sums.mapping()
    sums.run({"a": 2}, {})
    assert before == {"a": 1}
    assert sums.sums.mapping() == {"a": 2}


def test_an_equal_result_stops_there() -> None:
    """Readers of a sum that came out equal are left alone."""
    sums = Sums()
    sums.run({"a": 1, "b": 2}, {"a": "b"})
    total = sums.total
    before = sums.parities.mapping()
    sums.run({"a": 2, "b": 1}, {"a": "b"})
    assert sums.sums["a"] == 3
    assert total() == 4
    assert before is not sums.parities.mapping()
    sums.run({"a": 3, "b": 0}, {"a": "b"})
    assert sums.calls
    assert sums.sums["a"] == 3


def test_a_key_that_is_not_there_is_an_error() -> None:
    """As in any mapping."""
    sums = Sums()
    sums.run({}, {})
    with pytest.raises(KeyError):
        sums.sums["a"]


def test_other_orders_and_kinds_of_mapping_are_taken() -> None:
    """Only speed asks for a changed copy of the last mapping."""
    sums = Sums()
    sums.run({"a": 1, "b": 2, "c": 3}, {})
    sums.run(_Frozen({"c": 3, "b": 5, "d": 1}), {})
    assert sums.sums.mapping() == {"c": 3, "b": 5, "d": 1}
    assert sorted(sums.calls) == ["b", "d"]


def test_what_comes_and_goes_between_two_rounds_was_never_there() -> None:
    """A round sees the last state alone."""
    sums = Sums()
    sums.run({"a": 1}, {})
    sums.numbers.set({"a": 1, "b": 2})
    sums.run({"a": 1}, {})
    assert sums.state() == ({"a": 1}, {"odd": frozenset("a")}, {"odd": "a"}, {}, 1)


def test_what_nobody_reads_any_more_is_forgotten() -> None:
    """Pods come and go by the million; memory must not grow with their names."""
    sums = Sums()
    for number in range(9):
        sums.run({f"n{number}": 1}, {f"n{number}": f"n{number + 1}"})
    assert list(sums.links._readers) == ["n8"]
    assert sorted(sums.numbers._readers) == ["n8", "n9"]


class _Frozen(Mapping[str, int]):
    def __init__(self, values: dict[str, int]) -> None:
        self._values = values

    def __getitem__(self, key: str) -> int:
        return self._values[key]

    def __iter__(self):  # type: ignore[no-untyped-def]  # that of dict
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)
