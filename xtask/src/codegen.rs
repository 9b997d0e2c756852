//! Generated files: writes them, and checks that none is stale.
//!
//! Tests of the command line write the docs; `HEADWATER_CODEGEN` determines whether they write or
//! compare. The feature lists of the workspace are written here.

use crate::features;
use crate::process::{self, Outcome, cargo};

/// Writes every generated file.
pub fn write() -> Outcome {
    features::write()?;
    docs("write")
}

/// Fails if a generated file is stale.
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
