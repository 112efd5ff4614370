// SPDX-License-Identifier: Apache-2.0
//! A WebSocket without a socket: RFC 6455 from the client's side, without extensions.
//!
//! The server is not trusted: lengths are bounded, and what the specification forbids ends it.
use crate::bytes::{base64_encode, random, sha1};
use crate::SandboxError;

pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;
const CONTINUATION: u8 = 0;
const MESSAGE_MAX: usize = 16 << 20;
const CONTROL_MAX: usize = 125;
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

pub(crate) fn make_key() -> String {
    let mut key = random().to_le_bytes().to_vec();
    key.extend_from_slice(&random().to_le_bytes());
    base64_encode(&key)
}

/// What the server must answer to a key.
pub(crate) fn accept_of(key: &str) -> String {
    base64_encode(&sha1(format!("{key}{GUID}").as_bytes()))
}

/// A message, or a control frame, in one frame, masked as a client's frames must be.  The payload
/// is `head` and `body`.
pub(crate) fn encode(opcode: u8, head: &[u8], body: &[u8]) -> Vec<u8> {
    let n = head.len() + body.len();
    let mut frame = Vec::with_capacity(n + 14);
    frame.push(0x80 | opcode);
    match n {
        0..=125 => frame.push(0x80 | n as u8),
        126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(n as u16).to_be_bytes());
        }
        _ => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(n as u64).to_be_bytes());
        }
    }
    let mask = (random() as u32).to_le_bytes();
    frame.extend_from_slice(&mask);
    frame.extend(head.iter().chain(body).enumerate().map(|(i, b)| b ^ mask[i & 3]));
    frame
}

fn bad(what: &str) -> SandboxError {
    SandboxError::InvalidResponse(format!("the server's WebSocket is none: {what}"))
}

#[derive(Debug)]
pub(crate) struct Message {
    pub opcode: u8,
    pub payload: Vec<u8>,
}

/// Takes the bytes of the connection; `next` gives messages and control frames.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    raw: Vec<u8>,
    message: Vec<u8>,
    opcode: u8, // of the message that comes in parts
}

impl Reader {
    pub fn feed(&mut self, data: &[u8]) {
        self.raw.extend_from_slice(data);
    }

    /// `None`: more bytes are needed.
    pub fn next(&mut self) -> Result<Option<Message>, SandboxError> {
        while let Some((opcode, last, payload)) = self.frame()? {
            if opcode >= CLOSE {
                return Ok(Some(Message { opcode, payload }));
            }
            if (opcode == CONTINUATION) != (self.opcode != 0) {
                return Err(bad("a message begins inside another, or does not begin"));
            }
            self.opcode |= opcode;
            self.message.extend_from_slice(&payload);
            if self.message.len() > MESSAGE_MAX {
                return Err(bad("a message is too long"));
            }
            if last {
                let opcode = std::mem::take(&mut self.opcode);
                return Ok(Some(Message { opcode, payload: std::mem::take(&mut self.message) }));
            }
        }
        Ok(None)
    }

    fn frame(&mut self) -> Result<Option<(u8, bool, Vec<u8>)>, SandboxError> {
        let raw = &self.raw;
        if raw.len() < 2 {
            return Ok(None);
        }
        let (opcode, last) = (raw[0] & 15, raw[0] & 0x80 != 0);
        let (mut n, mut at) = (usize::from(raw[1] & 0x7f), 2);
        let known = [CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG].contains(&opcode);
        if raw[0] & 0x70 != 0 || raw[1] & 0x80 != 0 || !known {
            return Err(bad("a frame that this program has not asked for"));
        }
        if opcode >= CLOSE && (n > CONTROL_MAX || !last) {
            return Err(bad("a control frame that is too long, or in parts"));
        }
        if n >= 126 {
            at = if n == 126 { 4 } else { 10 };
            if raw.len() < at {
                return Ok(None);
            }
            let long = raw[2..at].iter().fold(0u64, |n, &b| n << 8 | u64::from(b));
            if long > MESSAGE_MAX as u64 {
                return Err(bad("a message is too long"));
            }
            n = long as usize;
        }
        if raw.len() < at + n {
            return Ok(None);
        }
        let payload = raw[at..at + n].to_vec();
        self.raw.drain(..at + n);
        Ok(Some((opcode, last, payload)))
    }
}

/// A close frame in words.
pub(crate) fn close_reason(payload: &[u8]) -> String {
    if payload.len() < 2 {
        return "without a reason".to_owned();
    }
    let code = u16::from_be_bytes([payload[0], payload[1]]);
    match String::from_utf8_lossy(&payload[2..]) {
        text if text.is_empty() => format!("with code {code}"),
        text => format!("with code {code}: {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_specification() {
        assert_eq!(accept_of("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn frames_are_masked() {
        for n in [0, 125, 126, 65535, 65536] {
            let frame = encode(BINARY, b"", &vec![7; n]);
            let at = frame.len() - n;
            assert_eq!(
                at,
                if n < 126 {
                    6
                } else if n < 65536 {
                    8
                } else {
                    14
                }
            );
            assert!(frame[at..].iter().enumerate().all(|(i, b)| b ^ frame[at - 4 + (i & 3)] == 7));
        }
    }

    #[test]
    fn many_frames_split_anywhere() {
        let bytes = b"\x02\x02ab\x89\x01p\x80\x01c\x88\x02\x03\xe8";
        for cut in 0..bytes.len() {
            let mut reader = Reader::default();
            let mut found = Vec::new();
            for part in [&bytes[..cut], &bytes[cut..]] {
                reader.feed(part);
                while let Some(m) = reader.next().unwrap() {
                    found.push((m.opcode, m.payload));
                }
            }
            let want = [(PING, b"p".to_vec()), (BINARY, b"abc".to_vec()), (CLOSE, b"\x03\xe8".to_vec())];
            assert_eq!(found, want);
        }
    }
}
