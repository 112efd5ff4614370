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

const { ApiError, InvalidResponseError, RequestTimeoutError, UnreachableError } = classes;
const BODY_MAX = 512 * 1024 * 1024;
const TIMER_MAX = 0x7fffffff;

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

function encode(method, params) {
  const text = JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }, (key, value) => {
    if (typeof value === 'number' && !Number.isFinite(value)) throw new RangeError(`${key}: ${value} is no number`);
    if (typeof value === 'string' && /\p{Surrogate}/u.test(value)) {
      throw new TypeError('a text has half a surrogate pair in it, which UTF-8 cannot express');
    }
    return value;
  });
  return Buffer.from(text, 'utf8');
}

function plainError(message, code, httpStatus) {
  const Class = byStatus[httpStatus] || ApiError;
  return new Class(message, { code: Number.isInteger(code) ? code : undefined, httpStatus });
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
  if (typeof error === 'string') throw plainError(error, o.code, httpStatus);
  if (error !== undefined && error !== null) {
    if (typeof error !== 'object' || typeof error.message !== 'string') {
      throw new InvalidResponseError(`the server's answer (HTTP ${httpStatus}) has an error without a message`);
    }
    const Class = byName[wire.errors[error.code]] || ApiError;
    throw new Class(error.message, { code: error.code, httpStatus, data: error.data });
  }
  if (httpStatus !== 200 || !('result' in o)) {
    throw new InvalidResponseError(`the server's answer (HTTP ${httpStatus}) has neither result nor error`);
  }
  return o.result;
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
    const body = encode(method, params);
    signal?.throwIfAborted();
    const { status, data } = await this.roundTrip(method, body, limit, signal);
    return decode(status, data);
  }

  roundTrip(method, body, limit, signal) {
    const { endpoint } = this;
    const headers = {
      Accept: 'application/json',
      'Content-Type': 'application/json',
      'Content-Length': body.length,
      'User-Agent': 'microsandbox-javascript/1',
    };
    if (endpoint.apiKey) headers.Authorization = `Bearer ${endpoint.apiKey}`;
    return new Promise((resolve, reject) => {
      const request = this.module.request({
        ...endpoint.target,
        path: `${endpoint.prefix}/api/v1/rpc`,
        method: 'POST',
        headers,
        agent: this.agent,
      });
      let timer;
      const abort = () => end(signal.reason);
      let ended = false;
      const end = (error, answer) => {
        if (ended) return;
        ended = true;
        clearTimeout(timer);
        signal?.removeEventListener('abort', abort);
        if (!error) {
          resolve(answer);
          return;
        }
        request.destroy();
        reject(error);
      };
      let connected = false;
      const fail = (error) => end(this.describe(error, connected));
      if (limit !== undefined) {
        timer = setTimeout(() => {
          const text = `the server at ${endpoint.url} did not answer ${method} within ${limit} seconds`;
          end(new RequestTimeoutError(text));
        }, Math.min(limit * 1000, TIMER_MAX));
      }
      signal?.addEventListener('abort', abort, { once: true });
      request.on('socket', (socket) => {
        connected = request.reusedSocket;
        if (connected) return;
        socket.once(this.endpoint.tls ? 'secureConnect' : 'connect', () => {
          connected = true;
        });
      });
      request.on('error', fail);
      request.on('response', (response) => {
        const chunks = [];
        let length = 0;
        response.on('data', (chunk) => {
          length += chunk.length;
          if (length > BODY_MAX) end(new InvalidResponseError('the answer is too long'));
          else chunks.push(chunk);
        });
        response.on('error', fail);
        response.on('end', () => end(undefined, { status: response.statusCode, data: Buffer.concat(chunks) }));
      });
      request.end(body);
    });
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

module.exports = { Transport, fromWire };
