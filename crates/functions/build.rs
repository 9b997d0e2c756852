//! Builds the small libraries of C that zygotes have preloaded, to be embedded in the binary.

use std::path::{Path, PathBuf};

/// Each by its name and its sources.
const LIBRARIES: [(&str, &[&str]); 2] = [("arena", &["arena"]), ("zygote", &["fork", "snapshot"])];

fn main() {
    for (name, sources) in LIBRARIES {
        build(name, sources);
    }
}

fn build(name: &str, sources: &[&str]) {
    let source = |name: &&str| Path::new("native").join(format!("{name}.c"));
    let sources: Vec<PathBuf> = sources.iter().map(source).collect();
    for source in &sources {
        println!("cargo::rerun-if-changed={}", source.display());
    }
    let folder = std::env::var_os("OUT_DIR").unwrap_or_default();
    let library = Path::new(&folder).join(format!("{name}.so"));
    let mut build = cc::Build::new();
    let compiler = build.opt_level(2).pic(true).warnings(true).get_compiler();
    let mut command = compiler.to_command();
    command.arg("-shared").arg("-o").arg(&library).args(&sources).arg("-ldl");
    let built = command.status().is_ok_and(|status| status.success());
    assert!(built, "cannot build {name}: {command:?}");
}
