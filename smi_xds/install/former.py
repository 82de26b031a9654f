"""What an installation was told before, which the next one must not forget unnoticed.

An upgrade without the flags of the installation would otherwise bring their defaults back:
`--access-mode shadow` would become strict, and deny. So would the image: that of the default has no
registry, and no node finds it.
"""

import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

from smi_xds.install.cluster import Cluster, path_of
from smi_xds.install.manifests import Manifest
from smi_xds.install.names import NAME
from smi_xds.install.workload import DEFAULT_IMAGE
from smi_xds.problems import AskError

# Those that `install` has itself; others come behind `--`.
OWN_FLAGS: Final = ("--image", "--replicas", "--trust-domain", "--access-mode", "--mtls-mode")

_DEFAULT_IMAGES: Final = DEFAULT_IMAGE.partition(":")[0] + ":"  # of any version


async def refuse_loss(cluster: Cluster, wanted: Manifest, *, given: Collection[str]) -> None:
    """AskError where the Deployment that is there has flags that this one would not."""
    before = await cluster.find(path_of(wanted))
    if before is not None and (gone := lost(before, wanted, given=given)):
        metadata = wanted["metadata"]
        raise AskError(
            f"Deployment {metadata['namespace']}/{metadata['name']} has `{gone}`, which would be "
            "gone: give that again, or other values, or let go of it with --force"
        )


def lost(before: Mapping[str, Any], wanted: Manifest, *, given: Collection[str]) -> str:
    """Flags of `install` that would keep what is there and is not meant to change; or nothing."""
    stay = set(_flags(wanted))
    # Another image is what upgrades are for.
    meant = {flag_name(it) for it in given} | {it for it in map(flag_name, stay) if it == "--image"}
    gone = [it for it in _flags(before) if it not in stay and flag_name(it) not in meant]
    own = [it for it in gone if flag_name(it) in OWN_FLAGS]
    more = [it for it in gone if it not in own]
    return shlex.join([*own, *(["--", *more] if more else [])])


def flag_name(flag: str) -> str:
    """`--write-back` of `--no-write-back`, too: one takes the place of the other."""
    return flag.partition("=")[0].replace("--no-", "--")


def joined(arguments: Iterable[str]) -> list[str]:
    """Flags with their values, all of them as `--flag=value`."""
    found: list[str] = []
    for it in arguments:
        if it.startswith("-") or not found or "=" in found[-1]:
            found.append(it)
        else:
            found[-1] += f"={it}"
    return found


def _flags(deployment: Mapping[str, Any]) -> Iterator[str]:
    spec = deployment["spec"]
    yield f"--replicas={spec['replicas']}"
    for container in spec["template"]["spec"]["containers"]:
        if container["name"] == NAME:
            if not container["image"].startswith(_DEFAULT_IMAGES):
                yield f"--image={container['image']}"
            _serve, *flags = container.get("args") or ("serve",)
            yield from joined(flags)
