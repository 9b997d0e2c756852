//! The spawner as a separate program for these tests. The program `headwater` runs the spawner if
//! it is started with a hidden argument.

fn main() -> std::process::ExitCode {
    headwater_functions::spawner_main()
}
