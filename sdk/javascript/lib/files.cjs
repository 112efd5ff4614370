// SPDX-License-Identifier: Apache-2.0
// Files of a sandbox.  index.d.cts describes what is public.
'use strict';

const { once } = require('node:events');
const { classes } = require('./errors.cjs');
const { JSON_TYPE, fromWire, refused } = require('./http.cjs');
const { bytesOf, checkOptions, isBytes, readQuery, writeQuery } = require('./requests.cjs');
const { methods } = require('./wire.cjs');

const BYTES_TYPE = 'application/octet-stream';

/** The pieces of what is uploaded. */
async function* piecesOf(source) {
  if (typeof source === 'string' || isBytes(source)) {
    throw new TypeError('a source is a stream or pieces of bytes; write() takes text and bytes');
  }
  for await (const piece of source) yield bytesOf(piece);
}

function fileInfo(httpStatus, body) {
  let o;
  try {
    o = httpStatus === 200 ? JSON.parse(body.toString('utf8')) : undefined;
  } catch {
    o = undefined;
  }
  const isInfo = o !== null && typeof o === 'object' && !('error' in o);
  return isInfo ? fromWire('FileInfo', o) : refused(httpStatus, body);
}

class Files {
  #http;
  #target;
  #call;

  /** `target` and `call`: of the sandbox; they throw if it is not started. */
  constructor(http, target, call) {
    this.#http = http;
    this.#target = target;
    this.#call = call;
  }

  async #open(path, options) {
    const target = this.#target('files', { path, ...readQuery(options) });
    options.signal?.throwIfAborted();
    const exchange = this.#http.exchange({ method: 'GET', target, accept: BYTES_TYPE }, options.signal);
    const response = await exchange.start();
    if (response.statusCode !== 200) refused(response.statusCode, await exchange.body());
    return exchange;
  }

  async readStream(path, options = {}) {
    return (await this.#open(path, options)).pieces();
  }

  async read(path, options = {}) {
    return (await this.#open(path, options)).body();
  }

  async readText(path, options = {}) {
    const data = await this.read(path, options);
    try {
      return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(data);
    } catch {
      throw new TypeError(`${path} is no text in UTF-8`);
    }
  }

  async download(path, writable, options = {}) {
    let size = 0;
    let failure;
    const failed = (error) => {
      failure ??= error;
    };
    writable.on('error', failed);
    try {
      for await (const data of await this.readStream(path, options)) {
        size += data.length;
        // once() throws what the stream says while it is waited for.
        if (!writable.write(data)) await once(writable, 'drain', { signal: options.signal });
        if (failure !== undefined) throw failure;
      }
    } finally {
      writable.off('error', failed);
    }
    return size;
  }

  async write(path, data, options = {}) {
    return this.#put(path, bytesOf(data), undefined, options);
  }

  async upload(path, source, options = {}) {
    return this.#put(path, undefined, piecesOf(source), options);
  }

  async #put(path, body, source, options) {
    const target = this.#target('files', { path, ...writeQuery(options) });
    options.signal?.throwIfAborted();
    const exchange = this.#http.exchange(
      { method: 'PUT', target, accept: JSON_TYPE, type: BYTES_TYPE, body },
      options.signal,
    );
    const response = await exchange.start(body, source);
    return fileInfo(response.statusCode, await exchange.body());
  }

  async list(path, options = {}) {
    checkOptions(options, ['user']);
    const { user, signal } = options;
    const result = await this.#call(methods.FS_LIST, { path, user }, undefined, signal);
    if (result === null || typeof result !== 'object' || !Array.isArray(result.entries)) {
      throw new classes.InvalidResponseError("the server's answer has no proper 'entries'");
    }
    return result.entries.map((o) => fromWire('FileInfo', o));
  }

  async stat(path, options = {}) {
    checkOptions(options, ['follow', 'user']);
    const { follow, user, signal } = options;
    return this.#info(methods.FS_STAT, { path, follow: follow || undefined, user }, signal);
  }

  async mkdir(path, options = {}) {
    checkOptions(options, ['parents', 'mode', 'user']);
    const { parents, mode, user, signal } = options;
    return this.#info(methods.FS_MKDIR, { path, parents: parents || undefined, mode, user }, signal);
  }

  async remove(path, options = {}) {
    checkOptions(options, ['recursive', 'user']);
    const { recursive, user, signal } = options;
    return this.#info(methods.FS_REMOVE, { path, recursive: recursive || undefined, user }, signal);
  }

  async rename(path, to, options = {}) {
    checkOptions(options, ['user']);
    const { user, signal } = options;
    return this.#info(methods.FS_RENAME, { path, to, user }, signal);
  }

  async #info(method, params, signal) {
    return fromWire('FileInfo', await this.#call(method, params, undefined, signal));
  }
}

module.exports = { Files };
