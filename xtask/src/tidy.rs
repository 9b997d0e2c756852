//! Style rules that no lint knows, as a test: file headers, line lengths, file lengths, and the arrows
//! between the rooms.

use std::path::{Path, PathBuf};

use crate::process::{self, Outcome};

/// Longer files must be cut.
const FILE_LINES_MAX: usize = 800;

const LINE_COLUMNS_MAX: usize = 110;

/// Crates that only one room may use.
const OWNED: [(&str, &str); 6] = [
    ("datafusion", "engine"),
    ("sqlx", "store"),
    ("axum", "server"),
    ("tonic", "server"),
    ("pgwire", "server"),
    ("s3s", "server"),
];

/// The arrows of ARCHITECTURE.md: which rooms a room may use.
const ARROWS: [(&str, &[&str]); 11] = [
    ("model", &[]),
    ("store", &["model"]),
    ("catalog", &["store", "model"]),
    ("tables", &["model"]),
    ("lake", &["tables", "catalog", "store", "model"]),
    ("engine", &["lake", "tables", "catalog", "model"]),
    ("functions", &["model"]),
    ("jobs", &["store", "model"]),
    ("pipelines", &["lake", "engine", "tables", "catalog", "functions", "jobs", "store", "model"]),
    (
        "server",
        &[
            "pipelines",
            "jobs",
            "functions",
            "engine",
            "lake",
            "tables",
            "catalog",
            "store",
            "model",
        ],
    ),
    ("cli", &["server", "model"]),
];

/// Checks every rule and lists what breaks one.
pub fn check() -> Outcome {
    let root = process::root();
    let mut faults = Vec::new();
    for file in process::output(process::command("git", &["ls-files"]))?.lines() {
        if Path::new(file).extension().is_some_and(|extension| extension == "rs") {
            check_source(&root, file, &mut faults);
        }
    }
    for (room, allowed) in ARROWS {
        check_arrows(&root, room, allowed, &mut faults);
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
}

fn check_source(root: &Path, file: &str, faults: &mut Vec<String>) {
    let Ok(text) = std::fs::read_to_string(root.join(file)) else { return };
    if !text.starts_with("//!") && !text.starts_with("#!") {
        faults.push(format!("{file}:1: the file says nowhere what it is for (`//!`)"));
    }
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        faults.push(format!("{file}: {lines} lines; cut it by concern"));
    }
    // Tests hold texts as they are read and printed.
    if file.contains("/tests/") {
        return;
    }
    for (index, line) in text.lines().enumerate() {
        if line.chars().count() > LINE_COLUMNS_MAX && !line.contains("://") && !line.contains('"') {
            faults.push(format!("{file}:{}: over {LINE_COLUMNS_MAX} columns", index + 1));
        }
    }
}

fn check_arrows(root: &Path, room: &str, allowed: &[&str], faults: &mut Vec<String>) {
    let manifest: PathBuf = root.join("crates").join(room).join("Cargo.toml");
    let Ok(text) = std::fs::read_to_string(&manifest) else {
        faults.push(format!("crates/{room} has no manifest"));
        return;
    };
    let used = text.split("[dev-dependencies]").next().unwrap_or_default();
    for line in used.lines() {
        let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
        if let Some(other) = name.strip_prefix("headwater-")
            && other != room
            && !allowed.contains(&other)
        {
            faults.push(format!("crates/{room} may not use crates/{other}"));
        }
        if let Some((_, owner)) = OWNED.iter().find(|(owned, _)| *owned == name)
            && *owner != room
        {
            faults.push(format!("crates/{room} may not use {name}: it belongs to crates/{owner}"));
        }
    }
}
