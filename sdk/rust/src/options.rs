// SPDX-License-Identifier: Apache-2.0
use std::collections::BTreeMap;
use std::fmt;

/// A secret that the sandbox uses without having it: its environment has a placeholder under the
/// name, and plain HTTP requests to the hosts get the value. `Debug` leaves the value out.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// Of the environment variable.
    pub name: String,
    pub value: String,
    /// `example.org`, `*.example.org`, `example.org:8080`.
    pub hosts: Vec<String>,
}

impl Secret {
    pub fn new<I, S>(name: impl Into<String>, value: impl Into<String>, hosts: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        Self { name: name.into(), value: value.into(), hosts: hosts.into_iter().map(Into::into).collect() }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("name", &self.name).field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

/// How a sandbox is started.
#[derive(Clone, Debug, PartialEq)]
pub struct StartOptions {
    /// Default: that of the language.
    pub image: Option<String>,
    /// MiB.
    pub memory: u32,
    /// Rounded to a whole number, at least 1.
    pub cpus: f32,
    /// `KEY=VALUE`.
    pub envs: Vec<String>,
    /// Where code and programs start.
    pub workdir: Option<String>,
    /// What the network reaches: `none`, `group`, `public` (the server's default) or `any`.
    pub scope: Option<String>,
    /// Of scope `group`: the sandboxes of the same group reach each other by name.
    pub group: Option<String>,
    /// Rules on top of the scope: `allow tcp example.org:443`, `default deny`, `limit connects 50`.
    pub network: Vec<String>,
    /// What it uses without having it.
    pub secrets: Vec<Secret>,
    /// Seconds.
    pub timeout: f32,
    /// Seconds without use after which it is stopped; `None`: never.
    pub idle_timeout: Option<f32>,
    /// `NAME:PATH[:ro]`: named volumes, or paths of the server's host that it allows.
    pub volumes: Vec<String>,
    /// Ports to publish on the server's machine: `HOST:GUEST`, `0:GUEST`, `ADDRESS:HOST:GUEST/udp`.
    pub ports: Vec<String>,
    /// The server refuses this so far.
    pub depends_on: Vec<String>,
    /// The server refuses this so far.
    pub scripts: BTreeMap<String, String>,
    /// Has no effect so far.
    pub shell: Option<String>,
    /// Has no effect so far.
    pub exec: Option<String>,
}

impl Default for StartOptions {
    fn default() -> Self {
        Self {
            image: None,
            memory: 512,
            cpus: 1.0,
            envs: Vec::new(),
            workdir: None,
            scope: None,
            group: None,
            network: Vec::new(),
            secrets: Vec::new(),
            timeout: 180.0,
            idle_timeout: None,
            volumes: Vec::new(),
            ports: Vec::new(),
            depends_on: Vec::new(),
            scripts: BTreeMap::new(),
            shell: None,
            exec: None,
        }
    }
}

/// Which sandbox, on which server, and how it is started.
///
/// Without `server_url` and `api_key` the environment says (`MSB_SERVER_URL`, `MSB_API_KEY`), else
/// a file `.env` in the current directory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SandboxOptions {
    /// Default: `sandbox-` and 8 hexadecimal digits.
    pub name: Option<String>,
    /// `http://HOST[:PORT]`, `https://HOST[:PORT]` (feature `tls`) or `unix:///PATH`.
    pub server_url: Option<String>,
    pub api_key: Option<String>,
    /// Default: the key's own, or `default`.
    pub namespace: Option<String>,
    pub start: StartOptions,
}

impl SandboxOptions {
    pub fn builder() -> SandboxOptionsBuilder {
        SandboxOptionsBuilder::default()
    }
}

impl From<&str> for SandboxOptions {
    fn from(name: &str) -> Self {
        Self::builder().name(name).build()
    }
}

impl From<String> for SandboxOptions {
    fn from(name: String) -> Self {
        Self::builder().name(name).build()
    }
}

impl From<&SandboxOptions> for SandboxOptions {
    fn from(options: &SandboxOptions) -> Self {
        options.clone()
    }
}

/// Makes [`SandboxOptions`].
#[derive(Clone, Debug, Default)]
pub struct SandboxOptionsBuilder {
    options: SandboxOptions,
}

macro_rules! text_setters {
    ($($name:ident => $($field:ident).+;)*) => {$(
        #[doc = concat!("Sets `", stringify!($name), "`.")]
        pub fn $name(mut self, value: impl Into<String>) -> Self {
            self.options.$($field).+ = Some(value.into());
            self
        }
    )*};
}

macro_rules! list_setters {
    ($($name:ident)*) => {$(
        #[doc = concat!("Sets `", stringify!($name), "`.")]
        pub fn $name<I, S>(mut self, values: I) -> Self
        where
            I: IntoIterator<Item = S>,
            S: Into<String>,
        {
            self.options.start.$name = values.into_iter().map(Into::into).collect();
            self
        }
    )*};
}

impl SandboxOptionsBuilder {
    text_setters! {
        name => name;
        server_url => server_url;
        api_key => api_key;
        namespace => namespace;
        image => start.image;
        workdir => start.workdir;
        scope => start.scope;
        group => start.group;
        shell => start.shell;
        exec => start.exec;
    }
    list_setters! { envs network volumes ports depends_on }

    /// MiB.
    pub fn memory(mut self, mib: u32) -> Self {
        self.options.start.memory = mib;
        self
    }

    /// Rounded to a whole number, at least 1.
    pub fn cpus(mut self, cpus: f32) -> Self {
        self.options.start.cpus = cpus;
        self
    }

    /// Of the start, seconds.
    pub fn timeout(mut self, seconds: f32) -> Self {
        self.options.start.timeout = seconds;
        self
    }

    /// Seconds without use after which it is stopped.
    pub fn idle_timeout(mut self, seconds: f32) -> Self {
        self.options.start.idle_timeout = Some(seconds);
        self
    }

    /// Sets `secrets`.
    pub fn secrets(mut self, secrets: impl IntoIterator<Item = Secret>) -> Self {
        self.options.start.secrets = secrets.into_iter().collect();
        self
    }

    /// Sets `scripts`.
    pub fn scripts(mut self, scripts: BTreeMap<String, String>) -> Self {
        self.options.start.scripts = scripts;
        self
    }

    pub fn build(self) -> SandboxOptions {
        self.options
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_secrets_are_not_shown() {
        let options = SandboxOptions::builder().secrets([Secret::new("KEY", "hunter2", ["a.example"])]).build();
        let shown = format!("{options:?}");
        assert!(shown.contains("KEY") && shown.contains("a.example") && !shown.contains("hunter2"), "{shown}");
    }
}
