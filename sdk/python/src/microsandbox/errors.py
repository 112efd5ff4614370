# SPDX-License-Identifier: Apache-2.0
"""What can go wrong.  Everything that this package raises on purpose is a MicrosandboxError."""
from __future__ import annotations

import errno as errnos
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
    """The server, or the key, has as many sandboxes as it may have, or sends too many requests."""


class FileError(ApiError, OSError):
    """A file operation failed in the sandbox.

    What Python has an exception for is that too: `except FileNotFoundError` works.

    Attributes:
        errno: as in the module errno; None if this machine has no such error
        errno_name: "ENOENT"
        path: in the sandbox
    """

    def __init__(self, message: str, code: Optional[int], http_status: int, data: Any = None) -> None:
        super().__init__(message, code, http_status, data)
        known = data if isinstance(data, dict) else {}
        name, path = known.get("errno"), known.get("path")
        self.errno_name: Optional[str] = name if isinstance(name, str) else None
        self.errno = getattr(errnos, self.errno_name or "", None)
        self.path: Optional[str] = path if isinstance(path, str) else None
        self.filename = self.path

    def __str__(self) -> str:
        return self.message


class _NotFound(FileError, FileNotFoundError):
    pass


class _Exists(FileError, FileExistsError):
    pass


class _IsADirectory(FileError, IsADirectoryError):
    pass


class _NotADirectory(FileError, NotADirectoryError):
    pass


class _Permission(FileError, PermissionError):
    pass


_BY_ERRNO: Dict[Any, Type[FileError]] = {
    "ENOENT": _NotFound,
    "EEXIST": _Exists,
    "EISDIR": _IsADirectory,
    "ENOTDIR": _NotADirectory,
    "EACCES": _Permission,
    "EPERM": _Permission,
}
for _cls in _BY_ERRNO.values():
    _cls.__name__ = _cls.__qualname__ = "FileError"


def api_error(cls: Type[ApiError], message: str, code: Optional[int], http_status: int, data: Any) -> ApiError:
    if cls is FileError and isinstance(data, dict) and isinstance(data.get("errno"), str):
        cls = _BY_ERRNO.get(data["errno"], FileError)
    return cls(message, code, http_status, data)


# Names of errors in the schema (see _wire.ERRORS) that have a class of their own.
BY_NAME: Dict[str, Type[ApiError]] = {
    "InvalidParams": InvalidParamsError,
    "NotFound": SandboxNotFoundError,
    "SandboxFailed": SandboxFailedError,
    "NotRun": CommandNotRunError,
    "TimedOut": CommandTimeoutError,
    "Limit": LimitError,
    "Denied": AccessDeniedError,
    "FileFailed": FileError,
}
# HTTP statuses of answers that are not JSON-RPC.
BY_STATUS: Dict[int, Type[ApiError]] = {
    400: InvalidParamsError,
    401: AuthenticationError,
    403: AccessDeniedError,
    404: SandboxNotFoundError,
    429: LimitError,
}
