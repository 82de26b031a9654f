"""Every version of every kind, and where their fields are."""

from dataclasses import replace

import pytest

from smi_xds.objects.smi import SmiObject
from smi_xds.objects.versions import as_written
from tests.support.objects import mk_http_routes, mk_split, mk_target

TARGET, ROUTES = mk_target("t", (), "web"), mk_http_routes("r")


@pytest.mark.parametrize(
    "it, newest, written",
    [
        (replace(TARGET, version="v1alpha1"), "spec.rules[0].matches[1]", "specs[0].matches[1]"),
        (replace(TARGET, version="v1alpha1"), "spec.sources", "sources"),
        (replace(TARGET, version="v1alpha2"), "spec.rules[0].name", "spec.rules[0].name"),
        (replace(ROUTES, version="v1alpha1"), "spec.matches[1].pathRegex", "matches[1].pathRegex"),
        (replace(ROUTES, version="v1alpha2"), "spec.matches[1]", "matches[1]"),
        (replace(ROUTES, version="v1alpha3"), "spec.matches[1]", "spec.matches[1]"),
        (replace(mk_split("s", "web", {}), version="v1alpha1"), "spec.service", "spec.service"),
    ],
)
def test_a_field_is_named_as_its_version_has_it(it: SmiObject, newest: str, written: str) -> None:
    """The first versions have no spec, and the first of all calls rules specs."""
    assert as_written(newest, it) == written
