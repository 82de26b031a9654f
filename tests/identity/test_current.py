"""The authority of now, and those who follow it."""

from dataclasses import replace

from smi_xds.identity.ca import Authority
from smi_xds.identity.current import CurrentAuthority
from tests.support.identity import mk_authority


def test_followers_are_told_of_another_authority() -> None:
    """In the order in which they came; of the same one nobody is."""
    first, second = mk_authority(), mk_authority(trust_domain="example.org")
    current = CurrentAuthority(first)
    heard: list[tuple[str, Authority]] = []
    current.follow(lambda it: heard.append(("one", it)))
    current.follow(lambda it: heard.append(("two", it)))

    current.replace(replace(first, created=True))
    assert heard == []
    current.replace(second)

    assert heard == [("one", second), ("two", second)]
    assert current.now is second
    assert current.trust_bundle == second.trust_bundle
    assert current.trust_domain == "example.org"
    assert current.trust_domains == ("example.org",)


def test_an_authority_that_stays_is_one_as_well() -> None:
    """Whoever takes either needs not ask which it is."""
    authority = mk_authority()
    current = CurrentAuthority.of(authority)

    assert current.now is authority
    assert CurrentAuthority.of(current) is current
