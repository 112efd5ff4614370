// SPDX-License-Identifier: Apache-2.0
// The sandboxes.  index.d.cts describes what is public.
'use strict';

const { classes } = require('./errors.cjs');
const { CodeStream, CommandStream, ExitStatus, Process, gather, openEvents, openProcess } = require('./exec.cjs');
const { Files } = require('./files.cjs');
const { Transport, fromWire } = require('./http.cjs');
const { checkOptions, execObject, target } = require('./requests.cjs');
const { makeEndpoint, randomName } = require('./settings.cjs');
const { methods } = require('./wire.cjs');

const {
  CommandTimeoutError,
  InvalidResponseError,
  MicrosandboxError,
  NotStartedError,
  RequestTimeoutError,
  SandboxNotFoundError,
} = classes;

// What an answer may take beyond the call's own time limit, seconds.
const GRACE = 30;
const STOP_LIMIT = 60;
const QUERY_LIMIT = 30;
// After a start that was given up, the sandbox is asked to stop, and waited for that long.
const GIVEN_UP_STOP_LIMIT = 5;
const DEFAULT_MEMORY = 512;
const DEFAULT_CPUS = 1;
const DEFAULT_START_TIMEOUT = 180;
const STILL_STARTING = 'timed out waiting';

const OPTIONS = [
  'serverUrl', 'namespace', 'name', 'apiKey', 'image', 'memory', 'cpus', 'volumes', 'ports', 'envs', 'dependsOn',
  'workdir', 'shell', 'scripts', 'exec', 'scope', 'network', 'group', 'secrets', 'idleTimeout', 'timeout',
];
const START_OPTIONS = OPTIONS.slice(OPTIONS.indexOf('image'));
// Members of the configuration that are passed on as they are: [name here, name on the wire].
const PASSED_ON = [
  ['volumes', 'volumes'], ['ports', 'ports'], ['dependsOn', 'depends_on'], ['workdir', 'workdir'], ['shell', 'shell'],
  ['scripts', 'scripts'], ['exec', 'exec'], ['scope', 'scope'],
  ['network', 'network'], ['group', 'group'], ['secrets', 'secrets'],
  ['idleTimeout', 'idle_timeout'],
];

class SandboxOptions {
  constructor(values = {}) {
    checkOptions(values, OPTIONS);
    for (const key of OPTIONS) {
      if (values[key] !== undefined) this[key] = values[key];
    }
  }

  static builder() {
    return new SandboxOptionsBuilder();
  }
}

class SandboxOptionsBuilder {
  #values = {};

  build() {
    return new SandboxOptions(this.#values);
  }

  static {
    for (const key of OPTIONS) {
      this.prototype[key] = function set(value) {
        this.#values[key] = value;
        return this;
      };
    }
  }
}

function checkTimeout(timeout, name = 'timeout') {
  if (timeout === undefined || timeout === null) return undefined;
  if (typeof timeout !== 'number' || !(timeout > 0) || timeout === Infinity) {
    throw new RangeError(`${name} must be a number of seconds above 0, not ${String(timeout)}`);
  }
  return timeout;
}

const withGrace = (timeout) => (timeout === undefined ? undefined : timeout + GRACE);

/** White space as all SDKs take it off: the ASCII kinds, at the end. */
const strip = (text) => text.replace(/[ \t\r\n\v\f]+$/, '');

class Printed {
  constructor(r) {
    this.lines = r.output;
    this.truncated = r.truncated === true;
    this.durationMs = r.durationMs;
  }

  get stdout() {
    return this.#text('stdout');
  }

  get stderr() {
    return this.#text('stderr');
  }

  async output() {
    return strip(this.stdout);
  }

  async error() {
    return strip(this.stderr);
  }

  #text(stream) {
    return this.lines
      .filter((line) => line.stream === stream)
      .map((line) => line.text)
      .join('\n');
  }
}

/** Base64 as the server writes it; Buffer.from() would take anything. */
function fromBase64(text) {
  const bytes = Buffer.from(text, 'base64');
  if (bytes.toString('base64') !== text) {
    throw new InvalidResponseError("the server's answer has a result that is no base64");
  }
  return bytes;
}

class RichResult {
  constructor(r) {
    const isText = r.encoding === 'utf-8';
    this.mime = r.mime;
    this.data = isText ? Buffer.from(r.data, 'utf8') : fromBase64(r.data);
    this.text = isText ? r.data : undefined;
    this.note = r.note;
  }
}

class Execution extends Printed {
  constructor(result) {
    const r = fromWire('ReplResult', result);
    super(r);
    this.status = r.status;
    this.language = r.language;
    this.reason = r.reason;
    this.exitCode = r.exitCode;
    this.stateLost = r.stateLost === true;
    this.results = r.results.map((x) => new RichResult(x));
  }

  get timedOut() {
    return this.reason === 'timeout';
  }

  hasError() {
    const failed = this.status === 'error' || this.status === 'exception';
    return failed || this.lines.some((line) => line.stream === 'stderr' && line.text !== '');
  }
}

class CommandExecution extends Printed {
  constructor(result) {
    const r = fromWire('CommandResult', result);
    super(r);
    this.command = r.command;
    this.args = r.args;
    this.exitCode = r.exitCode;
    this.success = r.success;
  }
}

/** Of code that was streamed. */
function executionOf(stream, lines) {
  const end = stream._end;
  return new Execution({ ...end, output: lines.end(), truncated: end.truncated || lines.truncated });
}

function sandboxesOf(result) {
  if (result === null || typeof result !== 'object' || !Array.isArray(result.sandboxes)) {
    throw new InvalidResponseError("the server's answer has no proper 'sandboxes'");
  }
  return result.sandboxes;
}

const EXEC_OPTIONS = ['timeout', 'env', 'cwd', 'user', 'stdin'];
const LISTEN_OPTIONS = ['onStdout', 'onStderr'];

/** Older callers give a time limit in place of options. */
function callOptions(options, known) {
  const o = typeof options === 'number' ? { timeout: options } : options || {};
  checkOptions(o, known);
  return o;
}

class Command {
  #http;
  #target;
  #call;

  /** `target` and `call`: of the sandbox; they throw if it is not started. */
  constructor(http, targetOf, call) {
    this.#http = http;
    this.#target = targetOf;
    this.#call = call;
  }

  async run(command, args = [], options = {}) {
    const given = callOptions(options, [...EXEC_OPTIONS, ...LISTEN_OPTIONS]);
    const { timeout, signal, env, cwd, user, stdin, onStdout, onStderr } = given;
    const limit = checkTimeout(timeout) ?? undefined;
    const o = execObject(command, args, { env, cwd, user, stdin, timeout: limit });
    if ([env, cwd, user, stdin, onStdout, onStderr].every((v) => v === undefined || v === null)) {
      const params = { command, args: o.args, timeout: limit };
      return new CommandExecution(await this.#call(methods.COMMAND_RUN, params, withGrace(limit), signal));
    }
    const stream = await this.#stream(o, signal);
    const lines = await gather(stream, { onStdout, onStderr });
    const end = stream._end;
    const output = lines.end();
    if (end.reason === 'timeout') {
      const text = `Command timeout after ${limit} seconds`;
      throw new CommandTimeoutError(text, { code: -32004, httpStatus: 200, data: { output } });
    }
    return new CommandExecution({ ...end, command, args: o.args, output, truncated: lines.truncated });
  }

  async stream(command, args = [], options = {}) {
    const { signal, ...more } = callOptions(options, EXEC_OPTIONS);
    checkTimeout(more.timeout);
    return this.#stream(execObject(command, args, more), signal);
  }

  async #stream(request, signal) {
    const exchange = await openEvents(this.#http, this.#target('exec'), request, signal);
    return new CommandStream(this.#http.endpoint.url, exchange, 'exit')._begin();
  }

  async start(command, args = [], options = {}) {
    const { signal, ...more } = callOptions(options, [...EXEC_OPTIONS, 'tty', 'rows', 'cols']);
    checkTimeout(more.timeout);
    return openProcess(this.#http, this.#target('exec'), execObject(command, args, more), signal);
  }
}

class Metrics {
  #sandbox;
  #call;

  constructor(sandbox, call) {
    this.#sandbox = sandbox;
    this.#call = call;
  }

  async all(options = {}) {
    const result = await this.#call(methods.METRICS_GET, {}, QUERY_LIMIT, options.signal);
    const own = sandboxesOf(result).find((o) => o !== null && typeof o === 'object' && o.name === this.#sandbox.name);
    if (own) {
      fromWire('SandboxMetrics', own);
      return own;
    }
    throw new SandboxNotFoundError(`Sandbox ${this.#sandbox.name} is not running`, { code: -32001, httpStatus: 404 });
  }

  async get(options = {}) {
    return fromWire('SandboxMetrics', await this.all(options));
  }

  async cpu(options = {}) {
    return (await this.get(options)).cpuUsage;
  }

  async memory(options = {}) {
    return (await this.get(options)).memoryUsage;
  }

  async disk(options = {}) {
    return (await this.get(options)).diskUsage;
  }

  async isRunning(options = {}) {
    return (await this.get(options)).running;
  }
}

class BaseSandbox {
  #endpoint;
  #http;
  #options;
  #name;
  #isStarted = false;
  #isReady = false;

  constructor(options = {}) {
    this.#options = new SandboxOptions(options);
    this.#endpoint = makeEndpoint(options.serverUrl, options.apiKey);
    this.#http = new Transport(this.#endpoint);
    this.#name = options.name || randomName();
    const call = (method, params, limit, signal) => this.#startedCall(method, params, limit, signal);
    const targetOf = (what, query) => this.#target(what, query);
    this.command = new Command(this.#http, targetOf, call);
    this.files = new Files(this.#http, targetOf, call);
    this.metrics = new Metrics(this, call);
  }

  static async create(options = {}) {
    const sandbox = new this(options);
    const { signal } = options;
    try {
      await sandbox.start({ signal });
    } catch (error) {
      if (error instanceof RequestTimeoutError || signal?.aborted) await sandbox.#giveUp();
      else sandbox.#http.close();
      throw error;
    }
    return sandbox;
  }

  static async attach(name, options = {}) {
    const sandbox = new this({ ...options, name });
    sandbox.#isStarted = true;
    try {
      sandbox.#isReady = (await sandbox.info(options)).state === 'running';
    } catch (error) {
      sandbox.#isStarted = false;
      sandbox.#http.close();
      throw error;
    }
    return sandbox;
  }

  /** The same as `files`. */
  get fs() {
    return this.files;
  }

  get name() {
    return this.#name;
  }

  get namespace() {
    return this.#options.namespace;
  }

  get serverUrl() {
    return this.#endpoint.url;
  }

  get apiKey() {
    return this.#endpoint.apiKey;
  }

  get isStarted() {
    return this.#isStarted;
  }

  get isReady() {
    return this.#isReady;
  }

  async start(...args) {
    if (this.#isStarted) return;
    const [first] = args;
    const given =
      first !== null && typeof first === 'object'
        ? first
        : { image: first, memory: args[1], cpus: args[2], timeout: args[3] };
    checkOptions(given, START_OPTIONS);
    const o = { ...this.#options, ...Object.fromEntries(Object.entries(given).filter(([, v]) => v !== undefined)) };
    const timeout = checkTimeout(o.timeout) ?? DEFAULT_START_TIMEOUT;
    checkTimeout(o.idleTimeout, 'idleTimeout');
    const cpus = o.cpus ?? DEFAULT_CPUS;
    const config = {
      image: o.image || (await this.getDefaultImage()),
      memory: o.memory ?? DEFAULT_MEMORY,
      cpus: Math.max(1, Math.floor(cpus + 0.5)),
    };
    if (o.envs) config.envs = Array.isArray(o.envs) ? o.envs : Object.entries(o.envs).map(([k, v]) => `${k}=${v}`);
    for (const [here, there] of PASSED_ON) {
      if (o[here] !== undefined && o[here] !== null) config[there] = o[here];
    }
    const result = await this.#call(methods.START, { config, timeout }, timeout + GRACE, given.signal);
    this.#started(result);
  }

  #started(result) {
    if (typeof result !== 'string') {
      throw new InvalidResponseError("the server's answer to sandbox.start is no text");
    }
    this.#isStarted = true;
    this.#isReady = !result.includes(STILL_STARTING);
    if (!this.#isReady) process.emitWarning(result, 'MicrosandboxWarning');
  }

  async restart({ timeout, signal } = {}) {
    const limit = checkTimeout(timeout) ?? DEFAULT_START_TIMEOUT;
    const most = limit + STOP_LIMIT + GRACE;
    this.#started(await this.#startedCall(methods.RESTART, { timeout: limit }, most, signal));
  }

  async info({ signal } = {}) {
    return fromWire('SandboxInfo', await this.#startedCall(methods.GET, {}, QUERY_LIMIT, signal));
  }

  async keepAlive({ idleTimeout, signal } = {}) {
    checkTimeout(idleTimeout, 'idleTimeout');
    const params = { idle_timeout: idleTimeout }; // undefined: as it is; null: never
    return fromWire('SandboxInfo', await this.#startedCall(methods.KEEP_ALIVE, params, QUERY_LIMIT, signal));
  }

  async network({ signal } = {}) {
    return fromWire('NetworkInfo', await this.#startedCall(methods.NETWORK_GET, {}, QUERY_LIMIT, signal));
  }

  async setNetwork(rules, { signal } = {}) {
    return fromWire('NetworkInfo', await this.#startedCall(methods.NETWORK_SET, { rules }, QUERY_LIMIT, signal));
  }

  async logs({ source, tail, signal } = {}) {
    const result = await this.#startedCall(methods.LOGS, { source, tail }, QUERY_LIMIT, signal);
    const lines = result !== null && typeof result === 'object' ? result.lines : undefined;
    if (!Array.isArray(lines) || !lines.every((line) => typeof line === 'string')) {
      throw new InvalidResponseError("the server's answer has no proper 'lines'");
    }
    return lines;
  }

  async stop(options = {}) {
    try {
      if (this.#isStarted) await this.#call(methods.STOP, {}, STOP_LIMIT, options.signal);
    } catch (error) {
      if (!(error instanceof SandboxNotFoundError)) throw error; // that one ended before
    } finally {
      this.#http.close();
    }
    this.#isStarted = this.#isReady = false;
  }

  async run(code, options = {}) {
    const { timeout, signal, onStdout, onStderr } = callOptions(options, ['timeout', ...LISTEN_OPTIONS]);
    if (onStdout || onStderr) {
      const stream = await this.stream(code, { timeout, signal });
      return executionOf(stream, await gather(stream, { onStdout, onStderr }));
    }
    const limit = checkTimeout(timeout);
    const params = { language: this.language, code, timeout: limit };
    return new Execution(await this.#startedCall(methods.REPL_RUN, params, withGrace(limit), signal));
  }

  async stream(code, options = {}) {
    const { timeout, signal } = callOptions(options, ['timeout']);
    const request = { language: this.language, code, timeout: checkTimeout(timeout) };
    const exchange = await openEvents(this.#http, this.#target('repl'), request, signal);
    return new CodeStream(this.#http.endpoint.url, exchange, (end, lines) => executionOf({ _end: end }, lines));
  }

  /** After a start of which nobody knows how far it got. */
  async #giveUp() {
    try {
      await this.#call(methods.STOP, {}, GIVEN_UP_STOP_LIMIT);
    } catch (error) {
      if (!(error instanceof MicrosandboxError)) throw error;
    } finally {
      this.#http.close();
    }
  }

  #target(what, query) {
    if (!this.#isStarted) throw new NotStartedError();
    return target(this.#name, this.#options.namespace, what, query);
  }

  async #startedCall(method, params, limit, signal) {
    if (!this.#isStarted) throw new NotStartedError();
    return this.#call(method, params, limit, signal);
  }

  #call(method, params, limit, signal) {
    const all = { sandbox: this.#name, ...params };
    if (this.#options.namespace !== undefined) all.namespace = this.#options.namespace;
    return this.#http.call({ method, params: all, limit }, signal);
  }
}

if (Symbol.asyncDispose) {
  BaseSandbox.prototype[Symbol.asyncDispose] = function dispose() {
    return this.stop();
  };
}

class PythonSandbox extends BaseSandbox {
  get language() {
    return 'python';
  }

  async getDefaultImage() {
    return 'microsandbox/python';
  }
}

class NodeSandbox extends BaseSandbox {
  get language() {
    return 'nodejs';
  }

  async getDefaultImage() {
    return 'microsandbox/node';
  }
}

async function listSandboxes(options = {}) {
  checkOptions(options, ['serverUrl', 'apiKey', 'namespace']);
  const http = new Transport(makeEndpoint(options.serverUrl, options.apiKey));
  const params = options.namespace === undefined ? {} : { namespace: options.namespace };
  try {
    const result = await http.call({ method: methods.LIST, params, limit: QUERY_LIMIT }, options.signal);
    return sandboxesOf(result).map((o) => fromWire('SandboxInfo', o));
  } finally {
    http.close();
  }
}

module.exports = {
  BaseSandbox,
  CodeStream,
  Command,
  CommandExecution,
  CommandStream,
  Execution,
  ExitStatus,
  Files,
  Metrics,
  NodeSandbox,
  Process,
  PythonSandbox,
  RichResult,
  SandboxOptions,
  SandboxOptionsBuilder,
  listSandboxes,
};
