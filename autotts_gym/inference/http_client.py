"""``HttpClient``: requests to one server, with the environment's proxies and certificates."""

from __future__ import annotations

import base64
import functools
import os
import ssl
import urllib.request
from collections.abc import Mapping
from typing import Final

import aiohttp
import certifi
from yarl import URL

from autotts_gym.inference.http_headers import is_local

#: Seconds for which an idle connection is kept. vLLM's server closes it after 5, and a request that
#: is sent at that moment fails.
_KEEP_ALIVE: Final = 2.0


class HttpClient:
    """Sends requests to one server; the first one opens the session, on its event loop.

    Proxies are those of the environment (``HTTPS_PROXY``, ``NO_PROXY``), except for servers on this
    machine; so are certificates (``SSL_CERT_FILE``, ``SSL_CERT_DIR``). Redirects are not followed,
    and cookies are not kept.

    Args:
        url: base URL.
        headers: headers of every request. Without ``Authorization``, a user in the URL is sent.
        connect_timeout: seconds within which a connection must be made.
    """

    def __init__(self, url: str, headers: Mapping[str, str], connect_timeout: float) -> None:
        parsed = URL(url)
        self._headers = {"Accept-Encoding": "identity", **headers}
        if parsed.user is not None and "authorization" not in map(str.lower, headers):
            login = f"{parsed.user}:{parsed.password or ''}".encode()
            self._headers["Authorization"] = f"Basic {base64.b64encode(login).decode()}"
        self._proxy = None if is_local(url) else _environment_proxy(parsed)
        # Made once: reading the certificates takes a while.
        schemes = {parsed.scheme, (self._proxy or "").partition(":")[0]}
        self._certificates = _certificates() if "https" in schemes else True
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout)
        self._session: aiohttp.ClientSession | None = None

    async def send(
        self, url: str, content: bytes | None, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        """Send a request.

        Args:
            url: URL on the server.
            content: JSON body of a POST; None for a GET.
            headers: further headers.

        Returns:
            The response, whose body was not read; the caller closes it.
        """
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0, keepalive_timeout=_KEEP_ALIVE, ssl=self._certificates
                ),
                headers=self._headers,
                timeout=self._timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
                proxy=self._proxy,
                auto_decompress=False,
            )
        if content is not None:
            headers = {"Content-Type": "application/json", **headers}
        return await self._session.request(
            "GET" if content is None else "POST",
            _without_user(url),
            data=content,
            headers=headers,
            allow_redirects=False,
        )

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()


@functools.lru_cache(256)
def _without_user(url: str) -> URL:
    """A parsed URL. The user is left out, since aiohttp refuses it with the header."""
    return URL(url).with_user(None)


def _environment_proxy(url: URL) -> str | None:
    """The proxy of the environment for a URL; None without one."""
    if urllib.request.proxy_bypass(url.host_port_subcomponent or ""):
        return None
    proxies = urllib.request.getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy


def _certificates() -> ssl.SSLContext:
    """The certificates of the environment, or those of the package ``certifi``."""
    if os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR"):
        return ssl.create_default_context()
    return ssl.create_default_context(cafile=certifi.where())
