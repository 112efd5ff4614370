// SPDX-License-Identifier: Apache-2.0
// The same classes for `import`; there is one copy of them, whichever way they are loaded.
import microsandbox from './index.cjs';

export const {
  AccessDeniedError,
  ApiError,
  AuthenticationError,
  BaseSandbox,
  Command,
  CommandExecution,
  CommandNotRunError,
  CommandTimeoutError,
  Execution,
  InvalidParamsError,
  InvalidResponseError,
  LimitError,
  Metrics,
  MicrosandboxError,
  NodeSandbox,
  NotStartedError,
  PythonSandbox,
  RequestTimeoutError,
  RichResult,
  SandboxFailedError,
  SandboxNotFoundError,
  SandboxOptions,
  SandboxOptionsBuilder,
  UnreachableError,
  listSandboxes,
} = microsandbox;
