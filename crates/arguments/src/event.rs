//! `headwater event`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `headwater event`
#[derive(Debug, Subcommand)]
pub enum Event {
    /// List the events, newest first
    #[command(after_help = "Example:\n  headwater event ls --status failed")]
    Ls(EventLs),
    /// Call a function asynchronously, once for each event of a file
    ///
    /// The file contains events in the JSON format of CloudEvents: an array, or one event per line.
    /// The events are durable when the command ends. An event that was already sent within 10
    /// minutes is not added, so a failed command can be repeated.
    #[command(after_help = "Example:\n  headwater event send score events.json")]
    Send(EventSend),
    /// Show an event and its delivery
    #[command(after_help = "Example:\n  headwater event show EVENT")]
    Show(EventId),
    /// Deliver an event again
    #[command(after_help = "Example:\n  headwater event replay EVENT")]
    Replay(EventId),
    /// Remove a pending or failed event, so that it is not delivered
    #[command(after_help = "Example:\n  headwater event rm EVENT")]
    Rm(EventId),
}

/// `headwater event ls`
#[derive(Debug, Args)]
pub struct EventLs {
    /// Only this trigger; `/functions/NAME` for asynchronous calls of a function
    #[arg(long)]
    pub trigger: Option<String>,
    /// Only this status: pending, running, done, failed
    #[arg(long)]
    pub status: Option<String>,
    /// The maximum number of events
    #[arg(long, short = 'n', default_value_t = 20)]
    pub limit: usize,
}

/// `headwater event send`
#[derive(Debug, Args)]
pub struct EventSend {
    /// The function, which takes one argument
    pub function: String,
    /// The file; `-` for the standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// An event.
#[derive(Debug, Args)]
pub struct EventId {
    /// The event's id; a unique prefix or suffix is enough, unless the event waits in a batch
    pub event: String,
}
