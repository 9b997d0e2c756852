//! The spawner as a separate program, for this crate's tests. The `headwater` binary starts the
//! spawner through a hidden argument instead.

fn main() -> std::process::ExitCode {
    headwater_functions::spawner_main()
}
