//! Builds the small libraries of C that zygotes have preloaded, to be embedded in the binary.

use std::path::Path;

const LIBRARIES: [&str; 2] = ["arena", "snapshot"];

fn main() {
    for name in LIBRARIES {
        build(name);
    }
}

fn build(name: &str) {
    let source = Path::new("native").join(format!("{name}.c"));
    println!("cargo::rerun-if-changed={}", source.display());
    let folder = std::env::var_os("OUT_DIR").unwrap_or_default();
    let library = Path::new(&folder).join(format!("{name}.so"));
    let mut build = cc::Build::new();
    let compiler = build.opt_level(2).pic(true).warnings(true).get_compiler();
    let mut command = compiler.to_command();
    command.arg("-shared").arg("-o").arg(&library).arg(&source).arg("-ldl");
    let built = command.status().is_ok_and(|status| status.success());
    assert!(built, "cannot build {}: {command:?}", source.display());
}
