"""Removal of secrets from URLs and commands before these are recorded or shown."""

from __future__ import annotations

import re
from typing import Any, Final

#: What replaces a secret.
HIDDEN: Final = "***"

#: Names of options, variables, headers and parameters whose values are secrets.
_NAME: Final = (
    r"(?:[\w-]*(?:api[_-]?key|access[_-]?key|private[_-]?key|token(?!s)|secret|passw(?:or)?d"
    r"|passphrase|credential|authorization|signature)[\w-]*|[\w-]*[_-](?:key|auth|pwd|pass)"
    r"|key|auth|pwd|pass|sig)"
)
_VALUE: Final = (
    r"(?:(?:bearer|basic|token)\s+)?[\"']?"
    r"(?P<secret>(?<=\")[^\"]+|(?<=')[^']+|[^\s&'\";,)}]+)"
)

_PATTERNS: Final = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(?<=://)(?P<secret>[^/?#\s'\"]+)@",
        rf"(?<![\w-]){_NAME}[\"']?\s*[=:]\s*{_VALUE}",
        rf"(?<!\S)--?{_NAME}\s+{_VALUE}",
        r"(?<!\S)(?:-u|--user|--proxy-user)[=\s]\s*['\"]?(?P<secret>[^\s'\":]+:[^\s'\"]+)",
        r"\b(?:bearer|basic)\s+(?P<secret>[\w.~+/=-]{8,})",
        # The shapes of the keys of common services.
        r"\b(?P<secret>(?:sk|pk|rk)-[\w-]{16,}|hf_\w{16,}|gh[pousr]_\w{16,}|github_pat_\w{16,}"
        r"|xox[abp]-[\w-]{10,}|AKIA[0-9A-Z]{16}|AIza[\w-]{20,}|eyJ[\w-]{10,}\.[\w.-]+)",
    )
)


def secrets_in(text: str) -> list[str]:
    """The secrets in a URL or command, the longest first."""
    found = {match["secret"] for pattern in _PATTERNS for match in pattern.finditer(text)}
    # The password is a secret by itself.
    found |= {password for each in found if (password := each.partition(":")[2])}
    return sorted(found - {"", HIDDEN}, key=lambda secret: (-len(secret), secret))


def redact(text: str, *sources: str) -> str:
    """Replace the secrets in a text by ``***``.

    Args:
        text: the text.
        sources: URLs and commands whose secrets must not occur in the text either.
    """
    for pattern in _PATTERNS:
        text = pattern.sub(_hide, text)
    for source in sources:
        for secret in secrets_in(source):
            if len(secret) >= 4:  # shorter ones would hide parts of ordinary words
                text = text.replace(secret, HIDDEN)
    return text


def _hide(match: re.Match[str]) -> str:
    start, end = (position - match.start() for position in match.span("secret"))
    return f"{match[0][:start]}{HIDDEN}{match[0][end:]}"


def redact_values(content: Any) -> Any:
    """Plain values with the secrets of all strings replaced."""
    if isinstance(content, str):
        return redact(content)
    if isinstance(content, dict):
        return {key: redact_values(value) for key, value in content.items()}
    if isinstance(content, list):
        return [redact_values(value) for value in content]
    return content
