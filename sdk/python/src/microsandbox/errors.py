# SPDX-License-Identifier: Apache-2.0
"""What can go wrong.  Everything that this package raises on purpose is a MicrosandboxError."""
from __future__ import annotations

from typing import Any, Dict, Optional, Type


class MicrosandboxError(RuntimeError):
    """The base of all errors of this package."""


class NotStartedError(MicrosandboxError):
    """The sandbox was not started, or was stopped."""

    def __init__(self) -> None:
        super().__init__("Sandbox is not started. Call start() first.")


class UnreachableError(MicrosandboxError, ConnectionError):
    """There is no connection to the server, or it broke.

    After a broken connection it is not known whether the call took place.
    """


class RequestTimeoutError(MicrosandboxError, TimeoutError):
    """The server did not answer in time."""


class InvalidResponseError(MicrosandboxError):
    """The answer is not what a microsandbox server says."""


class ApiError(MicrosandboxError):
    """The server refused the call, or it failed.

    Attributes:
        message: what the server says
        code: the JSON-RPC code, or the server's own code where it has no JSON-RPC answer
        http_status: the HTTP status
        data: what comes with the error; None if nothing does
    """

    def __init__(self, message: str, code: Optional[int], http_status: int, data: Any = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.http_status = http_status
        self.data = data


class AuthenticationError(ApiError):
    """The API key is missing, wrong or expired."""


class AccessDeniedError(ApiError):
    """The API key is not for this namespace."""


class InvalidParamsError(ApiError, ValueError):
    """The server does not accept a parameter; the message names it."""


class SandboxNotFoundError(ApiError, LookupError):
    """No such sandbox is running."""


class SandboxFailedError(ApiError):
    """The sandbox did not start, or it ended during the call."""


class CommandNotRunError(ApiError):
    """The program could not be started: it is not there, or not executable."""


class CommandTimeoutError(ApiError, TimeoutError):
    """The program reached its time limit and was killed.

    Attributes:
        stdout, stderr: what it had printed until then
    """

    @property
    def stdout(self) -> str:
        return self._text("stdout")

    @property
    def stderr(self) -> str:
        return self._text("stderr")

    def _text(self, stream: str) -> str:
        lines = self.data.get("output") if isinstance(self.data, dict) else None
        return "\n".join(
            o["text"]
            for o in (lines if isinstance(lines, list) else ())
            if isinstance(o, dict) and o.get("stream") == stream and isinstance(o.get("text"), str)
        )


class LimitError(ApiError):
    """The server has as many sandboxes as it may have."""


# Names of errors in the schema (see _wire.ERRORS) that have a class of their own.
BY_NAME: Dict[str, Type[ApiError]] = {
    "InvalidParams": InvalidParamsError,
    "NotFound": SandboxNotFoundError,
    "SandboxFailed": SandboxFailedError,
    "NotRun": CommandNotRunError,
    "TimedOut": CommandTimeoutError,
    "Limit": LimitError,
    "Denied": AccessDeniedError,
}
# HTTP statuses of answers that are not JSON-RPC.
BY_STATUS: Dict[int, Type[ApiError]] = {
    400: InvalidParamsError,
    401: AuthenticationError,
    403: AccessDeniedError,
    404: SandboxNotFoundError,
}
