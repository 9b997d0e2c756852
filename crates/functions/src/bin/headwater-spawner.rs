//! The spawner as a separate program, for this crate's tests. The `headwater` binary itself becomes
//! the spawner if it is started with a hidden argument.

fn main() -> std::process::ExitCode {
    headwater_functions::spawner_main()
}
