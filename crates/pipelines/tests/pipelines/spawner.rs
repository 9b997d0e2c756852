//! The spawner alone, for this crate's own tests; `headwater` carries it behind a hidden argument.

fn main() -> std::process::ExitCode {
    headwater_functions::spawner_main()
}
