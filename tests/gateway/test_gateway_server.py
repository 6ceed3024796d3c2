"""The command, where it does not come to serving."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--patience", "0.5"], "autotts: http://127.0.0.1:1/v1/models: no connection"),
        (["--controller", "nothing"], "autotts: there is no agent 'nothing'"),
        (["--upstream-key-env", "NO_SUCH_KEY"], "the environment variable 'NO_SUCH_KEY'"),
        (["--api-key-file", "no-such-file"], "no-such-file: No such file"),
        (["--upstream", "nothing"], "'nothing' is not a base URL"),
    ],
)
def test_what_cannot_be_served(
    autotts: Callable[..., Any], arguments: list[str], message: str
) -> None:
    result = autotts("serve", "--upstream", "http://127.0.0.1:1/v1", *arguments)
    assert result.code == 1
    assert message in result.err.replace("\n", " ")
    assert "Traceback" not in result.err
