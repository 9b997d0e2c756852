//! Fingerprints: hashes over everything that a step depends on. The code fingerprint covers the
//! step's code, settings and parameters; the full fingerprint also covers the states of its inputs.

use std::collections::BTreeMap;
use std::fmt::Write;

use sha2::{Digest, Sha256};

use crate::{Defaults, Project, PythonFunction, Step, StepCode};

/// Version of the project format; a new version makes every step run again.
const VERSION: u32 = 1;

/// Returns the code fingerprint of a step, which does not cover its inputs.
pub fn code(
    project: &Project,
    step: &Step,
    values: &BTreeMap<String, serde_json::Value>,
) -> String {
    let mut text = format!("{VERSION}\n{}\n{}\n", step.table, step.kind.as_str());
    let partition: Vec<String> = step.partition_by.iter().map(ToString::to_string).collect();
    let _ = writeln!(text, "{} {}", step.materialization.as_str(), partition.join(","));
    let _ = writeln!(text, "{:?}", step.columns);
    // Hash keys only if the step has some, so that a step without keys has the same fingerprint as
    // in earlier versions of Headwater.
    if !step.keys.is_empty() {
        let _ = writeln!(text, "keys {}", step.keys.join(","));
    }
    if let Some(filter) = &step.overwrite_filter {
        let _ = writeln!(text, "overwrite {filter}");
    }
    for expectation in &step.row_expectations {
        let _ = writeln!(text, "{:?} {}", expectation.severity, expectation.condition);
    }
    if !step.contract.is_empty() {
        let _ = writeln!(text, "contract {:?}", step.contract);
    }
    for input in step.inputs.iter().filter(|input| input.incremental) {
        let _ = writeln!(text, "incremental {}", input.table);
    }
    for parameter in &step.parameters {
        let _ = writeln!(text, "{}={}", parameter.name, values[&parameter.name]);
    }
    match &step.body {
        StepCode::Sql(sql) => text.push_str(sql),
        StepCode::Python(function) => {
            let _ = writeln!(text, "{} {}", function.name, !function.network.denies_all());
            if !function.secrets.is_empty() {
                let _ = writeln!(text, "secrets {}", function.secrets.join(","));
            }
            let (python, packages) = environment(&project.defaults, function);
            let _ = writeln!(text, "{python:?} {packages:?}");
            for input in &step.inputs {
                let _ =
                    writeln!(text, "{:?} {:?} {:?}", input.argument, input.columns, input.filter);
            }
            text.push_str(&function.code);
        }
    }
    hash(&text)
}

/// Returns the Python version and packages of a function.
pub fn environment(
    defaults: &Defaults,
    function: &PythonFunction,
) -> (Option<String>, BTreeMap<String, String>) {
    let python = function.python.clone().or_else(|| defaults.python.clone());
    (python, function.packages.clone().unwrap_or_else(|| defaults.packages.clone()))
}

/// Returns the Python version and packages of a function as text: `python 3.11, polars 1.38.1`.
pub fn environment_text(defaults: &Defaults, function: &PythonFunction) -> String {
    let (python, packages) = environment(defaults, function);
    let python = python.map_or("python".to_owned(), |version| format!("python {version}"));
    let packages = packages.iter().map(|(name, version)| format!("{name} {version}"));
    std::iter::once(python).chain(packages).collect::<Vec<_>>().join(", ")
}

/// Returns the first 16 digits of a text's hash.
pub fn short_hash(text: &str) -> String {
    let mut digits = [0; 16];
    digits_of(&Sha256::digest(text.as_bytes())[..8], &mut digits)
}

/// Returns the full fingerprint of a step, from its code fingerprint and pairs of the name and the
/// state of each input.
pub fn whole(code: &str, inputs: &[(String, String)]) -> String {
    let mut text = format!("{code}\n");
    for (name, state) in inputs {
        let _ = writeln!(text, "{name} {state}");
    }
    hash(&text)
}

fn hash(text: &str) -> String {
    let mut digits = [0; 64];
    digits_of(&Sha256::digest(text.as_bytes()), &mut digits)
}

/// Returns bytes as hexadecimal digits. Unlike `hex::encode`, copies all digits at once.
fn digits_of(bytes: &[u8], digits: &mut [u8]) -> String {
    // The buffer has the right length, so the encoding cannot fail.
    let _ = hex::encode_to_slice(bytes, digits);
    String::from_utf8_lossy(digits).into_owned()
}
