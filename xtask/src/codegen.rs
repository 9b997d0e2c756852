//! Writes the generated files, or checks that no generated file is stale.
//!
//! Tests of the crate `cli` generate the docs. The variable `HEADWATER_CODEGEN` determines whether
//! these tests write the files or compare them. This module writes the feature lists of the
//! workspace.

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
