// SPDX-License-Identifier: Apache-2.0
import type {
  FileInfo, Line, NetworkCounter, NetworkInfo, NetworkMember, PortInfo, SandboxInfo, SandboxMetrics,
} from './lib/types.cjs';

export type { FileInfo, Line, NetworkCounter, NetworkInfo, NetworkMember, PortInfo, SandboxInfo, SandboxMetrics };

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

/** Is called with each piece of text as it comes; what it returns is waited for. */
export type Listener = (text: string) => void | Promise<void>;

export interface ListenOptions {
  onStdout?: Listener | undefined;
  onStderr?: Listener | undefined;
}

export interface ExecOptions extends RunOptions {
  /** Added to the sandbox's environment: an object, or ["KEY=VALUE", ...]. */
  env?: Readonly<Record<string, string>> | readonly string[] | undefined;
  /** Where it starts. */
  cwd?: string | undefined;
  /** "name", "uid", "name:group"; default: the image's. */
  user?: string | undefined;
  /** Its input. */
  stdin?: string | Uint8Array | ArrayBuffer | undefined;
}

export interface ProcessOptions extends ExecOptions {
  /** A terminal: all output is "stdout". */
  tty?: boolean | undefined;
  /** Of the terminal; default 24. */
  rows?: number | undefined;
  /** Of the terminal; default 80. */
  cols?: number | undefined;
}

/** A secret that the sandbox uses without having it: its environment has a placeholder under the
 *  name, and plain HTTP requests to the hosts get the value. */
export interface Secret {
  /** Of the environment variable. */
  name: string;
  value: string;
  /** 'example.org', '*.example.org', 'example.org:8080'. */
  hosts: readonly string[];
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
  scope?: 'none' | 'group' | 'public' | 'any' | undefined;
  /** Rules on top of the scope: 'allow tcp example.org:443', 'default deny', 'limit connects 50'. */
  network?: readonly string[] | undefined;
  /** Of scope "group": the sandboxes of the same group reach each other by name. */
  group?: string | undefined;
  /** What it uses without having it. */
  secrets?: readonly Readonly<Secret>[] | undefined;
  /** Seconds, default 180. */
  timeout?: number | undefined;
  /** Seconds without use after which it is stopped; default: never. */
  idleTimeout?: number | undefined;
  /** To publish on the server's machine: 'HOST:GUEST', '0:GUEST', 'ADDRESS:HOST:GUEST/udp'. */
  ports?: readonly string[] | undefined;
  /** 'NAME:PATH[:ro]': named volumes, or paths of the server's host that it allows. */
  volumes?: readonly string[] | undefined;
  /** The server refuses these so far. */
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
  run(
    command: string,
    args?: readonly string[] | null,
    options?: (ExecOptions & ListenOptions) | number,
  ): Promise<CommandExecution>;
  /** As run(), with the output as it comes.  A time limit that is reached is no error: `exit.timedOut`. */
  stream(command: string, args?: readonly string[] | null, options?: ExecOptions): Promise<CommandStream>;
  /** Starts a program whose input is written while it runs. */
  start(command: string, args?: readonly string[] | null, options?: ProcessOptions): Promise<Process>;
}

/** A piece of what is printed, as it came. */
export interface Output {
  readonly stream: 'stdout' | 'stderr';
  readonly data: Uint8Array;
  /** The same as text; what is no UTF-8 is U+FFFD.  A character that is cut is in the later piece. */
  readonly text: string;
}

/** How a program ended. */
export class ExitStatus {
  private constructor();
  /** 128 + n after signal n. */
  readonly exitCode: number;
  /** Is exitCode 0? */
  readonly success: boolean;
  /** "exited", "signal" or "timeout". */
  readonly reason: string;
  /** The number of the signal that ended it, if one did. */
  readonly signal: number | undefined;
  readonly durationMs: number | undefined;
  readonly timedOut: boolean;
}

/** `for await` it; leaving the loop early kills what runs. */
interface OutputStream extends AsyncIterableIterator<Output> {
  /** Kills what runs, if it has not ended. */
  close(): Promise<void>;
}

/** A program that runs: the output as it comes. */
export interface CommandStream extends OutputStream {}
export class CommandStream {
  private constructor();
  readonly pid: number | undefined;
  /** Undefined while it runs. */
  readonly exit: ExitStatus | undefined;
  /** Waits for the end; output that was not read until then is dropped. */
  wait(): Promise<ExitStatus>;
}

/** Code that runs: the output as it comes. */
export interface CodeStream extends OutputStream {}
export class CodeStream {
  private constructor();
  /** Waits for the end; output that was not read until then is dropped, and the Execution has none. */
  wait(): Promise<Execution>;
}

/** A program with input: write to it while the output comes. */
export interface Process extends OutputStream {}
export class Process {
  private constructor();
  readonly pid: number | undefined;
  /** Undefined while it runs. */
  readonly exit: ExitStatus | undefined;
  /** Input; a string is sent as UTF-8.  Waits while the program takes none. */
  write(data: string | Uint8Array | ArrayBuffer): Promise<void>;
  /** Ends the input. */
  closeStdin(): Promise<void>;
  /** Of the terminal. */
  resize(rows: number, cols: number): Promise<void>;
  /** "SIGINT" or a number: to the foreground of the terminal, else to the program and what it started. */
  signal(signal: string | number): Promise<void>;
  /** Waits for the end; output that was not read until then is dropped. */
  wait(): Promise<ExitStatus>;
}

export interface FileOptions extends CancelOptions {
  /** With whose rights: "name", "uid", "name:group"; default: the image's. */
  user?: string | undefined;
}

export interface ReadOptions extends FileOptions {
  /** Where to begin, bytes. */
  offset?: number | undefined;
  /** How much at most, bytes. */
  length?: number | undefined;
}

export interface WriteOptions extends FileOptions {
  /** Permission bits. */
  mode?: number | undefined;
  /** At the end of the file, instead of replacing it. */
  append?: boolean | undefined;
  /** The file must not exist. */
  exclusive?: boolean | undefined;
  /** Makes the directories on the way to it. */
  parents?: boolean | undefined;
}

/** What download() writes to: a stream.Writable. */
interface WritableLike {
  write(data: Uint8Array): boolean;
  on(event: 'error', listener: (error: Error) => void): unknown;
  off(event: 'error', listener: (error: Error) => void): unknown;
}

/** Files of a sandbox.  Paths are absolute.  What fails in the sandbox is a FileError. */
export class Files {
  private constructor();
  /** The content; a Buffer. */
  read(path: string, options?: ReadOptions): Promise<Uint8Array>;
  /** The content as text; TypeError if it is no UTF-8. */
  readText(path: string, options?: ReadOptions): Promise<string>;
  /** The content piece by piece, of any size. */
  readStream(path: string, options?: ReadOptions): Promise<AsyncIterableIterator<Uint8Array>>;
  /** Writes the content to a stream, which stays open.  Returns how many bytes there were. */
  download(path: string, writable: WritableLike, options?: ReadOptions): Promise<number>;
  /** A file that is there is replaced as a whole, unless `append`. */
  write(path: string, data: string | Uint8Array | ArrayBuffer, options?: WriteOptions): Promise<FileInfo>;
  /** As write(), of any size: from a stream.Readable, or pieces.  If that fails, the file stays as it was. */
  upload(
    path: string,
    source: AsyncIterable<string | Uint8Array> | Iterable<string | Uint8Array>,
    options?: WriteOptions,
  ): Promise<FileInfo>;
  /** The entries of a directory, sorted by name; symbolic links are not followed. */
  list(path: string, options?: FileOptions): Promise<FileInfo[]>;
  /** `follow`: of a symbolic link, what it points to. */
  stat(path: string, options?: FileOptions & { follow?: boolean | undefined }): Promise<FileInfo>;
  /** `parents`: makes those on the way too, and one that is there is no error. */
  mkdir(
    path: string,
    options?: FileOptions & { parents?: boolean | undefined; mode?: number | undefined },
  ): Promise<FileInfo>;
  /** `recursive`: a directory with all that it holds.  Returns the file as it was. */
  remove(path: string, options?: FileOptions & { recursive?: boolean | undefined }): Promise<FileInfo>;
  /** A file that has the new name is replaced.  Returns the file at its new place. */
  rename(path: string, to: string, options?: FileOptions): Promise<FileInfo>;
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
  readonly files: Files;
  /** The same as `files`. */
  readonly fs: Files;
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
  run(code: string, options?: (RunOptions & ListenOptions) | number): Promise<Execution>;
  /** As run(), with the output as it comes. */
  stream(code: string, options?: RunOptions): Promise<CodeStream>;
  /** Stops the sandbox and starts it again, configured as it was, with a fresh disk.  `timeout`: of the
   *  start, seconds; default 180. */
  restart(options?: RunOptions): Promise<void>;
  /** What the server knows of the sandbox. */
  info(options?: CancelOptions): Promise<SandboxInfo>;
  /** Counts as use, so that the sandbox is not stopped as idle.  `idleTimeout`: from now on that one,
   *  seconds; null: it is never stopped as idle. */
  keepAlive(options?: CancelOptions & { idleTimeout?: number | null | undefined }): Promise<SandboxInfo>;
  /** What the network may reach now, who is in its group, and how often it was denied what. */
  network(options?: CancelOptions): Promise<NetworkInfo>;
  /** Gives the network other rules in place of all that it has, at once: what they do not allow is cut.
   *  `rules`: as `network` of start(); an empty array leaves the scope alone. */
  setNetwork(rules: readonly string[], options?: CancelOptions): Promise<NetworkInfo>;
  /** The last lines (`tail`, default 200) of a log: "console" (default; what the sandbox's kernel and
   *  first process print), "vm", "supervisor" or "net" (what the network was denied). */
  logs(
    options?: CancelOptions & { source?: 'console' | 'vm' | 'supervisor' | 'net' | undefined; tail?: number | undefined },
  ): Promise<string[]>;
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
/** A file operation failed in the sandbox. */
export class FileError extends ApiError {
  /** "ENOENT" and the like. */
  readonly errno: string | undefined;
  /** In the sandbox. */
  readonly path: string | undefined;
}
/** The server, or the key, has as many sandboxes as it may have, or sends too many requests. */
export class LimitError extends ApiError {}
