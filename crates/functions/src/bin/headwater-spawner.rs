//! The spawner as a separate program for this crate's tests; `headwater` includes it behind a
//! hidden argument.

fn main() -> std::process::ExitCode {
    headwater_functions::spawner_main()
}
