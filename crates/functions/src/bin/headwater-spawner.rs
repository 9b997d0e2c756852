//! The spawner as a separate program, for the tests of this crate. In production, the `headwater`
//! binary runs as the spawner if it is started with a hidden argument.

fn main() -> std::process::ExitCode {
    headwater_functions::spawner_main()
}
