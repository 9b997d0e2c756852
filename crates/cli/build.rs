//! Links optimised binaries for Linux at a fixed address, so that commands start faster.
//!
//! A position-independent executable needs 425,000 relocations at each start, which copy 7 MB of
//! the binary: 8 ms of each command (docs/adr/0014-fixed-address.md).

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let is_gnu_linux =
        variable("CARGO_CFG_TARGET_OS") == "linux" && variable("CARGO_CFG_TARGET_ENV") == "gnu";
    if variable("PROFILE") == "release" && is_gnu_linux {
        println!("cargo::rustc-link-arg-bin=headwater=-no-pie");
    }
}
