// SPDX-License-Identifier: Apache-2.0
// What tests/conformance asks of the JavaScript SDK: a JSON request a line in, an answer a line
// out.  tests/conformance/README.md has the requests.
import { createInterface } from 'node:readline';
import { Writable } from 'node:stream';
import * as m from '../index.mjs';

const kinds = [
  ['FileError', 'file'],
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
  if (error instanceof SourceFailed) return { kind: 'source' };
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
  if (error instanceof m.FileError) {
    o.errno = error.errno ?? null;
    o.path = error.path ?? null;
  }
  return o;
}

/** What an upload reads from. */
class SourceFailed extends Error {}

const BLOCK = Buffer.from(Array.from({ length: 65521 }, (_, i) => (i * 7 + (i >> 8)) & 255));
const BLOCKS = Buffer.concat(Array(20).fill(BLOCK));

/** Pieces of the content that README.md describes. */
function* pattern({ size, chunk = 100000, fail_at: failAt = size }) {
  for (let at = 0; at < size; at += chunk) {
    if (at >= failAt) throw new SourceFailed();
    const start = at % BLOCK.length;
    yield BLOCKS.subarray(start, start + Math.min(chunk, size - at));
  }
}

const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n;
});

class Sink extends Writable {
  crc = ~0;

  _write(data, encoding, done) {
    for (const byte of data) this.crc = CRC[(this.crc ^ byte) & 255] ^ (this.crc >>> 8);
    done();
  }
}

const dataOf = (q, text = 'text', binary = 'base64') => (binary in q ? Buffer.from(q[binary], 'base64') : q[text]);
const some = (q, ...names) => Object.fromEntries(names.filter((n) => n in q).map((n) => [camel(n), q[n]]));
const fileOf = (info) => ({ ...rename(info, snake), target: info.target ?? null });
const WRITE = ['mode', 'append', 'exclusive', 'parents', 'user'];
const streams = {};
const readOf = {}; // of a stream: what came since it was last said

function listeners(q) {
  if (!q.listen) return [{}, {}];
  const heard = { stdout: '', stderr: '' };
  const listen = (stream) => (text) => {
    heard[stream] += text;
  };
  return [{ heard }, { onStdout: listen('stdout'), onStderr: listen('stderr') }];
}

async function until(stream, text) {
  const read = readOf[stream];
  while (text === undefined || !read.stdout.includes(text)) {
    const { done, value } = await streams[stream].next();
    if (done) break;
    read[value.stream] += value.text;
    read[`${value.stream}_size`] += value.data.length;
  }
  readOf[stream] = { stdout: '', stderr: '', stdout_size: 0, stderr_size: 0 };
  return read;
}

/** A signal ends a stream for good; here it may only end the waiting for it. */
async function watched(stream, signal, work) {
  const end = () => streams[stream].close();
  signal.addEventListener('abort', end, { once: true });
  try {
    return await work();
  } catch (error) {
    throw signal.aborted ? signal.reason : error;
  } finally {
    signal.removeEventListener('abort', end);
  }
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

const infoOf = (o) => ({ ...rename(o, snake), ports: o.ports.map((p) => rename(p, snake)) });

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
    const [heard, more] = listeners(q);
    const x = await boxes[q.box].run(q.code, { timeout: q.timeout, signal, ...more });
    return {
      ...(await texts(x)),
      ...heard,
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
    const [heard, more] = listeners(q);
    const stdin = dataOf(q, 'stdin', 'stdin_base64');
    const options = { timeout: q.timeout, signal, stdin, ...some(q, 'env', 'cwd', 'user'), ...more };
    const x = await boxes[q.box].command.run(q.command, q.args, options);
    return { ...(await texts(x)), ...heard, command: x.command, args: x.args, exit_code: x.exitCode, success: x.success };
  },
  async info(q, signal) {
    return infoOf(await boxes[q.box].info({ signal }));
  },
  async keep_alive(q, signal) {
    return infoOf(await boxes[q.box].keepAlive({ ...some(q, 'idle_timeout'), signal }));
  },
  async network(q, signal) {
    const box = boxes[q.box];
    const n = await (q.rules ? box.setNetwork(q.rules, { signal }) : box.network({ signal }));
    return { ...n, group: n.group ?? null };
  },
  async logs(q, signal) {
    return boxes[q.box].logs({ ...some(q, 'source', 'tail'), signal });
  },
  async restart(q, signal) {
    await boxes[q.box].restart({ ...some(q, 'timeout'), signal });
    return state(boxes[q.box]);
  },

  async read_file(q, signal) {
    const data = await boxes[q.box].files.read(q.path, { ...some(q, 'offset', 'length', 'user'), signal });
    return data.toString('base64');
  },
  async read_text(q, signal) {
    return boxes[q.box].fs.readText(q.path, { ...some(q, 'offset', 'length', 'user'), signal });
  },
  async write_file(q, signal) {
    return fileOf(await boxes[q.box].files.write(q.path, dataOf(q), { ...some(q, ...WRITE), signal }));
  },
  async upload(q, signal) {
    return fileOf(await boxes[q.box].files.upload(q.path, pattern(q), { ...some(q, ...WRITE), signal }));
  },
  async download(q, signal) {
    const sink = new Sink();
    const size = await boxes[q.box].files.download(q.path, sink, { ...some(q, 'offset', 'length', 'user'), signal });
    await new Promise((resolve) => sink.end(resolve));
    return { size, crc32: ~sink.crc >>> 0 };
  },
  async list_files(q, signal) {
    return (await boxes[q.box].files.list(q.path, { ...some(q, 'user'), signal })).map(fileOf);
  },
  async stat(q, signal) {
    return fileOf(await boxes[q.box].files.stat(q.path, { ...some(q, 'follow', 'user'), signal }));
  },
  async mkdir(q, signal) {
    return fileOf(await boxes[q.box].files.mkdir(q.path, { ...some(q, 'parents', 'mode', 'user'), signal }));
  },
  async remove(q, signal) {
    return fileOf(await boxes[q.box].files.remove(q.path, { ...some(q, 'recursive', 'user'), signal }));
  },
  async rename(q, signal) {
    return fileOf(await boxes[q.box].files.rename(q.path, q.to, { ...some(q, 'user'), signal }));
  },

  async open(q) {
    const sb = boxes[q.box];
    const more = { timeout: q.timeout, ...some(q, 'env', 'cwd', 'user', 'tty', 'rows', 'cols') };
    const options = { ...more, stdin: dataOf(q, 'stdin', 'stdin_base64') };
    const open = {
      code: () => sb.stream(q.code, { timeout: q.timeout }),
      command: () => sb.command.stream(q.command, q.args, options),
      process: () => sb.command.start(q.command, q.args, options),
    };
    const s = await open[q.how]();
    streams[q.stream] = s;
    readOf[q.stream] = { stdout: '', stderr: '', stdout_size: 0, stderr_size: 0 };
    return { pid: s.pid ?? null };
  },
  async until(q, signal) {
    return watched(q.stream, signal, () => until(q.stream, q.text));
  },
  async finish(q, signal) {
    return watched(q.stream, signal, async () => {
      const found = await until(q.stream);
      const end = await streams[q.stream].wait();
      const o = { ...found, timed: end.durationMs !== undefined, timed_out: end.timedOut };
      for (const name of ['exitCode', 'success', 'reason', 'signal', 'status', 'language', 'stateLost']) {
        if (name in end) o[snake(name)] = end[name] ?? null;
      }
      return o;
    });
  },
  async input(q) {
    await streams[q.stream].write(dataOf(q));
    return null;
  },
  async close_input(q) {
    await streams[q.stream].closeStdin();
    return null;
  },
  async resize(q) {
    await streams[q.stream].resize(q.rows, q.cols);
    return null;
  },
  async signal(q) {
    await streams[q.stream].signal(q.signal);
    return null;
  },
  async close(q) {
    await streams[q.stream].close();
    return null;
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
