// SPDX-License-Identifier: Apache-2.0
// Calls over HTTP.
//
// node:http and not fetch(): Node's fetch gives up after 300 s without an answer, which a long
// run() takes.  No proxy is used, since the server is on this machine or in one's own network.
'use strict';

const http = require('node:http');
const https = require('node:https');
const { classes, byName, byStatus } = require('./errors.cjs');
const wire = require('./wire.cjs');

const { ApiError, FileError, InvalidResponseError, RequestTimeoutError, UnreachableError } = classes;
const BODY_MAX = 512 * 1024 * 1024;
const TIMER_MAX = 0x7fffffff;
const JSON_TYPE = 'application/json';

/** A member of an answer as wire.types says it must be. */
function check(value, kind, name) {
  const bad = () => new InvalidResponseError(`the server's answer has no proper '${name}'`);
  if (Array.isArray(kind)) {
    if (!Array.isArray(value)) throw bad();
    return value.map((v) => (wire.types[kind[0]] ? fromWire(kind[0], v) : check(v, kind[0], name)));
  }
  const fits = kind === 'integer' ? Number.isInteger(value) : typeof value === kind;
  if (!fits) throw bad();
  return value;
}

/** An answer's object of a type of the schema, with names as JavaScript has them. */
function fromWire(type, o) {
  if (o === null || typeof o !== 'object' || Array.isArray(o)) {
    throw new InvalidResponseError("the server's answer is no object");
  }
  const out = {};
  for (const [name, here, kind, optional] of wire.types[type]) {
    const value = optional === 'empty' ? o[name] ?? [] : o[name];
    out[here] = optional === true && (value === null || value === undefined) ? undefined : check(value, kind, name);
  }
  return out;
}

function toJson(o) {
  const text = JSON.stringify(o, (key, value) => {
    if (typeof value === 'number' && !Number.isFinite(value)) throw new RangeError(`${key}: ${value} is no number`);
    if (typeof value === 'string') checkText(value);
    return value;
  });
  return Buffer.from(text, 'utf8');
}

function checkText(text) {
  if (/\p{Surrogate}/u.test(text)) {
    throw new TypeError('a text has half a surrogate pair in it, which UTF-8 cannot express');
  }
  return text;
}

function plainError(message, code, httpStatus) {
  const Class = byStatus[httpStatus] || ApiError;
  return new Class(message, { code: Number.isInteger(code) ? code : undefined, httpStatus });
}

/** Of the member "error" of an answer, or of an event. */
function errorOf(error, httpStatus) {
  if (typeof error !== 'object' || typeof error.message !== 'string') {
    return new InvalidResponseError(`the server's answer (HTTP ${httpStatus}) has an error without a message`);
  }
  const Class = byName[wire.errors[error.code]] || ApiError;
  return new Class(error.message, { code: error.code, httpStatus, data: error.data });
}

/** The result of a call, or its error thrown. */
function decode(httpStatus, body) {
  let o;
  try {
    o = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(body));
  } catch {
    const text = body.subarray(0, 200).toString('utf8').trim();
    if (httpStatus === 200) throw new InvalidResponseError(`the server's answer is no JSON: '${text}'`);
    throw plainError(text || `HTTP status ${httpStatus}`, undefined, httpStatus);
  }
  if (o === null || typeof o !== 'object' || Array.isArray(o)) {
    throw new InvalidResponseError(`the server's answer (HTTP ${httpStatus}) is no object`);
  }
  const { error } = o;
  if (typeof error === 'string') {
    if (typeof o.errno === 'string') {
      throw new FileError(error, { code: o.code ?? undefined, httpStatus, data: { errno: o.errno, path: o.path } });
    }
    throw plainError(error, o.code, httpStatus);
  }
  if (error !== undefined && error !== null) throw errorOf(error, httpStatus);
  if (httpStatus !== 200 || !('result' in o)) {
    throw new InvalidResponseError(`the server's answer (HTTP ${httpStatus}) has neither result nor error`);
  }
  return o.result;
}

/** Throws what an answer says that is not what was asked for. */
function refused(httpStatus, body) {
  decode(httpStatus, body);
  throw new InvalidResponseError(`the server's answer (HTTP ${httpStatus}) is not what was asked for`);
}

async function bodyOf(response) {
  const chunks = [];
  let length = 0;
  for await (const chunk of response) {
    length += chunk.length;
    if (length > BODY_MAX) throw new InvalidResponseError('the answer is too long');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/**
 * One request.  `failure` is why it ended early, once it has: what reads the answer throws that.
 */
class Exchange {
  #transport;
  #request;
  #signal;
  #abort;
  #timer;
  #connected = false;
  #reject;
  response;
  socket; // after an upgrade
  failure;

  constructor(transport, request, signal) {
    this.#transport = transport;
    this.#request = request;
    this.#signal = signal;
    this.#abort = () => this.fail(signal.reason);
    signal?.addEventListener('abort', this.#abort, { once: true });
    request.on('socket', (socket) => {
      this.#connected = request.reusedSocket;
      if (this.#connected) return;
      socket.once(transport.endpoint.tls ? 'secureConnect' : 'connect', () => {
        this.#connected = true;
      });
    });
    request.on('error', (error) => this.fail(this.#transport.describe(error, this.#connected)));
  }

  /** Ends it early, for this reason. */
  fail(error) {
    this.failure ??= error;
    this.#request.destroy();
    this.response?.destroy();
    this.socket?.destroy();
    this.end();
    this.#reject?.(this.failure);
  }

  /** `ms` from now it fails with what `reason` makes; the last one given counts. */
  limit(ms, reason) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.fail(reason()), Math.min(ms, TIMER_MAX));
  }

  unlimit() {
    clearTimeout(this.#timer);
  }

  /** It is over: its signal and limit mean nothing any more. */
  end() {
    this.unlimit();
    this.#signal?.removeEventListener('abort', this.#abort);
  }

  /** Sends `body`, or pieces of it, and waits for the head of the answer: response, or [socket, head]
   *  of an upgrade. */
  async start(body, source) {
    const answered = new Promise((resolve, reject) => {
      this.#reject = reject;
      this.#request.on('response', (response) => {
        this.response = response;
        response.on('error', (error) => this.fail(this.#transport.describe(error, true)));
        resolve(response);
      });
      this.#request.on('upgrade', (response, socket, head) => {
        this.response = response;
        this.socket = socket;
        resolve([socket, head]);
      });
    });
    if (source === undefined) this.#request.end(body);
    else this.#pump(source).catch((error) => this.fail(error));
    return answered;
  }

  async #pump(source) {
    for await (const data of source) {
      if (this.failure !== undefined || this.response !== undefined) return;
      if (data.length && !this.#request.write(data)) await this.#drained();
    }
    this.#request.end();
  }

  #drained() {
    return new Promise((resolve) => {
      const done = () => {
        this.#request.off('drain', done);
        this.#request.off('response', done);
        this.#request.off('close', done);
        resolve();
      };
      for (const event of ['drain', 'response', 'close']) this.#request.on(event, done);
    });
  }

  /** Pieces of the answer. */
  async *pieces() {
    try {
      for await (const chunk of this.response) {
        if (this.failure !== undefined) throw this.failure;
        yield chunk;
      }
      if (this.failure !== undefined) throw this.failure;
    } catch (error) {
      throw this.failure ?? error;
    } finally {
      this.close();
    }
  }

  /** Gives up what has not come yet. */
  close() {
    this.end();
    // Else the connection can be used again.
    if (!this.response?.complete || !this.#request.writableFinished) this.#request.destroy();
  }

  async body() {
    try {
      return await bodyOf(this.response);
    } catch (error) {
      this.fail(error instanceof InvalidResponseError ? error : this.#transport.describe(error, true));
      throw this.failure;
    } finally {
      this.close();
    }
  }
}

/** Connections to one server, kept open from call to call; a call has its own while it lasts. */
class Transport {
  constructor(endpoint) {
    this.endpoint = endpoint;
    this.module = endpoint.tls ? https : http;
    this.agent = new this.module.Agent({ keepAlive: true });
  }

  /** `limit`: seconds until the answer must be there, undefined: no limit.  An aborted call closes
   *  its connection: the server then kills what the call had started. */
  async call({ method, params, limit }, signal) {
    const body = toJson({ jsonrpc: '2.0', id: 1, method, params });
    signal?.throwIfAborted();
    const ask = { method: 'POST', target: '/api/v1/rpc', accept: JSON_TYPE, type: JSON_TYPE, body };
    const exchange = this.exchange(ask, signal);
    if (limit !== undefined) {
      const text = `the server at ${this.endpoint.url} did not answer ${method} within ${limit} seconds`;
      exchange.limit(limit * 1000, () => new RequestTimeoutError(text));
    }
    const response = await exchange.start(body);
    return decode(response.statusCode, await exchange.body());
  }

  /** A request that is not sent yet. `body` undefined: none, or in pieces. */
  exchange({ method, target, accept, type, body, headers = {} }, signal) {
    const { endpoint } = this;
    const all = { Accept: accept, 'User-Agent': 'microsandbox-javascript/1', ...headers };
    if (type !== undefined) all['Content-Type'] = type;
    if (body !== undefined) all['Content-Length'] = body.length;
    if (endpoint.apiKey) all.Authorization = `Bearer ${endpoint.apiKey}`;
    const agent = headers.Upgrade === undefined ? this.agent : false;
    const path = `${endpoint.prefix}${target}`;
    const request = this.module.request({ ...endpoint.target, path, method, headers: all, agent });
    return new Exchange(this, request, signal);
  }

  describe(error, connected) {
    const { url } = this.endpoint;
    if (typeof error.code === 'string' && error.code.startsWith('HPE_')) {
      const text = `the answer is no HTTP: is ${url} the address of a microsandbox server? (${error.message})`;
      return new InvalidResponseError(text, { cause: error });
    }
    if (connected) {
      return new UnreachableError(`the connection to ${url} broke: ${error.message}`, { cause: error });
    }
    // Of several addresses that were tried, each has its own reason.
    const reason = error.message || (error.errors || []).map((e) => e.message).join(', ') || error.code;
    return new UnreachableError(`cannot reach the server at ${url}: ${reason}; is it running (msb server start)?`, {
      cause: error,
    });
  }

  close() {
    this.agent.destroy();
  }
}

module.exports = { JSON_TYPE, Transport, checkText, decode, errorOf, fromWire, refused, toJson };
