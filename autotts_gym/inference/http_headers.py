"""Headers of requests, base URLs, and what of them must not be shown."""

from __future__ import annotations

import ipaddress
import itertools
import re
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Final

from yarl import URL

from autotts_gym.utils.redaction import HIDDEN, redact

#: Id of the work that requests belong to; it must be a valid part of a header. Empty for none.
REQUEST_ID: Final[ContextVar[str]] = ContextVar("REQUEST_ID", default="")

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"[\t\x20-\x7e]*")
#: Length from which the value of a header is hidden in messages; a shorter one would hide parts of
#: ordinary words.
_SHORTEST_SECRET: Final = 4


_next_number = itertools.count(1).__next__


def request_id_header() -> dict[str, str]:
    """The header ``X-Request-Id`` of the next request: ``REQUEST_ID`` and a number.

    vLLM's server takes it as the id of the request, which must be unique.
    """
    work = REQUEST_ID.get()
    return {"X-Request-Id": f"{work}-{_next_number()}"} if work else {}


def check_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers.

    Raises:
        ValueError: a name or a value cannot be sent; the message does not have the value.
    """
    for name, value in headers.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(f"{name!r:.80} is not a name of a header, such as X-Api-Key")
        if not isinstance(value, str) or not _VALUE.fullmatch(value):
            raise ValueError(f"the value of the header {name} must be printable ASCII text")
    return dict(headers)


def parse_headers(lines: Sequence[str]) -> dict[str, str]:
    """Parse headers such as ``X-Api-Key: secret``.

    Raises:
        ValueError: a line has another form; the message does not have its value.
    """
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise ValueError("give a header as NAME: VALUE, such as 'X-Api-Key: ...'")
        headers[name.strip()] = value.strip()
    return check_headers(headers)


def hide_values(text: str, headers: Mapping[str, str]) -> str:
    """Replace the values of headers in a text, such as a message of a server that repeats them."""
    for value in headers.values():
        for secret in {value, value.rpartition(" ")[2]}:
            if len(secret) >= _SHORTEST_SECRET:
                text = text.replace(secret, HIDDEN)
    return text


def check_base_urls(base_urls: str | Sequence[str]) -> list[str]:
    """Return base URLs without duplicates and without a slash at the end.

    Raises:
        ValueError: there is none, or one is not a base URL.
    """
    urls = [base_urls] if isinstance(base_urls, str) else list(base_urls)
    urls = list(dict.fromkeys(url.rstrip("/") for url in urls))
    if not urls:
        raise ValueError("give at least one base URL, such as http://127.0.0.1:8000/v1")
    for url in urls:
        if not _is_url(url):
            raise ValueError(f"{redact(url)!r} is not a base URL such as http://127.0.0.1:8000/v1")
    return urls


def _is_url(url: str) -> bool:
    try:
        parsed = URL(url)
    except ValueError:
        return False
    return parsed.scheme in ("http", "https") and bool(parsed.host) and bool(parsed.port)


def is_local(url: str) -> bool:
    """Whether a URL is that of a server on this machine."""
    host = URL(url).host or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
