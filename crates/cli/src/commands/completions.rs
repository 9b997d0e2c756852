//! `headwater completions`: completion scripts for shells.

use clap::CommandFactory;

use crate::arguments::{Arguments, Completions};
use crate::output;

/// Prints the script.
pub fn completions(arguments: &Completions) {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "headwater", &mut script);
    output::write(&script);
}
