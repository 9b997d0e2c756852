//! The spawner.

use std::process::ExitCode;

/// What the spawner process runs, before any thread or runtime starts.
pub fn spawner_main() -> ExitCode {
    ExitCode::FAILURE
}
