// SPDX-License-Identifier: Apache-2.0
// The sandboxes.  index.d.cts describes what is public.
'use strict';

const { classes } = require('./errors.cjs');
const { Transport, fromWire } = require('./http.cjs');
const { makeEndpoint, randomName } = require('./settings.cjs');
const { methods } = require('./wire.cjs');

const { InvalidResponseError, MicrosandboxError, NotStartedError, RequestTimeoutError, SandboxNotFoundError } = classes;

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
  'workdir', 'shell', 'scripts', 'exec', 'scope', 'timeout',
];
const START_OPTIONS = OPTIONS.slice(OPTIONS.indexOf('image'));
// Members of the configuration that are passed on as they are: [name here, name on the wire].
const PASSED_ON = [
  ['volumes', 'volumes'], ['ports', 'ports'], ['dependsOn', 'depends_on'], ['workdir', 'workdir'], ['shell', 'shell'],
  ['scripts', 'scripts'], ['exec', 'exec'], ['scope', 'scope'],
];

/** A misspelt option would otherwise have no effect and nobody would know. */
function checkOptions(values, known) {
  if (values === null || typeof values !== 'object') throw new TypeError('options must be an object');
  for (const key of Object.keys(values)) {
    if (!known.includes(key) && key !== 'signal') throw new TypeError(`there is no option '${key}'`);
  }
}

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

function checkTimeout(timeout) {
  if (timeout === undefined || timeout === null) return undefined;
  if (typeof timeout !== 'number' || !(timeout > 0) || timeout === Infinity) {
    throw new RangeError(`timeout must be a number of seconds above 0, not ${String(timeout)}`);
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

function sandboxesOf(result) {
  if (result === null || typeof result !== 'object' || !Array.isArray(result.sandboxes)) {
    throw new InvalidResponseError("the server's answer has no proper 'sandboxes'");
  }
  return result.sandboxes;
}

/** Older callers give a time limit in place of options. */
const callOptions = (options) => (typeof options === 'number' ? { timeout: options } : options || {});

class Command {
  #sandbox;
  #call;

  constructor(sandbox, call) {
    this.#sandbox = sandbox;
    this.#call = call;
  }

  async run(command, args = [], options = {}) {
    const { timeout, signal } = callOptions(options);
    if (args !== null && !Array.isArray(args)) throw new TypeError('args must be an array of strings');
    const limit = checkTimeout(timeout);
    const params = { command, args: args || [], timeout: limit };
    return new CommandExecution(await this.#call(methods.COMMAND_RUN, params, withGrace(limit), signal));
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
    this.command = new Command(this, call);
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
      sandbox.#isReady = await sandbox.metrics.isRunning(options);
    } catch (error) {
      sandbox.#isStarted = false;
      sandbox.#http.close();
      throw error;
    }
    return sandbox;
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
    if (typeof result !== 'string') {
      throw new InvalidResponseError("the server's answer to sandbox.start is no text");
    }
    this.#isStarted = true;
    this.#isReady = !result.includes(STILL_STARTING);
    if (!this.#isReady) process.emitWarning(result, 'MicrosandboxWarning');
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
    const { timeout, signal } = callOptions(options);
    const limit = checkTimeout(timeout);
    const params = { language: this.language, code, timeout: limit };
    return new Execution(await this.#startedCall(methods.REPL_RUN, params, withGrace(limit), signal));
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
  Command,
  CommandExecution,
  Execution,
  Metrics,
  NodeSandbox,
  PythonSandbox,
  RichResult,
  SandboxOptions,
  SandboxOptionsBuilder,
  listSandboxes,
};
