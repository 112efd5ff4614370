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

/// An array of objects.
pub(crate) fn objects<T>(
    o: &Value,
    key: &str,
    read: fn(&Value) -> Result<T, SandboxError>,
) -> Result<Vec<T>, SandboxError> {
    array(o, key)?.iter().map(read).collect()
}
