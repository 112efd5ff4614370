# SPDX-License-Identifier: Apache-2.0
"""Run code that nobody trusts in microVM sandboxes of your own.

    from microsandbox import PythonSandbox

    async with PythonSandbox.create(name="test") as sandbox:
        execution = await sandbox.run("print('Hello!')")
        print(await execution.output())

The same without asyncio is in microsandbox.sync.
"""
from ._async import (
    BaseSandbox,
    Command,
    CommandExecution,
    Execution,
    Metrics,
    NodeSandbox,
    PythonSandbox,
    list_sandboxes,
)
from ._async_exec import CodeStream, CommandStream, Process
from ._async_files import Files, FileStream
from ._events import ExitStatus, Output
from ._protocol import RichResult
from ._wire import FileInfo, Line, NetworkCounter, NetworkInfo, NetworkMember, PortInfo, SandboxInfo, SandboxMetrics
from .errors import (
    AccessDeniedError,
    ApiError,
    AuthenticationError,
    CommandNotRunError,
    CommandTimeoutError,
    FileError,
    InvalidParamsError,
    InvalidResponseError,
    LimitError,
    MicrosandboxError,
    NotStartedError,
    RequestTimeoutError,
    SandboxFailedError,
    SandboxNotFoundError,
    UnreachableError,
)

__version__ = "0.1.0"

__all__ = [
    "AccessDeniedError",
    "ApiError",
    "AuthenticationError",
    "BaseSandbox",
    "CodeStream",
    "Command",
    "CommandExecution",
    "CommandNotRunError",
    "CommandStream",
    "CommandTimeoutError",
    "Execution",
    "ExitStatus",
    "FileError",
    "FileInfo",
    "FileStream",
    "Files",
    "InvalidParamsError",
    "InvalidResponseError",
    "LimitError",
    "Line",
    "Metrics",
    "MicrosandboxError",
    "NodeSandbox",
    "NotStartedError",
    "Output",
    "Process",
    "PythonSandbox",
    "RequestTimeoutError",
    "RichResult",
    "SandboxFailedError",
    "PortInfo",
    "NetworkCounter",
    "NetworkInfo",
    "NetworkMember",
    "SandboxInfo",
    "SandboxMetrics",
    "SandboxNotFoundError",
    "UnreachableError",
    "list_sandboxes",
]
