"""Memoisation: same inputs, same object; nothing else is kept."""

from smi_xds.mesh.memo import Memo


def test_equal_inputs_give_the_very_same_result() -> None:
    """An input that is equal, though another object, computes nothing anew."""
    calls = []

    def double(values: tuple[int, ...]) -> list[int]:
        calls.append(values)
        return [value * 2 for value in values]

    memo: Memo[str, ..., list[int]] = Memo(double)
    first = memo("k", (1000, 2000))
    memo.sweep()
    assert memo("k", (1000, *first[:1])) is first
    assert len(calls) == 1


def test_a_changed_input_is_computed_and_an_equal_result_keeps_its_identity() -> None:
    """Where a change makes no difference, what comes after sees none."""
    memo: Memo[str, ..., list[int]] = Memo(sorted)
    first = memo("k", (2, 1))
    assert memo("k", (1, 2)) is first
    assert memo("k", (1, 3)) == [1, 3]


def test_a_round_forgets_what_it_did_not_ask_for() -> None:
    """Keys of what is gone do not pile up; those asked for stay."""
    calls = []

    def keep(text: str) -> str:
        calls.append(text)
        return text

    memo: Memo[str, ..., str] = Memo(keep)
    for keys in ("ab", "a", "ab"):
        for key in keys:
            memo(key, key)
        memo.sweep()
    assert calls == ["a", "b", "b"]


def test_more_inputs_than_before_are_other_inputs() -> None:
    """The number of inputs counts as well."""
    memo: Memo[str, ..., int] = Memo(lambda *values: len(values))
    assert [memo("k", 1), memo("k", 1, 2)] == [1, 2]
