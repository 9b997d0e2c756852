//! Generated files: who writes each, and the check that none is stale.
//!
//! The docs are written by tests of the command line, told by `HEADWATER_CODEGEN` whether to write or to
//! compare; the workspace's feature lists are written here.

use crate::features;
use crate::process::{self, Outcome, cargo};

/// Writes every generated file.
pub fn write() -> Outcome {
    features::write()?;
    docs("write")
}

/// Says which generated files are stale.
pub fn check() -> Outcome {
    features::check()?;
    docs("check")
}

fn docs(mode: &str) -> Outcome {
    let mut test =
        cargo(&["test", "--quiet", "--package", "headwater-cli", "--bins", "--", "generated_"]);
    test.env("HEADWATER_CODEGEN", mode);
    process::run(test)
}
