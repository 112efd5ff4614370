// SPDX-License-Identifier: Apache-2.0
// What can go wrong.  index.d.cts describes the classes.
'use strict';

class MicrosandboxError extends Error {
  constructor(message, options) {
    super(message, options);
    this.name = new.target.name;
  }
}

class NotStartedError extends MicrosandboxError {
  constructor() {
    super('Sandbox is not started. Call start() first.');
  }
}
class UnreachableError extends MicrosandboxError {}
class RequestTimeoutError extends MicrosandboxError {}
class InvalidResponseError extends MicrosandboxError {}

class ApiError extends MicrosandboxError {
  constructor(message, { code, httpStatus, data }) {
    super(message);
    this.code = code;
    this.httpStatus = httpStatus;
    this.data = data;
  }
}
class AuthenticationError extends ApiError {}
class AccessDeniedError extends ApiError {}
class InvalidParamsError extends ApiError {}
class SandboxNotFoundError extends ApiError {}
class SandboxFailedError extends ApiError {}
class CommandNotRunError extends ApiError {}
class LimitError extends ApiError {}

class FileError extends ApiError {
  constructor(message, options) {
    super(message, options);
    const known = options.data !== null && typeof options.data === 'object' ? options.data : {};
    this.errno = typeof known.errno === 'string' ? known.errno : undefined;
    this.path = typeof known.path === 'string' ? known.path : undefined;
  }
}

class CommandTimeoutError extends ApiError {
  get stdout() {
    return textOf(this.data, 'stdout');
  }

  get stderr() {
    return textOf(this.data, 'stderr');
  }
}

function textOf(data, stream) {
  const lines = data !== null && typeof data === 'object' && Array.isArray(data.output) ? data.output : [];
  return lines
    .filter((o) => o && o.stream === stream && typeof o.text === 'string')
    .map((o) => o.text)
    .join('\n');
}

// Names of errors in the schema (see wire.cjs) that have a class of their own.
const byName = {
  InvalidParams: InvalidParamsError,
  NotFound: SandboxNotFoundError,
  SandboxFailed: SandboxFailedError,
  NotRun: CommandNotRunError,
  TimedOut: CommandTimeoutError,
  Limit: LimitError,
  Denied: AccessDeniedError,
  FileFailed: FileError,
};
// HTTP statuses of answers that are not JSON-RPC.
const byStatus = {
  400: InvalidParamsError,
  401: AuthenticationError,
  403: AccessDeniedError,
  404: SandboxNotFoundError,
  429: LimitError,
};

module.exports = {
  classes: {
    MicrosandboxError,
    NotStartedError,
    UnreachableError,
    RequestTimeoutError,
    InvalidResponseError,
    ApiError,
    AuthenticationError,
    AccessDeniedError,
    InvalidParamsError,
    SandboxNotFoundError,
    SandboxFailedError,
    CommandNotRunError,
    CommandTimeoutError,
    FileError,
    LimitError,
  },
  byName,
  byStatus,
};
