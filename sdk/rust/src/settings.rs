// SPDX-License-Identifier: Apache-2.0
//! Where the server is, and with which key: options, the environment, a file `.env`.
use crate::SandboxError;
use hyper::Uri;
use std::collections::hash_map::RandomState;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};

const DEFAULT_URL: &str = "http://127.0.0.1:5555";

#[derive(Debug)]
pub(crate) enum Target {
    Tcp { host: String, port: u16, tls: bool },
    #[cfg(unix)]
    Unix(std::path::PathBuf),
}

/// A server's address, taken apart, and the key.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub url: String,
    pub api_key: Option<String>,
    pub target: Target,
    /// For the header `Host`.
    pub authority: String,
    /// Of the path.
    pub prefix: String,
}

/// The `MSB_` variables of lines `KEY=VALUE`.
fn parse_env_file(text: &str) -> HashMap<String, String> {
    let mut found = HashMap::new();
    for line in text.lines() {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (key, value) = match line.split_once('=') {
            Some((key, value)) => (key.trim(), value.trim()),
            None => continue,
        };
        if !key.starts_with("MSB_") {
            continue;
        }
        let quoted = ['"', '\''].iter().find_map(|&q| value.strip_prefix(q)?.split_once(q).map(|(inner, _)| inner));
        let value = quoted.unwrap_or_else(|| value.split(" #").next().unwrap_or("").trim_end());
        found.insert(key.to_owned(), value.to_owned());
    }
    found
}

fn not_empty(s: Option<String>) -> Option<String> {
    s.filter(|s| !s.is_empty())
}

impl Endpoint {
    pub fn new(server_url: Option<String>, api_key: Option<String>) -> Result<Self, SandboxError> {
        let env = |name: &str| not_empty(std::env::var(name).ok());
        let mut file = HashMap::new();
        if api_key.is_none() && env("MSB_API_KEY").is_none() {
            file = std::fs::read_to_string(".env").map(|t| parse_env_file(&t)).unwrap_or_default();
        }
        let api_key = api_key.or_else(|| env("MSB_API_KEY")).or_else(|| file.remove("MSB_API_KEY"));
        let url = not_empty(server_url)
            .or_else(|| env("MSB_SERVER_URL"))
            .or_else(|| not_empty(file.remove("MSB_SERVER_URL")))
            .unwrap_or_else(|| DEFAULT_URL.to_owned());
        Self::parse(url.trim_end_matches('/'), not_empty(api_key))
    }

    fn parse(url: &str, api_key: Option<String>) -> Result<Self, SandboxError> {
        let bad = || {
            SandboxError::InvalidArgument(format!(
                "server URL '{url}': must be http://HOST[:PORT], https://HOST[:PORT] or unix:///PATH"
            ))
        };
        if api_key.as_deref().map_or(false, |k| !k.bytes().all(|b| (b' '..=b'~').contains(&b))) {
            let text = "the API key holds characters that no key has";
            return Err(SandboxError::InvalidArgument(text.to_owned()));
        }
        let mut endpoint = Self {
            url: url.to_owned(),
            api_key,
            target: Target::Tcp { host: String::new(), port: 0, tls: false },
            authority: "localhost".to_owned(),
            prefix: String::new(),
        };
        #[cfg(unix)]
        if let Some(path) = url.strip_prefix("unix://").filter(|p| p.starts_with('/')) {
            endpoint.target = Target::Unix(path.into());
            return Ok(endpoint);
        }
        let uri: Uri = url.parse().map_err(|_| bad())?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(bad()),
        };
        let authority = uri.authority().ok_or_else(bad)?;
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(bad());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = match authority.as_str()[authority.host().len()..].trim_start_matches(':') {
            "" if tls => 443,
            "" => 80,
            given => given.parse().map_err(|_| bad())?,
        };
        endpoint.authority = authority.as_str().to_owned();
        endpoint.prefix = uri.path().trim_end_matches('/').to_owned();
        endpoint.target = Target::Tcp { host, port, tls };
        Ok(endpoint)
    }
}

/// A name that nobody else has; uniqueness is all that it needs.
pub(crate) fn random_name() -> String {
    let mut hasher = RandomState::new().build_hasher(); // keyed by the system's random numbers
    hasher.write_u32(std::process::id());
    format!("sandbox-{:08x}", hasher.finish() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn env_file() {
        let found = parse_env_file(
            "# MSB_A=1\nMSB_B=x # note\nexport MSB_C=\"a # b\"\r\n MSB_D = 'q' \nOTHER=1\nMSB_E=\nMSB_F\nMSB_G='open\n",
        );
        let want = [("MSB_B", "x"), ("MSB_C", "a # b"), ("MSB_D", "q"), ("MSB_E", ""), ("MSB_G", "'open")];
        let want: HashMap<_, _> = want.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
        assert_eq!(found, want);
    }

    #[test]
    fn addresses() {
        let e = Endpoint::parse("http://[::1]:80/base", None).unwrap();
        assert_eq!((e.authority.as_str(), e.prefix.as_str()), ("[::1]:80", "/base"));
        assert!(matches!(e.target, Target::Tcp { host, port: 80, tls: false } if host == "::1"));
        let e = Endpoint::parse("https://h", None).unwrap();
        assert!(matches!(e.target, Target::Tcp { port: 443, tls: true, .. }));
        for bad in ["h:80", "unix://x", "http://u@h", "http://", "http://h:99999", ""] {
            assert!(Endpoint::parse(bad, None).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_differ() {
        assert_ne!(random_name(), random_name());
        assert_eq!(random_name().len(), 16);
    }
}
