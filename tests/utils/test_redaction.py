"""Secrets do not reach files."""

from __future__ import annotations

import pytest

from autotts_gym.utils.redaction import redact, redact_values, secrets_in

SECRET = "s3cr3t-Value"


@pytest.mark.parametrize(
    "text",
    [
        f"http://user:{SECRET}@127.0.0.1:8000/v1",
        f"http://{SECRET}@host/v1",
        f"https://host/v1?api_key={SECRET}",
        f"https://host/v1?model=a&token={SECRET}&x=1",
        f"https://host/v1?key={SECRET}",
        f"https://host/v1?sig={SECRET}",
        f"python propose.py --api-key {SECRET}",
        f"python propose.py --api-key={SECRET} --rounds 3",
        f"python propose.py --api-key '{SECRET} with spaces'",
        f"python propose.py --auth-token {SECRET}",
        f"python propose.py -password {SECRET}",
        f"OPENAI_API_KEY={SECRET} python propose.py",
        f"export HF_TOKEN='{SECRET}'; python propose.py",
        f"curl -u me:{SECRET} https://host",
        f"curl -H 'Authorization: Bearer {SECRET}' https://host",
        f'curl -H "x-api-key: {SECRET}" https://host',
        f'curl https://host -d \'{{"api_key": "{SECRET}"}}\'',
        f"AWS_SECRET_ACCESS_KEY={SECRET} x",
    ],
)
def test_secrets_are_hidden(text: str) -> None:
    assert SECRET not in redact(text)
    assert "***" in redact(text)
    assert redact(redact(text)) == redact(text)
    assert any(SECRET in secret for secret in secrets_in(text))
    if "spaces" not in text:  # there, the secret is longer
        assert redact(f"the server said {SECRET}", text) == "the server said ***"


@pytest.mark.parametrize(
    "text",
    [
        "sk-abcdefghijklmnop1234",
        "hf_abcdefghijklmnop1234",
        "ghp_abcdefghijklmnop1234",
        "eyJhbGciOiJIUzI1.eyJzdWIiOiIx.abc",
    ],
)
def test_shapes_of_keys_are_hidden(text: str) -> None:
    assert redact(f"python x.py {text} --rounds 3") == "python x.py *** --rounds 3"


@pytest.mark.parametrize(
    "text",
    [
        "autotts discover --max-tokens 100 --tokens 5 --rounds 3 --out OUT",
        "http://127.0.0.1:8000/v1",
        "python propose.py --model a/b --author me",
        "autotts train sb3-ppo --out x --num-steps 5",
        "prompt_tokens=5 completion_tokens: 7",
        "me@example.org",
    ],
)
def test_other_text_is_kept(text: str) -> None:
    assert redact(text) == text
    assert secrets_in(text) == []


def test_values() -> None:
    content = {"a": [f"http://u:{SECRET}@h", 1, None], "b": {"c": f"--token {SECRET}"}}
    assert SECRET not in str(redact_values(content))
