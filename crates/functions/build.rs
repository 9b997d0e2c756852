//! Builds the C library that zygotes preload, and embeds it in the binary.

/// Source files of the library.
const SOURCES: [&str; 2] = ["native/fork.c", "native/snapshot.c"];

fn main() {
    for source in SOURCES {
        println!("cargo::rerun-if-changed={source}");
    }
    let folder = std::env::var_os("OUT_DIR").unwrap_or_default();
    let library = std::path::Path::new(&folder).join("zygote.so");
    let mut build = cc::Build::new();
    let compiler = build.opt_level(2).pic(true).warnings(true).get_compiler();
    let mut command = compiler.to_command();
    command.arg("-shared").arg("-o").arg(&library).args(SOURCES).arg("-ldl");
    let built = command.status().is_ok_and(|status| status.success());
    assert!(built, "cannot build the zygote library: {command:?}");
}
