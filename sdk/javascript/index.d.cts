// SPDX-License-Identifier: Apache-2.0
import type { Line, SandboxInfo, SandboxMetrics } from './lib/types.cjs';

export type { Line, SandboxInfo, SandboxMetrics };

/** Where the server is, and who asks.  What is not given the environment says (MSB_SERVER_URL,
 *  MSB_API_KEY), else a file .env in the current directory. */
export interface ConnectionOptions {
  /** http://HOST[:PORT], https://HOST[:PORT] or unix:///PATH; default http://127.0.0.1:5555 */
  serverUrl?: string | undefined;
  apiKey?: string | undefined;
  /** Default: the key's own, or "default". */
  namespace?: string | undefined;
}

export interface CancelOptions {
  /** Ends the call, which rejects with the signal's reason; the server kills what the call started. */
  signal?: AbortSignal | undefined;
}

export interface RunOptions extends CancelOptions {
  /** Time limit in seconds; default: none. */
  timeout?: number | undefined;
}

export interface StartOptions extends CancelOptions {
  /** Default: that of the language. */
  image?: string | undefined;
  /** MiB, default 512. */
  memory?: number | undefined;
  /** Default 1; rounded. */
  cpus?: number | undefined;
  /** ["KEY=VALUE", ...] or an object. */
  envs?: readonly string[] | Readonly<Record<string, string>> | undefined;
  /** Where code and programs start. */
  workdir?: string | undefined;
  /** What the network reaches; default "public". */
  scope?: 'none' | 'public' | 'any' | undefined;
  /** Seconds, default 180. */
  timeout?: number | undefined;
  /** The server refuses these so far. */
  volumes?: readonly string[] | undefined;
  ports?: readonly string[] | undefined;
  dependsOn?: readonly string[] | undefined;
  scripts?: Readonly<Record<string, string>> | undefined;
  /** These have no effect so far. */
  shell?: string | undefined;
  exec?: string | undefined;
}

/** The options of a sandbox; a plain object will do. */
export interface SandboxOptionValues extends ConnectionOptions, Omit<StartOptions, 'signal'> {
  /** Default: sandbox-<8 hex digits>. */
  name?: string | undefined;
}

export interface SandboxOptions extends SandboxOptionValues {}
export class SandboxOptions {
  constructor(values?: SandboxOptionValues);
  static builder(): SandboxOptionsBuilder;
}

type BuilderMethods = {
  [K in keyof SandboxOptionValues]-?: (value: SandboxOptionValues[K]) => SandboxOptionsBuilder;
};
export interface SandboxOptionsBuilder extends BuilderMethods {}
export class SandboxOptionsBuilder {
  build(): SandboxOptions;
}

/** What a call printed. */
interface Printed {
  /** Standard output without the white space at its end. */
  output(): Promise<string>;
  /** Standard error without the white space at its end. */
  error(): Promise<string>;
  /** All lines of standard output, joined by newlines, otherwise as they were printed. */
  readonly stdout: string;
  /** All lines of standard error, joined by newlines, otherwise as they were printed. */
  readonly stderr: string;
  /** What was printed, as it came. */
  readonly lines: readonly Line[];
  /** Did it print more than the server keeps of a call? */
  readonly truncated: boolean;
  /** How long it took in the sandbox. */
  readonly durationMs: number | undefined;
}

/** A value or a picture that code showed beside what it printed. */
export class RichResult {
  private constructor();
  /** "text/plain", "image/png". */
  readonly mime: string;
  readonly data: Uint8Array;
  /** The data of a type of text. */
  readonly text: string | undefined;
  /** Why the data is missing: it was too large, or making it failed. */
  readonly note: string | undefined;
}

/** The outcome of run(). */
export interface Execution extends Printed {}
export class Execution {
  private constructor();
  /** "success", or "error": the code raised, ran out of time or ended its interpreter. */
  readonly status: string;
  readonly language: string;
  /** Of an error: "exception", "timeout" or "exited". */
  readonly reason: string | undefined;
  /** If the interpreter ended. */
  readonly exitCode: number | undefined;
  /** Does the next call start with a fresh interpreter? */
  readonly stateLost: boolean;
  /** What the code showed beside its output: the value of its last expression, pictures. */
  readonly results: readonly RichResult[];
  readonly timedOut: boolean;
  /** Did the code fail, or print anything but blank lines on standard error? */
  hasError(): boolean;
}

/** The outcome of command.run(). */
export interface CommandExecution extends Printed {}
export class CommandExecution {
  private constructor();
  readonly command: string;
  readonly args: readonly string[];
  /** As the program ended; 128 + n after signal n. */
  readonly exitCode: number;
  /** Is exitCode 0? */
  readonly success: boolean;
}

/** Runs programs in a sandbox. */
export class Command {
  private constructor();
  /** Runs a program, found in PATH, with these arguments; no shell is involved.  When the time
   *  limit is over, the program and all that it started are killed: CommandTimeoutError. */
  run(command: string, args?: readonly string[] | null, options?: RunOptions | number): Promise<CommandExecution>;
}

/** What a sandbox uses. */
export class Metrics {
  private constructor();
  get(options?: CancelOptions): Promise<SandboxMetrics>;
  /** As the server says it: name, namespace, running, cpu_usage, memory_usage, disk_usage. */
  all(options?: CancelOptions): Promise<Record<string, unknown>>;
  /** Percent of one CPU, since the last call; undefined if it is not known. */
  cpu(options?: CancelOptions): Promise<number | undefined>;
  /** MiB in use inside the sandbox. */
  memory(options?: CancelOptions): Promise<number | undefined>;
  /** Bytes in use on the sandbox's disk. */
  disk(options?: CancelOptions): Promise<number | undefined>;
  isRunning(options?: CancelOptions): Promise<boolean>;
}

/** A sandbox.  Use PythonSandbox or NodeSandbox, or a class of your own. */
export abstract class BaseSandbox {
  constructor(options?: SandboxOptionValues);
  /** Makes a sandbox and starts it. */
  static create<T extends BaseSandbox>(
    this: new (options?: SandboxOptionValues) => T,
    options?: SandboxOptionValues & CancelOptions,
  ): Promise<T>;
  /** A sandbox that somebody else started; SandboxNotFoundError if it is not running. */
  static attach<T extends BaseSandbox>(
    this: new (options?: SandboxOptionValues) => T,
    name: string,
    options?: ConnectionOptions & CancelOptions,
  ): Promise<T>;

  /** As the server knows it: "python", "nodejs", "sh". */
  abstract get language(): string;
  /** The image of a sandbox of this class for which none was asked. */
  abstract getDefaultImage(): Promise<string>;

  readonly command: Command;
  readonly metrics: Metrics;
  readonly name: string;
  readonly namespace: string | undefined;
  readonly serverUrl: string;
  readonly apiKey: string | undefined;
  /** Was it started here, and not stopped since? */
  readonly isStarted: boolean;
  /** Did it answer when it was started?  False also after a start that took too long. */
  readonly isReady: boolean;

  /** Starts the sandbox and waits until it answers; does nothing if it was started already. */
  start(options?: StartOptions): Promise<void>;
  start(image?: string, memory?: number, cpus?: number, timeout?: number): Promise<void>;
  /** Stops the sandbox and waits until it is gone; does nothing if it was not started. */
  stop(options?: CancelOptions): Promise<void>;
  /** Runs code in the sandbox's interpreter, which keeps its state from call to call.  At the time
   *  limit the code is interrupted: the Execution then has `timedOut`. */
  run(code: string, options?: RunOptions | number): Promise<Execution>;
}

/** A sandbox that runs Python. */
export class PythonSandbox extends BaseSandbox {
  get language(): string;
  getDefaultImage(): Promise<string>;
}

/** A sandbox that runs JavaScript with Node.js. */
export class NodeSandbox extends BaseSandbox {
  get language(): string;
  getDefaultImage(): Promise<string>;
}

/** The sandboxes of a namespace; "*" means every namespace that the key may see. */
export function listSandboxes(options?: ConnectionOptions & CancelOptions): Promise<SandboxInfo[]>;

/** The base of all errors of this package. */
export class MicrosandboxError extends Error {}
/** The sandbox was not started, or was stopped. */
export class NotStartedError extends MicrosandboxError {}
/** There is no connection to the server, or it broke; then it is not known whether the call took place. */
export class UnreachableError extends MicrosandboxError {}
/** The server did not answer in time. */
export class RequestTimeoutError extends MicrosandboxError {}
/** The answer is not what a microsandbox server says. */
export class InvalidResponseError extends MicrosandboxError {}
/** The server refused the call, or it failed. */
export class ApiError extends MicrosandboxError {
  /** The JSON-RPC code, or the server's own code where it has no JSON-RPC answer. */
  readonly code: number | undefined;
  readonly httpStatus: number;
  readonly data: unknown;
}
/** The API key is missing, wrong or expired. */
export class AuthenticationError extends ApiError {}
/** The API key is not for this namespace. */
export class AccessDeniedError extends ApiError {}
/** The server does not accept a parameter; the message names it. */
export class InvalidParamsError extends ApiError {}
/** No such sandbox is running. */
export class SandboxNotFoundError extends ApiError {}
/** The sandbox did not start, or it ended during the call. */
export class SandboxFailedError extends ApiError {}
/** The program could not be started: it is not there, or not executable. */
export class CommandNotRunError extends ApiError {}
/** The program reached its time limit and was killed. */
export class CommandTimeoutError extends ApiError {
  /** What it had printed until then. */
  readonly stdout: string;
  readonly stderr: string;
}
/** The server has as many sandboxes as it may have. */
export class LimitError extends ApiError {}
