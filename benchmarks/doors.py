"""What it costs to let a proxy in: in plaintext, with a token over TLS, with a certificate.

`python -m benchmarks.doors [--streams 500] [--json]`

A server in a process of its own, and a client that opens connections, one stream on each, until it
has its first answer; the server's CPU time says what each cost. An API server is played by a
pause of two milliseconds, about what a real one takes.
"""

import argparse
import asyncio
import json
import multiprocessing
import resource
import time
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from contextlib import AsyncExitStack
from itertools import batched
from multiprocessing.connection import Connection
from typing import Final

import grpc
import uvloop

from benchmarks.ads.tables import Table, load, present
from smi_xds.ads.auth import Authenticate, Known
from smi_xds.ads.cache import Cache
from smi_xds.ads.guard import Guard
from smi_xds.ads.limits import DEFAULTS
from smi_xds.ads.server import Door, opened
from smi_xds.ads.status import Status
from smi_xds.ads.tokens import Review, judging_tokens
from smi_xds.app.xds_ports import Served
from smi_xds.identity.clients import ClientCertificates
from smi_xds.identity.issuer import wall_clock
from smi_xds.identity.serving import ServerTls
from smi_xds.values import ProxyId, Secret, ServiceAccountRef, SpiffeId
from smi_xds.xds.resources import CLUSTER
from tests.ads.client import stream
from tests.ads.play import resources
from tests.support.identity import mk_authority

_ACCOUNT: Final = ServiceAccountRef("shop", "web")
_REVIEW: Final = 0.002
_AT_ONCE: Final = 25
KINDS: Final = ("plaintext", "tokens", "tokens that are known", "certificates")
