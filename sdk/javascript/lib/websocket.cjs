// SPDX-License-Identifier: Apache-2.0
// A WebSocket without a socket: RFC 6455 from the client's side, without extensions.
//
// Node has none for every version that this package is for.  The server is not trusted: lengths
// are bounded, and what the specification forbids ends it.
'use strict';

const crypto = require('node:crypto');
const { classes } = require('./errors.cjs');

const CONTINUATION = 0;
const TEXT = 1;
const BINARY = 2;
const CLOSE = 8;
const PING = 9;
const PONG = 10;
const MESSAGE_MAX = 16 * 1024 * 1024;
const CONTROL_MAX = 125;
const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';

const makeKey = () => crypto.randomBytes(16).toString('base64');
/** What the server must answer to a key. */
const acceptOf = (key) => crypto.createHash('sha1').update(key + GUID).digest('base64');

/** A message, or a control frame, in one frame, masked as a client's frames must be. */
function encode(opcode, payload = Buffer.alloc(0)) {
  const n = payload.length;
  const at = n < 126 ? 2 : n < 65536 ? 4 : 10;
  const frame = Buffer.allocUnsafe(at + 4 + n);
  frame[0] = 0x80 | opcode;
  frame[1] = 0x80 | (at === 2 ? n : at === 4 ? 126 : 127);
  if (at === 4) frame.writeUInt16BE(n, 2);
  if (at === 10) frame.writeBigUInt64BE(BigInt(n), 2);
  const mask = crypto.randomBytes(4);
  mask.copy(frame, at);
  for (let i = 0; i < n; i++) frame[at + 4 + i] = payload[i] ^ mask[i & 3];
  return frame;
}

const bad = (what) => new classes.InvalidResponseError(`the server's WebSocket is none: ${what}`);

/** Takes the bytes of the connection; next() gives messages and control frames. */
class Reader {
  #raw = Buffer.alloc(0);
  #parts = [];
  #length = 0;
  #opcode = 0; // of the message that comes in parts

  feed(data) {
    this.#raw = this.#raw.length ? Buffer.concat([this.#raw, data]) : data;
  }

  /** { opcode, payload }, or undefined: more bytes are needed. */
  next() {
    for (;;) {
      const frame = this.#frame();
      if (frame === undefined) return undefined;
      const { opcode, final, payload } = frame;
      if (opcode >= CLOSE) return { opcode, payload };
      if ((opcode === CONTINUATION) !== (this.#opcode !== 0)) {
        throw bad('a message begins inside another, or does not begin');
      }
      this.#opcode = this.#opcode || opcode;
      this.#parts.push(payload);
      this.#length += payload.length;
      if (this.#length > MESSAGE_MAX) throw bad('a message is too long');
      if (final) {
        const whole = { opcode: this.#opcode, payload: Buffer.concat(this.#parts) };
        this.#opcode = this.#length = 0;
        this.#parts = [];
        return whole;
      }
    }
  }

  #frame() {
    const raw = this.#raw;
    if (raw.length < 2) return undefined;
    const opcode = raw[0] & 15;
    const final = (raw[0] & 0x80) !== 0;
    let n = raw[1] & 0x7f;
    let at = 2;
    if (raw[0] & 0x70 || raw[1] & 0x80 || ![CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG].includes(opcode)) {
      throw bad('a frame that this program has not asked for');
    }
    if (opcode >= CLOSE && (n > CONTROL_MAX || !final)) throw bad('a control frame that is too long, or in parts');
    if (n >= 126) {
      at = n === 126 ? 4 : 10;
      if (raw.length < at) return undefined;
      n = at === 4 ? raw.readUInt16BE(2) : Number(raw.readBigUInt64BE(2));
      if (n > MESSAGE_MAX) throw bad('a message is too long');
    }
    if (raw.length < at + n) return undefined;
    const payload = raw.subarray(at, at + n);
    this.#raw = raw.subarray(at + n);
    return { opcode, final, payload };
  }
}

/** A close frame in words. */
function closeReason(payload) {
  if (payload.length < 2) return 'without a reason';
  const text = payload.toString('utf8', 2);
  return `with code ${payload.readUInt16BE(0)}${text && `: ${text}`}`;
}

module.exports = { BINARY, CLOSE, PING, PONG, TEXT, Reader, acceptOf, closeReason, encode, makeKey };
