//! The attack suite: short Python probes, each run as a function in a real sandbox, with one test
//! each. A probe returns true if the sandbox prevented the attack.

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

/// Functions that the probes import.
const PROBE: &str = include_str!("probe.py");

/// Returns the source of a probe: its imports, and `f` with this body.
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
    files.insert("models/probe.py".to_owned(), PROBE.into());
    invocation
}

/// Runs a probe, which must return true.
async fn held(body: &str) {
    held_within(Limits::default(), body).await;
}

/// Runs a probe, first normally and then with an unprivileged server. An unprivileged server has
/// only namespaces, landlock and the system call filter, without separate users and control groups.
async fn held_for_anybody(body: &str) {
    held(body).await;
    let Some((_folder, mut options, environment)) = ordinary().await else { return };
    for enabled in [true, false] {
        options.zygotes.enabled = enabled;
        let functions = Functions::start(options.clone()).await.unwrap();
        holds(&functions, probe(&environment, body)).await;
    }
}

/// Runs a probe with limits: in a clone of a zygote, and in a new process.
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
