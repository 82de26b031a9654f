"""Our own authority does what every issuer has to do."""

from collections.abc import AsyncIterator

import pytest

from smi_xds.identity.embedded import EmbeddedIssuer
from tests.support.identity import mk_authority
from tests.support.issuers import Clock, IssuerContract, World, running_world


class TestEmbedded(IssuerContract):
    """The suite, with an authority that is here."""

    @pytest.fixture
    async def world(self) -> AsyncIterator[World]:
        clock = Clock()
        issuer = EmbeddedIssuer(mk_authority(now=clock()), clock=clock)
        async with running_world(issuer, clock) as world:
            yield world
