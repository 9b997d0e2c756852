//! The `headwater` command.
//!
//! The command uses only the HTTP API of its lake's server, which it starts in the background if
//! needed. Only this crate reads environment variables, the home folder and the terminal.

mod api;
mod api_output;
mod commands;
mod connect;
mod context;
mod endpoint;
mod error;
mod example;
#[cfg(test)]
mod generated_documents;
mod job_events;
mod lake;
mod lake_folder;
mod profiles;
mod project;
mod query_rows;
#[cfg(target_os = "linux")]
mod release_code_memory;
mod secret_input;

use std::process::ExitCode;

use headwater_arguments as arguments;
use headwater_display::{cell, commit_graph, grid, log_writer, output, progress, terminal};

use crate::arguments::Command;
use crate::context::Context;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Check this before anything else, because the spawner process must be small and
    // single-threaded.
    if std::env::args_os().nth(1).is_some_and(|first| first == connect::SPAWNER_ARGUMENT) {
        return headwater_server::spawner_main();
    }
    let arguments = arguments::parse(std::env::args_os());
    let context = Context::from_environment(&arguments);
    let command = arguments.command;
    match context.check_output(&command).and_then(|()| execute(&context, command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => context.report(&problem),
    }
}

fn execute(context: &Context, command: Command) -> error::Result<()> {
    if command.runs_server() {
        headwater_server::set_short_time_slice();
    }
    // A client needs only one thread; a server needs several.
    let mut runtime = if command.runs_server() || context.in_process {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    let runtime =
        runtime.enable_all().build().map_err(error::from_io("start the async runtime"))?;
    let outcome = runtime.block_on(commands::run(context, command));
    // Do not wait for threads: a blocking read of standard input must not delay the exit.
    runtime.shutdown_background();
    outcome
}
