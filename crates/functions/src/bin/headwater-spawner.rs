//! The spawner as a separate program for this crate's tests; `headwater` starts the spawner by a
//! hidden argument.

fn main() -> std::process::ExitCode {
    headwater_functions::spawner_main()
}
