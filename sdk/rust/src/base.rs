// SPDX-License-Identifier: Apache-2.0
use crate::{Execution, Language, Metrics, Sandbox, SandboxError, StartOptions};
use std::future::Future;
use std::pin::Pin;

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, SandboxError>> + Send + 'a>>;

/// What sandboxes of all languages have, for code that takes any of them (`&mut dyn BaseSandbox`).
/// Each method is that of [`Sandbox`].
pub trait BaseSandbox: Send + Sync {
    fn get_default_image(&self) -> &'static str;
    fn is_started(&self) -> bool;
    fn start(&mut self, options: Option<StartOptions>) -> Answer<'_, ()>;
    fn stop(&mut self) -> Answer<'_, ()>;
    fn run<'a>(&'a self, code: &'a str) -> Answer<'a, Execution>;
    fn run_or_start<'a>(&'a mut self, code: &'a str) -> Answer<'a, Execution>;
    fn metrics(&self) -> Answer<'_, Metrics<'_>>;
}

impl<L: Language> BaseSandbox for Sandbox<L> {
    fn get_default_image(&self) -> &'static str {
        Sandbox::get_default_image(self)
    }

    fn is_started(&self) -> bool {
        Sandbox::is_started(self)
    }

    fn start(&mut self, options: Option<StartOptions>) -> Answer<'_, ()> {
        Box::pin(Sandbox::start(self, options))
    }

    fn stop(&mut self) -> Answer<'_, ()> {
        Box::pin(Sandbox::stop(self))
    }

    fn run<'a>(&'a self, code: &'a str) -> Answer<'a, Execution> {
        Box::pin(Sandbox::run(self, code))
    }

    fn run_or_start<'a>(&'a mut self, code: &'a str) -> Answer<'a, Execution> {
        Box::pin(Sandbox::run_or_start(self, code))
    }

    fn metrics(&self) -> Answer<'_, Metrics<'_>> {
        Box::pin(Sandbox::metrics(self))
    }
}
