// SPDX-License-Identifier: Apache-2.0
// Requests that are no JSON-RPC: files, and output as it comes.
'use strict';

const { checkText } = require('./http.cjs');

const isBytes = (data) => data instanceof Uint8Array || data instanceof ArrayBuffer;

/** A misspelt option would otherwise have no effect and nobody would know. */
function checkOptions(values, known) {
  if (values === null || typeof values !== 'object') throw new TypeError('options must be an object');
  for (const key of Object.keys(values)) {
    if (!known.includes(key) && key !== 'signal') throw new TypeError(`there is no option '${key}'`);
  }
}

/** Text or bytes, as bytes. */
function bytesOf(data) {
  if (typeof data === 'string') return Buffer.from(checkText(data), 'utf8');
  if (data instanceof Uint8Array) return Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  if (data instanceof ArrayBuffer) return Buffer.from(data);
  throw new TypeError('data must be a string, a Uint8Array or an ArrayBuffer');
}

/** Path and query; members of `query` that are undefined are left out. */
function target(sandbox, namespace, what, query = {}) {
  const all = Object.entries({ ...query, namespace }).filter(([, v]) => v !== undefined && v !== null);
  const text = all.map(([k, v]) => `${k}=${encodeURIComponent(checkText(String(v)))}`).join('&');
  return `/api/v1/sandboxes/${encodeURIComponent(checkText(sandbox))}/${what}${text && `?${text}`}`;
}

/** As the server takes it: an object. */
function envObject(env) {
  if (env === undefined || env === null) return undefined;
  if (typeof env !== 'object') throw new TypeError('env must be an object, or an array of KEY=VALUE');
  if (!Array.isArray(env)) return env;
  return Object.fromEntries(
    env.map((entry) => {
      const at = entry.indexOf('=');
      if (at < 1) throw new TypeError(`env: '${entry}' is not KEY=VALUE`);
      return [entry.slice(0, at), entry.slice(at + 1)];
    }),
  );
}

/** Of exec; JSON leaves out what is undefined. */
function execObject(command, args, { env, cwd, user, timeout, stdin, tty, rows, cols }) {
  if ((args ?? undefined) !== undefined && !Array.isArray(args)) throw new TypeError('args must be an array of strings');
  const o = { command, args: args || [], env: envObject(env), cwd, user, timeout };
  if (typeof stdin === 'string') o.stdin = stdin;
  else if (stdin !== undefined && stdin !== null) o.stdin_base64 = bytesOf(stdin).toString('base64');
  return { ...o, tty: tty || undefined, rows, cols };
}

/** Of a PUT. */
function writeQuery(options) {
  checkOptions(options, ['mode', 'append', 'exclusive', 'parents', 'user']);
  const { mode, append, exclusive, parents, user } = options;
  if (mode !== undefined && !(Number.isInteger(mode) && mode > 0 && mode < 0o10000)) {
    throw new RangeError(`mode must be permission bits from 0o1 to 0o7777, not ${mode}`);
  }
  const on = (v) => (v ? 1 : undefined);
  const bits = mode === undefined ? undefined : mode.toString(8);
  return { mode: bits, append: on(append), exclusive: on(exclusive), parents: on(parents), user };
}

/** Of a GET. */
function readQuery(options) {
  checkOptions(options, ['offset', 'length', 'user']);
  const { offset, length, user } = options;
  for (const [name, n, least] of [['offset', offset, 0], ['length', length, 1]]) {
    if (n !== undefined && !(Number.isSafeInteger(n) && n >= least)) {
      throw new RangeError(`${name} must be a number of bytes, at least ${least}, not ${n}`);
    }
  }
  return { offset, length, user };
}

module.exports = { bytesOf, checkOptions, execObject, isBytes, readQuery, target, writeQuery };
