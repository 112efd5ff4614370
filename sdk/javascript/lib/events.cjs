// SPDX-License-Identifier: Apache-2.0
// What a program or code prints while it runs, and how it ended: without a connection.
//
// An answer of the server is a stream of events (text/event-stream of the HTML standard), one JSON
// object an event; a WebSocket has the same objects as messages.
'use strict';

const { classes } = require('./errors.cjs');

const { InvalidResponseError } = classes;
const EVENT_MAX = 16 * 1024 * 1024;
// What is kept of a call's output, as the server does.
const KEPT_MAX = 8 * 1024 * 1024;
const STREAMS = ['stdout', 'stderr'];

function improper(name) {
  return new InvalidResponseError(`the server's answer has no proper '${name}'`);
}

function member(o, name, type, optional = false) {
  const value = o[name];
  if (optional && (value === undefined || value === null)) return undefined;
  if (type === 'integer' ? !Number.isInteger(value) : typeof value !== type) throw improper(name);
  return value;
}

/** How a program ended. */
class ExitStatus {
  constructor(o) {
    this.exitCode = member(o, 'exit_code', 'integer');
    this.success = member(o, 'success', 'boolean');
    this.reason = member(o, 'reason', 'string');
    this.signal = member(o, 'signal', 'integer', true);
    this.durationMs = member(o, 'duration_ms', 'number', true);
  }

  get timedOut() {
    return this.reason === 'timeout';
  }
}

function eventObject(data) {
  let o;
  try {
    o = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(data));
  } catch {
    o = undefined;
  }
  if (o === null || typeof o !== 'object' || Array.isArray(o)) {
    throw new InvalidResponseError(`an event of the server is no object: '${data.toString('utf8', 0, 80)}'`);
  }
  return o;
}

/** Bytes of both streams as text: a character that is cut between two pieces is in the later one. */
class Decoder {
  #decoders = Object.fromEntries(STREAMS.map((s) => [s, new TextDecoder('utf-8', { ignoreBOM: true })]));

  output(stream, data) {
    return { stream, data, text: this.#decoders[stream].decode(data, { stream: true }) };
  }

  /** Of characters that nothing completed. */
  rest() {
    return STREAMS.map((stream) => ({ stream, data: Buffer.alloc(0), text: this.#decoders[stream].decode() })).filter(
      (o) => o.text,
    );
  }
}

/** Takes the bytes of a stream of events as they come; next() gives the events. */
class EventReader {
  #raw = Buffer.alloc(0);
  #event = '';
  #data = [];
  #size = 0;

  feed(data) {
    this.#raw = this.#raw.length ? Buffer.concat([this.#raw, data]) : data;
    if (this.#raw.length + this.#size > EVENT_MAX) throw new InvalidResponseError('an event of the server is too long');
  }

  /** { name, o }, or undefined: more bytes are needed. */
  next() {
    for (;;) {
      const end = this.#raw.indexOf(10);
      if (end < 0) return undefined;
      const line = this.#raw.subarray(0, end > 0 && this.#raw[end - 1] === 13 ? end - 1 : end);
      this.#raw = this.#raw.subarray(end + 1);
      const event = this.#line(line);
      if (event !== undefined) return event;
    }
  }

  #line(line) {
    if (!line.length) {
      const name = this.#event;
      const data = Buffer.concat(this.#data.flatMap((d, i) => (i ? [Buffer.from('\n'), d] : [d])));
      this.#event = '';
      this.#data = [];
      this.#size = 0;
      return data.length ? { name, o: eventObject(data) } : undefined;
    }
    const colon = line.indexOf(58);
    const field = line.toString('latin1', 0, colon < 0 ? line.length : colon);
    let value = colon < 0 ? Buffer.alloc(0) : line.subarray(colon + 1);
    if (value[0] === 32) value = value.subarray(1);
    if (field === 'event') this.#event = value.toString('utf8');
    if (field === 'data') {
      this.#data.push(value);
      this.#size += value.length + 1;
    }
    return undefined; // a line that begins with a colon is a comment
  }
}

/** Of an event stdout or stderr: { text } or { base64 }. */
function outputBytes(o) {
  if (!('base64' in o)) return Buffer.from(member(o, 'text', 'string'), 'utf8');
  const text = member(o, 'base64', 'string');
  // Buffer.from() takes what is no base64 for what it can.
  if (!/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(text)) throw improper('base64');
  return Buffer.from(text, 'base64');
}

/** Gathers output as lines, as the server does for the calls that answer at their end. */
class Lines {
  truncated = false;
  #lines = [];
  #open = { stdout: [], stderr: [] };
  #size = 0;

  add({ stream, data, text }) {
    this.#size += data.length;
    if (this.#size > KEPT_MAX) {
      this.truncated = true;
      return;
    }
    const pieces = text.split('\n');
    for (let i = 0; i < pieces.length; i++) {
      if (i > 0) this.#close(stream);
      this.#open[stream].push(pieces[i]);
    }
  }

  #close(stream) {
    this.#lines.push({ stream, text: this.#open[stream].join('') });
    this.#open[stream] = [];
  }

  end() {
    for (const stream of STREAMS) if (this.#open[stream].some((piece) => piece)) this.#close(stream);
    return this.#lines;
  }
}

module.exports = { Decoder, EventReader, ExitStatus, Lines, STREAMS, eventObject, member, outputBytes };
