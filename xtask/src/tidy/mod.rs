//! `cargo xtask tidy`: the style rules that no lint covers.
//!
//! The task measures every file, function, type and crate, and compares the numbers with the limits
//! in [`rules`]. The task also compares the crates' manifests with the table in ARCHITECTURE.md.
//! `xtask/tidy-exceptions.toml` lists the files that exceed a limit today, with their numbers,
//! which may only shrink.

mod check;
mod crates;
mod exceptions;
mod files;
mod functions;
mod rules;
mod source;
mod words;

pub use check::{check, update};
