//! Runs other programs. Prints each command line before it runs, and its duration afterwards.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

/// The result of a task; the error is the message for the user.
pub type Outcome = Result<(), String>;

/// Returns the repository's root, from the environment at run time. A path from build time could be
/// wrong, because another clone that shares the target folder may have built this program.
pub fn root() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR");
    let manifest = manifest.map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    manifest.parent().map_or(manifest.clone(), PathBuf::from)
}

/// Returns the target folder, which contains the builds and the packages that tests install.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Returns a command that runs in the repository's root.
pub fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root());
    command
}

/// Returns a command that runs the cargo which started this program, with the environment that a
/// shell would have.
pub fn cargo(arguments: &[&str]) -> Command {
    let mut cargo =
        command(&std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()), arguments);
    clear_cargo(&mut cargo);
    cargo
}

/// Removes the variables that describe this package, and the variables of `.cargo/config.toml`.
/// Cargo sets both kinds again. If they were inherited, half of the dependencies would be rebuilt,
/// because build scripts depend on these variables.
pub fn clear_cargo(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_")
            || text.starts_with("CARGO_MANIFEST_")
            || text == "LIBSQLITE3_FLAGS"
        {
            command.env_remove(&name);
        }
    }
}

/// Runs a program to its end. The error of a failed program contains the command line.
pub fn run(mut command: Command) -> Outcome {
    let line = line(&command);
    eprintln!("$ {line}");
    let began = Instant::now();
    let status = command.status().map_err(|error| format!("cannot start `{line}`: {error}"))?;
    eprintln!("  {:.1} s", began.elapsed().as_secs_f64());
    if status.success() { Ok(()) } else { Err(format!("`{line}` ended with {status}")) }
}

/// Runs a program and returns its standard output.
pub fn output(mut command: Command) -> Result<String, String> {
    let line = line(&command);
    let output = command.output().map_err(|error| format!("cannot start `{line}`: {error}"))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(format!("`{line}` ended with {}\n{errors}", output.status));
    }
    String::from_utf8(output.stdout).map_err(|_| format!("`{line}` printed no text"))
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    let program = words[0].rsplit('/').next().unwrap_or_default().to_owned();
    [&[program.into()], &words[1..]].concat().join(" ")
}
