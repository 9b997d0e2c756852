//! The attack suite: short Python probes, each run as a function in a real sandbox, each its own
//! test. A probe answers true where the sandbox held.

mod files;
mod handover;
mod kernel;
mod neighbours;
mod network;
mod packages;
mod processes;
mod resources;

use headwater_functions::{Functions, FunctionsOptions, Invocation, Limits, ZygoteOptions};

use crate::support::{ask, environment, holds, options, ordinary};

/// What probes share, which they import.
const PROBE: &str = include_str!("probe.py");

/// A probe's imports; the rest of its source is the body of `f`.
fn source(body: &str) -> String {
    let indented = body.replace('\n', "\n    ");
    format!(
        "import ctypes, errno, os, socket, stat, struct, subprocess, sys, threading, time\n\
         from probe import *\n\ndef f():\n    {indented}\n"
    )
}

fn probe(environment: &std::sync::Arc<headwater_functions::Environment>, body: &str) -> Invocation {
    let mut invocation = ask(environment, &source(body));
    let files = std::sync::Arc::make_mut(&mut invocation.files);
    files.insert("models/probe.py".to_owned(), PROBE.to_owned());
    invocation
}

/// Runs a probe, which must answer true.
async fn held(body: &str) {
    held_within(Limits::default(), body).await;
}

/// The same where the server is an ordinary user's, too: namespaces, landlock and the filter of
/// system calls are all that stands there, without users and control groups of the functions' own.
async fn held_for_anybody(body: &str) {
    held(body).await;
    let Some((_folder, mut options, environment)) = ordinary().await else { return };
    for enabled in [true, false] {
        options.zygotes.enabled = enabled;
        let functions = Functions::start(options.clone()).await.unwrap();
        holds(&functions, probe(&environment, body)).await;
    }
}

/// Runs a probe under limits: in a clone of a zygote, and in a fresh process.
async fn held_within(limits: Limits, body: &str) {
    held_where(options(), limits, body).await;
}

async fn held_where(options: FunctionsOptions, limits: Limits, body: &str) {
    for enabled in [true, false] {
        let zygotes = ZygoteOptions { enabled, ..ZygoteOptions::default() };
        let options = FunctionsOptions { zygotes, ..options.clone() };
        let functions = Functions::start(options).await.unwrap();
        held_by(&functions, limits.clone(), body).await;
    }
}

async fn held_by(functions: &Functions, limits: Limits, body: &str) {
    let environment = environment(functions, &[]).await;
    holds(functions, Invocation { limits, ..probe(&environment, body) }).await;
}
