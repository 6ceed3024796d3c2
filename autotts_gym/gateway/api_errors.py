"""Errors in the shape of OpenAI's API."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from starlette.responses import Response


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(BaseModel):
    """The body of a response that reports an error."""

    error: ErrorDetail


class ApiError(Exception):
    """An error that a client gets.

    Attributes:
        status: HTTP status.
        message: what is wrong, and what would be right.
        code: short name of the error, such as ``invalid_api_key``.
        param: the field of the request that is wrong.
        headers: further headers of the response.
        outcome: value of the label ``outcome`` in the metrics.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
        outcome: str = "refused",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.headers = dict(headers or {})
        self.outcome = outcome

    @property
    def type(self) -> str:
        """OpenAI's type of errors with this status."""
        if self.status == 429:
            return "rate_limit_error"
        return "invalid_request_error" if self.status < 500 else "server_error"

    def body(self) -> dict[str, Any]:
        """The JSON body of the response."""
        return ErrorBody(
            error=ErrorDetail(
                message=self.message, type=self.type, param=self.param, code=self.code
            )
        ).model_dump()

    def response(self) -> Response:
        """The response."""
        return JsonResponse(self.body(), self.status, self.headers)


class JsonResponse(Response):
    """A JSON response in ASCII, which can hold any text, lone surrogates included."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json_text(content).encode("ascii")


def json_text(content: Any) -> str:
    """A JSON value on one line, in ASCII."""
    return json.dumps(content, allow_nan=False, separators=(",", ":"))


def invalid(param: str, message: str, code: str = "invalid_value") -> ApiError:
    """The error of an invalid field."""
    return ApiError(400, message, param=param, code=code)
