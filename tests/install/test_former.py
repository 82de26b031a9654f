"""What an installation had and the next one would not: told before it is gone."""

from typing import Any

import pytest

from smi_xds.config import MeshConfig
from smi_xds.install.former import lost
from smi_xds.install.workload import Choices, deployment
from smi_xds.values import AccessMode

PLAIN = deployment(Choices())
SHADOW = MeshConfig(access_mode=AccessMode.SHADOW)


def _with(*more: str, **choices: Any) -> dict[str, Any]:
    return deployment(Choices(more=more, **choices))


def test_the_same_with_another_image_loses_nothing() -> None:
    """However a flag and its value are written."""
    before = _with("--leaf-lifetime", "12h", "--no-write-back", image="it:1", mesh=SHADOW)
    after = _with("--no-write-back", "--leaf-lifetime=12h", image="it:2", mesh=SHADOW)

    assert lost(before, after, given=()) == ""


def test_an_image_is_kept_or_replaced_and_not_forgotten() -> None:
    """The image of the default has no registry: pods of it would not start. It has no place to
    lose, so the next version takes it over.
    """
    before = _with(image="registry.example/smi-xds:0.1.0")

    assert lost(before, PLAIN, given=()) == "--image=registry.example/smi-xds:0.1.0"
    assert lost(before, PLAIN, given=["--image"]) == ""
    assert lost(before, _with(image="registry.example/smi-xds:0.2.0"), given=()) == ""
    assert lost(_with(image="smi-xds:0.0.9"), PLAIN, given=()) == ""


def test_what_is_not_given_again_is_shown_as_it_is_given() -> None:
    """Flags of `install` first, those of `serve` behind `--`; in words of a shell."""
    before = _with("--leaf-lifetime", "12h", "--xds-name=a b", replicas=3, mesh=SHADOW)

    gone = "--replicas=3 --access-mode=shadow -- --leaf-lifetime=12h '--xds-name=a b'"
    assert lost(before, PLAIN, given=()) == gone
    assert lost(_with("--no-write-back"), PLAIN, given=()) == "-- --no-write-back"
    assert lost(_with(mesh=SHADOW), PLAIN, given=()) == "--access-mode=shadow"


def test_what_is_given_may_change() -> None:
    """The road to strict has steps; and a flag that says the contrary takes its place."""
    before = _with("--leaf-lifetime=12h", "--no-write-back", replicas=3, mesh=SHADOW)
    after = _with("--leaf-lifetime=6h", "--write-back")
    given = ["--replicas", "--access-mode", "--leaf-lifetime=6h", "--write-back"]

    assert lost(before, after, given=given) == ""
    assert lost(before, after, given=given[1:]) == "--replicas=3"


@pytest.mark.parametrize("args", [None, [], ["serve"]])
def test_other_containers_and_other_images_are_nothing_of_ours(args: list[str] | None) -> None:
    """A Deployment whose container has no arguments loses none."""
    before = _with()
    [container] = before["spec"]["template"]["spec"]["containers"]
    container["args"] = args
    other = {"name": "beside", "image": "other", "args": ["serve", "--it"]}
    before["spec"]["template"]["spec"]["containers"].append(other)

    assert lost(before, PLAIN, given=()) == ""
