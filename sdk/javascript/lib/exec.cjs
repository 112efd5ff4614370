// SPDX-License-Identifier: Apache-2.0
// Programs and code whose output is told as it comes.  index.d.cts describes what is public.
'use strict';

const { classes } = require('./errors.cjs');
const { Decoder, EventReader, ExitStatus, Lines, STREAMS, eventObject, member, outputBytes } = require('./events.cjs');
const { JSON_TYPE, errorOf, refused, toJson } = require('./http.cjs');
const { bytesOf } = require('./requests.cjs');
const ws = require('./websocket.cjs');

const { InvalidResponseError, RequestTimeoutError, UnreachableError } = classes;
const EVENTS_TYPE = 'text/event-stream';
// The server gives a sign of life more often than that while a call's output is streamed.
const SILENCE_LIMIT = 60;
// Input goes in such pieces, so that a resize or a signal need not wait for all of it.
const PIECE = 64 * 1024;
// The server ends a connection that does not answer its pings; a program that prints more than is
// read keeps them from being seen.  So we give a sign of life of our own, which RFC 6455 allows.
const HEARTBEAT_MS = 15000;

const silent = (url) => () => new RequestTimeoutError(`the server at ${url} said nothing for ${SILENCE_LIMIT} seconds`);

/** `for await` it; leaving it early kills what runs. */
class OutputStream {
  _found = [];

  async next() {
    while (!this._found.length) {
      if (!(await this._more())) return { done: true, value: undefined };
    }
    return { done: false, value: this._found.shift() };
  }

  async return(value) {
    await this.close();
    return { done: true, value };
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  async _drain() {
    do this._found = [];
    while (await this._more());
  }
}

if (Symbol.asyncDispose) {
  OutputStream.prototype[Symbol.asyncDispose] = function dispose() {
    return this.close();
  };
}

class EventStream extends OutputStream {
  #url;
  #exchange;
  #pieces;
  #endEvent;
  #reader = new EventReader();
  #decoder = new Decoder();
  #error;
  #closed = false;
  _pid;
  _end;

  constructor(url, exchange, endEvent) {
    super();
    this.#url = url;
    this.#exchange = exchange;
    this.#pieces = exchange.response[Symbol.asyncIterator]();
    this.#endEvent = endEvent;
  }

  /** Waits for `started`, of a program. */
  async _begin() {
    try {
      while (this._pid === undefined && this._end === undefined && this.#error === undefined) await this._more();
      if (this.#error !== undefined) throw errorOf(this.#error, 200);
    } catch (error) {
      await this.close();
      throw error;
    }
    return this;
  }

  /** Takes one event. false: it has ended. */
  async _more() {
    if (this.#error !== undefined) throw errorOf(this.#error, 200);
    if (this._end !== undefined) return false;
    if (this.#closed) throw this.#exchange.failure ?? new UnreachableError('the stream was closed');
    try {
      let event = this.#reader.next();
      while (event === undefined) {
        const data = await this.#read();
        if (data === undefined) throw new UnreachableError('the server ended its answer before the call had ended');
        this.#reader.feed(data);
        event = this.#reader.next();
      }
      this.#take(event);
    } catch (error) {
      await this.close();
      throw this.#exchange.failure ?? error;
    }
    if (this._end !== undefined || this.#error !== undefined) {
      // Its last chunk; then the connection can be used again.
      await this.#read().catch(() => undefined);
      await this.close();
    }
    return true;
  }

  async #read() {
    const exchange = this.#exchange;
    exchange.limit(SILENCE_LIMIT * 1000, silent(this.#url));
    try {
      const { done, value } = await this.#pieces.next();
      if (exchange.failure !== undefined) throw exchange.failure;
      return done ? undefined : value;
    } catch (error) {
      throw exchange.failure ?? error;
    } finally {
      exchange.unlimit();
    }
  }

  #take({ name, o }) {
    if (STREAMS.includes(name)) {
      this._found.push(this.#decoder.output(name, outputBytes(o)));
    } else if (name === 'started') {
      this._pid = member(o, 'pid', 'integer');
    } else if (name === this.#endEvent) {
      this._end = o;
      this._found.push(...this.#decoder.rest());
    } else if (name === 'error') {
      this.#error = o;
    }
  }

  async close() {
    if (this.#closed) return;
    this.#closed = true;
    this.#exchange.close();
  }
}

class CommandStream extends EventStream {
  get pid() {
    return this._pid;
  }

  get exit() {
    return this._end === undefined ? undefined : new ExitStatus(this._end);
  }

  async wait() {
    await this._drain();
    return this.exit;
  }
}

class CodeStream extends EventStream {
  #makeExecution;

  constructor(url, exchange, makeExecution) {
    super(url, exchange, 'done');
    this.#makeExecution = makeExecution;
  }

  async wait() {
    await this._drain();
    return this.#makeExecution(this._end, new Lines());
  }
}

/** Return: an exchange whose answer is a stream of events. */
async function openEvents(http, target, request, signal) {
  const body = toJson(request);
  signal?.throwIfAborted();
  const exchange = http.exchange({ method: 'POST', target, accept: EVENTS_TYPE, type: JSON_TYPE, body }, signal);
  exchange.limit(SILENCE_LIMIT * 1000, silent(http.endpoint.url));
  const response = await exchange.start(body);
  const type = (response.headers['content-type'] || '').split(';')[0].trim().toLowerCase();
  if (response.statusCode !== 200 || type !== EVENTS_TYPE) refused(response.statusCode, await exchange.body());
  exchange.unlimit();
  return exchange;
}

/** Reads a stream to its end, and tells what comes. Return: Lines. */
async function gather(stream, { onStdout, onStderr }) {
  const lines = new Lines();
  for await (const output of stream) {
    lines.add(output);
    const listener = output.stream === 'stdout' ? onStdout : onStderr;
    if (listener && output.text) await listener(output.text);
  }
  return lines;
}

class Process extends OutputStream {
  #url;
  #exchange;
  #socket;
  #pieces;
  #reader = new ws.Reader();
  #decoder = new Decoder();
  #error;
  #heart;
  #closed = false;
  #pid;
  #exit;

  constructor(url, exchange, socket, head) {
    super();
    this.#url = url;
    this.#exchange = exchange;
    this.#socket = socket;
    this.#reader.feed(head);
    socket.on('error', () => {}); // whoever reads is told
    this.#pieces = socket[Symbol.asyncIterator]();
    this.#heart = setInterval(() => this.#send(ws.encode(ws.PONG)), HEARTBEAT_MS);
    this.#heart.unref();
  }

  get pid() {
    return this.#pid;
  }

  get exit() {
    return this.#exit;
  }

  async _begin(request) {
    try {
      this.#send(ws.encode(ws.TEXT, toJson(request)));
      while (this.#pid === undefined && (await this._more()));
    } catch (error) {
      await this.close();
      throw error;
    }
    return this;
  }

  /** Takes one message. false: it has ended. */
  async _more() {
    if (this.#error !== undefined) throw errorOf(this.#error, 200);
    if (this.#exit !== undefined) return false;
    if (this.#closed) throw this.#exchange.failure ?? new UnreachableError('the process was closed');
    try {
      let message = this.#reader.next();
      while (message === undefined) {
        this.#reader.feed(await this.#read());
        message = this.#reader.next();
      }
      this.#take(message);
    } catch (error) {
      await this.close();
      throw this.#exchange.failure ?? error;
    }
    if (this.#error !== undefined) {
      await this.close();
      throw errorOf(this.#error, 200);
    }
    return true;
  }

  async #read() {
    this.#exchange.limit(SILENCE_LIMIT * 1000, silent(this.#url));
    try {
      const { done, value } = await this.#pieces.next();
      if (!done) return value;
    } catch (error) {
      if (this.#exchange.failure !== undefined) throw this.#exchange.failure;
      throw new UnreachableError(`the connection to ${this.#url} broke: ${error.message}`, { cause: error });
    } finally {
      this.#exchange.unlimit();
    }
    throw this.#exchange.failure ?? new UnreachableError(`the connection to ${this.#url} ended before the program did`);
  }

  #take({ opcode, payload }) {
    if (opcode === ws.PING) {
      this.#send(ws.encode(ws.PONG, payload));
    } else if (opcode === ws.CLOSE) {
      throw new UnreachableError(`the server closed the connection ${ws.closeReason(payload)}`);
    } else if (opcode === ws.BINARY) {
      if (payload[0] !== 1 && payload[0] !== 2) {
        throw new InvalidResponseError('the server sent output of a stream that does not exist');
      }
      if (payload.length > 1) this._found.push(this.#decoder.output(STREAMS[payload[0] - 1], payload.subarray(1)));
    } else if (opcode === ws.TEXT) {
      this.#text(eventObject(payload));
    }
  }

  #text(o) {
    if (o.type === 'started') this.#pid = member(o, 'pid', 'integer');
    if (o.type === 'error') this.#error = o;
    if (o.type !== 'exit') return;
    this.#exit = new ExitStatus(o);
    this._found.push(...this.#decoder.rest());
    clearInterval(this.#heart);
    this.#exchange.end();
    this.#socket.end(ws.encode(ws.CLOSE, Buffer.from([0x03, 0xe8])));
    this.#socket.resume(); // what crosses it
  }

  /** What a program that has ended is sent is dropped: the output says that it has. */
  #send(frame) {
    return this.#closed || this.#exit !== undefined || !this.#socket.writable || this.#socket.write(frame);
  }

  async write(data) {
    const bytes = bytesOf(data);
    for (let i = 0; i < bytes.length; i += PIECE) {
      const piece = bytes.subarray(i, i + PIECE);
      if (!this.#send(ws.encode(ws.BINARY, Buffer.concat([Buffer.from([0]), piece])))) await this.#drained();
    }
  }

  #drained() {
    return new Promise((resolve) => {
      const done = () => {
        this.#socket.off('drain', done);
        this.#socket.off('close', done);
        resolve();
      };
      this.#socket.on('drain', done);
      this.#socket.on('close', done);
    });
  }

  #control(o) {
    this.#send(ws.encode(ws.TEXT, toJson(o)));
  }

  async closeStdin() {
    this.#control({ type: 'eof' });
  }

  async resize(rows, cols) {
    for (const n of [rows, cols]) {
      if (!Number.isInteger(n) || n < 1 || n > 65535) {
        throw new RangeError(`rows and cols must be numbers from 1 to 65535, not ${n}`);
      }
    }
    this.#control({ type: 'resize', rows, cols });
  }

  async signal(signal) {
    if (typeof signal !== 'string' && !Number.isInteger(signal)) {
      throw new TypeError("a signal is a name such as 'SIGINT', or a number");
    }
    this.#control({ type: 'signal', signal });
  }

  async wait() {
    await this._drain();
    return this.#exit;
  }

  async close() {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#heart);
    this.#exchange.end();
    if (this.#exit === undefined) this.#socket.destroy();
  }
}

/** Starts a program on a WebSocket. */
async function openProcess(http, target, request, signal) {
  const key = ws.makeKey();
  const headers = {
    Connection: 'Upgrade',
    Upgrade: 'websocket',
    'Sec-WebSocket-Version': '13',
    'Sec-WebSocket-Key': key,
  };
  toJson(request); // what cannot be sent is said before anything is
  signal?.throwIfAborted();
  const exchange = http.exchange({ method: 'GET', target, accept: JSON_TYPE, headers }, signal);
  exchange.limit(SILENCE_LIMIT * 1000, silent(http.endpoint.url));
  const answer = await exchange.start();
  if (!Array.isArray(answer)) refused(answer.statusCode, await exchange.body());
  exchange.unlimit();
  const [socket, head] = answer;
  const { headers: told } = exchange.response;
  const ours = (told.upgrade || '').toLowerCase() === 'websocket' && told['sec-websocket-accept'] === ws.acceptOf(key);
  if (!ours || 'sec-websocket-extensions' in told) {
    socket.destroy();
    exchange.end();
    throw new InvalidResponseError("the server's answer to the WebSocket's handshake is not one to ours");
  }
  return new Process(http.endpoint.url, exchange, socket, head)._begin(request);
}

module.exports = { CodeStream, CommandStream, ExitStatus, Process, gather, openEvents, openProcess };
