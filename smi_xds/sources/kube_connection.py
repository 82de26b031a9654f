"""HTTP to one API server. The only module that knows kubernetes_asyncio.

Of that library we take how to connect (kubeconfig, context, in-cluster, TLS, tokens) and its HTTP
session; its generated models are fifty times slower than reading the bytes ourselves.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType
from typing import Final

import aiohttp
from kubernetes_asyncio.client import Configuration
from kubernetes_asyncio.client.rest import RESTClientObject
from kubernetes_asyncio.config import (
    ConfigException,
    load_incluster_config,
    load_kube_config,
)

from smi_xds.config import KubernetesConfig
from smi_xds.problems import SourceError
from smi_xds.sources.kube_api import RefusedError, SilentError, UnreachableError
from smi_xds.sources.kube_wire import status_from

# Seconds to connect, handshake included.
CONNECT = 5.0
# Seconds until an answer begins; watches begin at once, however long they are silent then.
HEADERS = 60.0
# Seconds for which one object may be silent.
ANSWER = 10.0
# Seconds for a plug-in to find new credentials; at the start it may ask somebody to log in.
RENEWAL = 60.0
# A peer that vanished without a word is found in half a minute, however long it may be silent.
_KEEPALIVE: Final = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}

# Answers to changes that took place, or (a deletion that waits for finalizers) will.
_DONE: Final = frozenset({HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.ACCEPTED})
_NO_PARAMS: Final[Mapping[str, str]] = MappingProxyType({})


class _Session:
    """Connections with one set of credentials, and how many requests are under way on them."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.users = 0
        try:
            self.rest = RESTClientObject(configuration)
        except OSError as error:  # a certificate that is missing, or is none
            raise SourceError(f"--kubernetes: the certificates cannot be read: {error}") from error


class Connection:
    """HTTP to one API server, with the credentials that a configuration leads to."""

    def __init__(self, config: KubernetesConfig) -> None:
        self._config = config
        self._configuration = Configuration()
        self._session: _Session | None = None
        self._renewing = False

    @property
    def server(self) -> str:
        """Its URL."""
        return str(self._configuration.host)

    async def open(self) -> None:
        """Read the configuration; SourceError where it is missing or makes no sense."""
        configuration, context = await _configuration_from(self._config)
        # One connection for each watch, and a watch takes all the time there is.
        configuration.connection_pool_maxsize = 0
        # Only to try the certificates: what is open needs someone who closes it, and what opens
        # may never run.
        await _Session(configuration).rest.close()
        self._configuration = configuration
        # Whoever turns to another cluster with kubectl does not mean us.
        self._config = replace(self._config, context=context)

    async def close(self) -> None:
        """Close connections when the last request on them is over; the next one opens new ones."""
        session, self._session = self._session, None
        if session is not None and not session.users:
            await session.rest.close()

    async def renew(self) -> None:
        """Read the configuration again: a token was rotated, a plug-in has a new one."""
        if self._renewing:  # by another watch, which was refused as well
            return
        self._renewing = True
        try:
            async with asyncio.timeout(RENEWAL):
                await self.open()
            await self.close()
        except TimeoutError as error:
            raise SourceError("the kubeconfig's plug-in for credentials does not end") from error
        finally:
            self._renewing = False

    @asynccontextmanager
    async def get(
        self, path: str, params: Mapping[str, str], *, silence: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The chunks of an answer; RefusedError or UnreachableError, also amid the chunks."""
        async with self._borrowed() as session:
            response = await self._request(session, path, params, silence=silence)
            try:
                if response.status != HTTPStatus.OK:
                    raise await _refusal(response)
                if response.content_type == "text/html":
                    # A page to log in at, of something on the way.
                    raise RefusedError(response.status, "a page for people, no API server")
                yield _chunks(response)
            finally:
                _drop(response)

    async def read(self, path: str) -> bytes:
        """One small answer, whole."""
        async with self.get(path, {}, silence=ANSWER) as chunks:
            return b"".join([chunk async for chunk in chunks])

    async def patch(self, path: str, patch: bytes) -> bytes:
        """Apply a JSON patch (RFC 6902); fails as `get` does."""
        return await self.send("PATCH", path, patch, content_type="application/json-patch+json")

    async def send(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        content_type: str = "application/json",
        params: Mapping[str, str] = _NO_PARAMS,
        silence: float = ANSWER,
    ) -> bytes:
        """Ask for a change (POST, PUT, PATCH, DELETE); the whole answer, fails as `get` does."""
        async with self._borrowed() as session:
            response = await self._request(
                session,
                path,
                params,
                silence=silence,
                method=method,
                body=body,
                content_type=content_type,
            )
            try:
                if response.status not in _DONE:
                    raise await _refusal(response)
                return b"".join([chunk async for chunk in _chunks(response)])
            finally:
                _drop(response)

    async def _request(
        self,
        session: _Session,
        path: str,
        params: Mapping[str, str],
        *,
        silence: float,
        method: str = "GET",
        body: bytes = b"",
        content_type: str = "",
    ) -> aiohttp.ClientResponse:
        rest, configuration = session.rest, session.configuration
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if body:
            headers["Content-Type"] = content_type
        try:
            # May read the token of the service account again, which is rotated.
            token = await configuration.auth_settings()
            if "BearerToken" in token:
                headers["Authorization"] = token["BearerToken"]["value"].strip()
            async with asyncio.timeout(HEADERS):
                response = await rest.pool_manager.request(
                    method,
                    f"{configuration.host}{path}",
                    params=params,
                    data=body or None,
                    headers=headers,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(sock_connect=CONNECT, sock_read=silence),
                    proxy=rest.proxy,
                    proxy_headers=rest.proxy_headers,
                    server_hostname=rest.server_hostname,
                )
        except aiohttp.ClientSSLError as error:
            # The API server's authority may have been rotated, and stand in its file already.
            with suppress(SourceError):
                await self.renew()
            raise UnreachableError(_reason(error)) from error
        except (aiohttp.ClientError, OSError, ConfigException) as error:
            raise UnreachableError(_reason(error)) from error
        _keep_alive(response)
        return response

    @asynccontextmanager
    async def _borrowed(self) -> AsyncIterator[_Session]:
        """The session of now; one that was replaced lives until its last request is over."""
        try:
            session = self._session = self._session or _Session(self._configuration)
        except SourceError as error:  # the files of the certificates are being replaced
            raise UnreachableError(str(error)) from error
        session.users += 1
        try:
            yield session
        finally:
            session.users -= 1
            if session is not self._session and not session.users:
                await session.rest.close()


def _keep_alive(response: aiohttp.ClientResponse) -> None:
    if response.connection is None or response.connection.transport is None:
        return  # it is over already
    connected = response.connection.transport.get_extra_info("socket")
    with suppress(OSError):  # as is one that broke just now
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if option := getattr(socket, name, None):  # not all systems have all of them
                connected.setsockopt(socket.IPPROTO_TCP, option, value)


async def _chunks(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    try:
        async for chunk in response.content.iter_any():
            yield chunk
    except aiohttp.ServerTimeoutError as error:
        raise SilentError(_reason(error)) from error
    except (aiohttp.ClientError, OSError) as error:
        raise UnreachableError(_reason(error)) from error


def _drop(response: aiohttp.ClientResponse) -> None:
    """Let go of the connection, at once where the answer is not over: a watch has no end."""
    if response.connection is not None and response.connection.transport is not None:
        # Closing politely would wait for the peer, over TLS, while the loop may be ending.
        response.connection.transport.abort()
    response.close()


async def _refusal(response: aiohttp.ClientResponse) -> RefusedError:
    try:
        # A Status is small; a proxy on the way may answer with a page of any size.
        body = await response.content.read(64 * 1024)
    except (aiohttp.ClientError, OSError):
        body = b""
    said = status_from(body).message or response.reason or ""
    # A date would be allowed as well; API servers send seconds.
    seconds = response.headers.get("Retry-After", "")
    return RefusedError(
        response.status,
        " ".join(said.split())[:500],
        retry_after=float(seconds) if seconds.isdecimal() else 0.0,
    )


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or "no answer in time"


async def _configuration_from(config: KubernetesConfig) -> tuple[Configuration, str | None]:
    """How to connect, and the context that says so."""
    configuration = Configuration()
    if config.in_cluster:
        try:
            load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]  # theirs
        except (ConfigException, OSError) as error:
            raise SourceError(
                f"--in-cluster: this is no pod with a service account: {error}"
            ) from error
        return configuration, None
    paths = config.kubeconfig or ""
    _check_there(paths)
    try:
        loader = await load_kube_config(
            config_file=paths,
            context=config.context,
            client_configuration=configuration,
            persist_config=False,
        )
        context = loader.current_context["name"] if loader.current_context else None
    except Exception as error:  # the library lets anything through that a bad file leads to
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, (AttributeError, KeyError, TypeError)):  # of something not there
            reason = "it is no kubeconfig"
        chosen = f", context {config.context}" if config.context else ""
        raise SourceError(
            f"kubeconfig {paths}{chosen} cannot be used: {reason}; "
            "see what kubectl config get-contexts says of it"
        ) from error
    return configuration, context


def _check_there(paths: str) -> None:
    """Several may be given as in KUBECONFIG, of which one is enough."""
    if not any(Path(path).expanduser().is_file() for path in paths.split(os.pathsep) if path):
        raise SourceError(f"kubeconfig {paths} does not exist: give --kubeconfig FILE")
