// SPDX-License-Identifier: Apache-2.0
//! Members of the server's answers, as `types.rs` reads them.
use crate::SandboxError;
use serde_json::Value;

type Read<T> = fn(&Value) -> Option<T>;

pub(crate) fn string(v: &Value) -> Option<String> {
    v.as_str().map(str::to_owned)
}

pub(crate) fn integer(v: &Value) -> Option<i64> {
    v.as_i64()
}

pub(crate) fn number(v: &Value) -> Option<f64> {
    v.as_f64()
}

pub(crate) fn boolean(v: &Value) -> Option<bool> {
    v.as_bool()
}

fn improper(key: &str) -> SandboxError {
    SandboxError::InvalidResponse(format!("the server's answer has no proper '{key}'"))
}

pub(crate) fn required<T>(o: &Value, key: &str, read: Read<T>) -> Result<T, SandboxError> {
    o.get(key).and_then(read).ok_or_else(|| improper(key))
}

pub(crate) fn optional<T>(o: &Value, key: &str, read: Read<T>) -> Result<Option<T>, SandboxError> {
    match o.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(v) => read(v).map(Some).ok_or_else(|| improper(key)),
    }
}

pub(crate) fn array<'a>(o: &'a Value, key: &str) -> Result<&'a [Value], SandboxError> {
    o.get(key).and_then(Value::as_array).map(Vec::as_slice).ok_or_else(|| improper(key))
}

/// An array of plain values.
pub(crate) fn list<T>(o: &Value, key: &str, read: Read<T>) -> Result<Vec<T>, SandboxError> {
    array(o, key)?.iter().map(|v| read(v).ok_or_else(|| improper(key))).collect()
}

/// An array of objects that older servers do not send.
pub(crate) fn added_objects<T>(
    o: &Value,
    key: &str,
    read: fn(&Value) -> Result<T, SandboxError>,
) -> Result<Vec<T>, SandboxError> {
    match o.get(key) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(_) => objects(o, key, read),
    }
}

/// Base64 with padding, as the server writes it.
pub(crate) fn base64(text: &str) -> Result<Vec<u8>, SandboxError> {
    let bad = || SandboxError::InvalidResponse("the server's answer has a result that is no base64".to_owned());
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    if text.len() % 4 != 0 || padding > 2 {
        return Err(bad());
    }
    let (mut out, mut bits, mut count) = (Vec::with_capacity(text.len() / 4 * 3), 0u32, 0);
    for c in digits.bytes() {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return Err(bad()),
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    if bits != 0 {
        return Err(bad());
    }
    Ok(out)
}

/// An array of objects.
pub(crate) fn objects<T>(
    o: &Value,
    key: &str,
    read: fn(&Value) -> Result<T, SandboxError>,
) -> Result<Vec<T>, SandboxError> {
    array(o, key)?.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_strictly() {
        for (text, bytes) in [("", &b""[..]), ("eA==", b"x"), ("eHk=", b"xy"), ("eHl6", b"xyz"), ("+/+/", b"\xfb\xff\xbf")] {
            assert_eq!(base64(text).unwrap(), bytes, "{text}");
        }
        for text in ["eA", "eA=", "eA===", "====", "eB==", "eHl=", "e A=", "e\u{e9}==", "eA==eA==", "-_-_"] {
            assert!(base64(text).is_err(), "{text}");
        }
    }
}
