// SPDX-License-Identifier: Apache-2.0
// What tests/conformance asks of the JavaScript SDK: a JSON request a line in, an answer a line
// out.  tests/conformance/README.md has the requests.
import { createInterface } from 'node:readline';
import * as m from '../index.mjs';

const kinds = [
  ['CommandTimeoutError', 'command_timeout'],
  ['CommandNotRunError', 'not_run'],
  ['SandboxFailedError', 'sandbox_failed'],
  ['SandboxNotFoundError', 'not_found'],
  ['InvalidParamsError', 'invalid'],
  ['AccessDeniedError', 'denied'],
  ['AuthenticationError', 'unauthorized'],
  ['LimitError', 'limit'],
  ['ApiError', 'server'],
  ['InvalidResponseError', 'invalid_response'],
  ['RequestTimeoutError', 'timeout'],
  ['UnreachableError', 'unreachable'],
  ['NotStartedError', 'not_started'],
];

function describe(error) {
  if (error.name === 'AbortError') return { kind: 'cancelled' };
  const found = kinds.find(([name]) => error instanceof m[name]);
  if (!found) {
    if (error instanceof TypeError || error instanceof RangeError) return { kind: 'bad_argument', message: error.message };
    return { kind: 'bug', message: error.stack };
  }
  const o = { kind: found[1], message: error.message };
  if (error instanceof m.ApiError) {
    o.code = error.code ?? null;
    o.http_status = error.httpStatus;
  }
  if (error instanceof m.CommandTimeoutError) {
    o.stdout = error.stdout;
    o.stderr = error.stderr;
  }
  return o;
}

const boxes = {};
const camel = (name) => name.replace(/_([a-z])/g, (_, c) => c.toUpperCase());
const snake = (name) => name.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`);
const rename = (o, how) => Object.fromEntries(Object.entries(o || {}).map(([k, v]) => [how(k), v ?? null]));
const options = (q) => rename(q.options, camel);
const classOf = (q) => ({ python: m.PythonSandbox, node: m.NodeSandbox })[q.language];
const state = (sb) => ({
  name: sb.name,
  namespace: sb.namespace ?? null,
  server_url: sb.serverUrl,
  is_started: sb.isStarted,
  is_ready: sb.isReady,
});
const texts = async (x) => ({
  output: await x.output(),
  error: await x.error(),
  stdout: x.stdout,
  stderr: x.stderr,
  lines: x.lines.map((line) => [line.stream, line.text]),
  truncated: x.truncated,
  timed: x.durationMs !== undefined,
});

const operations = {
  async new(q) {
    const sb = (boxes[q.box] = new (classOf(q))(options(q)));
    return { ...state(sb), default_image: await sb.getDefaultImage() };
  },
  async create(q, signal) {
    const sb = (boxes[q.box] = await classOf(q).create({ ...options(q), signal }));
    return state(sb);
  },
  async attach(q, signal) {
    const { name, ...rest } = options(q);
    const sb = (boxes[q.box] = await classOf(q).attach(name, { ...rest, signal }));
    return state(sb);
  },
  async start(q, signal) {
    await boxes[q.box].start({ ...options(q), signal });
    return state(boxes[q.box]);
  },
  async stop(q, signal) {
    await boxes[q.box].stop({ signal });
    return state(boxes[q.box]);
  },
  async run(q, signal) {
    const x = await boxes[q.box].run(q.code, { timeout: q.timeout, signal });
    return {
      ...(await texts(x)),
      status: x.status,
      language: x.language,
      has_error: x.hasError(),
      reason: x.reason ?? null,
      exit_code: x.exitCode ?? null,
      state_lost: x.stateLost,
      timed_out: x.timedOut,
      results: x.results.map((r) => [r.mime, r.text ?? null, Buffer.from(r.data).toString('hex'), r.note ?? null]),
    };
  },
  async command(q, signal) {
    const x = await boxes[q.box].command.run(q.command, q.args, { timeout: q.timeout, signal });
    return { ...(await texts(x)), command: x.command, args: x.args, exit_code: x.exitCode, success: x.success };
  },
  async metrics(q, signal) {
    const value = await boxes[q.box].metrics[camel(q.what)]({ signal });
    return value ?? null;
  },
  async list(q, signal) {
    const found = await m.listSandboxes({ ...options(q), signal });
    const key = (o) => `${o.namespace}/${o.name}`;
    return found.map((o) => rename(o, snake)).sort((a, b) => (key(a) < key(b) ? -1 : 1));
  },
};

const controllers = {};
const say = (o) => process.stdout.write(`${JSON.stringify(o)}\n`);
process.removeAllListeners('warning');
for await (const line of createInterface({ input: process.stdin, crlfDelay: Infinity })) {
  const q = JSON.parse(line);
  if (q.op === 'cancel') {
    controllers[q.target].abort();
    say({ id: q.id, ok: null });
    continue;
  }
  controllers[q.id] = new AbortController();
  operations[q.op](q, controllers[q.id].signal)
    .then((ok) => say({ id: q.id, ok }))
    .catch((error) => say({ id: q.id, error: describe(error) }));
}
process.exit(0);
