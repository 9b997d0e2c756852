//! The feature lists of the crate `workspace-hack`. A dependency is listed, with its features in
//! the whole workspace, if a build of a single package would use other features and rebuild it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::process::{self, Outcome, cargo};

/// A dependency: its name and version.
type Dependency = (String, String);

/// The feature sets of each dependency. A dependency has several sets if proc macros use it with
/// other features.
type Features = BTreeMap<Dependency, BTreeSet<String>>;

/// Dependencies of proc macros and build scripts only.
const BUILD_ONLY: [&str; 2] = ["cc", "syn"];

/// Dependencies and features for other platforms, which are excluded because they would add
/// dependencies to the lock file.
const FOREIGN: [&str; 5] = ["js-sys", "wasm-bindgen", "wasmbind", "winapi", "windows-link"];

/// Dependencies whose features differ only in a proc macro of one crate. Building them twice takes
/// less time than rebuilding all crates after a change to the lists.
const BUILT_TWICE: [&str; 1] = ["either"];

const MANIFEST: &str = "workspace-hack/Cargo.toml";

const START: &str = "# The lists begin here.\n";

/// Writes the lists.
pub fn write() -> Outcome {
    let path = process::root().join(MANIFEST);
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{MANIFEST}: {error}"))?;
    let head = text.split(START).next().unwrap_or_default();
    let mut listed = listed(&text);
    // An added feature can require further features, so repeat until nothing is missing.
    for _ in 0..5 {
        let missing = missing()?;
        let before = listed.len();
        listed.extend(missing);
        let whole = tree(&["--workspace"])?;
        listed.retain(|dependency| whole.contains_key(dependency));
        std::fs::write(&path, format!("{head}{START}{}", lists(&listed, &whole)))
            .map_err(|error| format!("{MANIFEST}: {error}"))?;
        if listed.len() == before {
            break;
        }
    }
    Ok(())
}

/// Fails if a build of a single package would rebuild a dependency.
pub fn check() -> Outcome {
    let text = std::fs::read_to_string(process::root().join(MANIFEST))
        .map_err(|error| format!("{MANIFEST}: {error}"))?;
    let listed = listed(&text);
    let missing: Vec<_> =
        missing()?.into_iter().filter(|dependency| !listed.contains(dependency)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(|(name, version)| format!("{name} {version}")).collect();
    Err(format!("{MANIFEST} is stale: run `cargo xtask codegen` ({})", names.join(", ")))
}

fn listed(manifest: &str) -> BTreeSet<Dependency> {
    let lines = manifest.lines().filter(|line| line.contains("default-features = false"));
    lines
        .filter_map(|line| {
            let (key, rest) = line.split_once(" = ")?;
            let name = quoted(rest, "package = ").unwrap_or(key);
            Some((name.to_owned(), quoted(rest, "version = ")?.to_owned()))
        })
        .collect()
}

fn quoted<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    text.split_once(label)?.1.split('"').nth(1)
}

fn missing() -> Result<BTreeSet<Dependency>, String> {
    let whole = tree(&["--workspace"])?;
    let mut missing = BTreeSet::new();
    for package in packages()? {
        for (dependency, features) in tree(&["--package", &package])? {
            let known = whole.get(&dependency).is_some_and(|known| features.is_subset(known));
            if !known && !BUILT_TWICE.contains(&dependency.0.as_str()) {
                missing.insert(dependency);
            }
        }
    }
    Ok(missing)
}

fn packages() -> Result<Vec<String>, String> {
    let folder = process::root().join("crates");
    let entries = std::fs::read_dir(folder).map_err(|error| format!("crates: {error}"))?;
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.map(|name| format!("headwater-{name}")).collect();
    names.sort();
    Ok(names)
}

/// Returns the dependencies of some packages, with their feature sets. `selection` are the
/// arguments of `cargo tree` that select the packages.
fn tree(selection: &[&str]) -> Result<Features, String> {
    let format = ["--edges", "normal,dev", "--format", "{p}|{f}", "--prefix", "none"];
    let text = process::output(cargo(&[&["tree"], selection, &format].concat()))?;
    let mut features: Features = BTreeMap::new();
    for line in text.lines() {
        let line = line.trim_end_matches(" (*)");
        let Some((package, set)) = line.split_once('|') else { continue };
        let mut words = package.split(' ');
        let (Some(name), Some(version)) = (words.next(), words.next()) else { continue };
        if name.starts_with("headwater-") || name == "xtask" || name == "workspace-hack" {
            continue;
        }
        // Remove build metadata (`+zstd.1.5.7`), which a version requirement in a manifest cannot
        // have.
        let version = version.trim_start_matches('v').split('+').next().unwrap_or_default();
        let dependency = (name.to_owned(), version.to_owned());
        features.entry(dependency).or_default().insert(set.to_owned());
    }
    Ok(features)
}

fn lists(listed: &BTreeSet<Dependency>, whole: &Features) -> String {
    let mut text = String::new();
    for (title, build) in [("dependencies", false), ("build-dependencies", true)] {
        let _ = writeln!(text, "[{title}]");
        for (name, version) in listed {
            if BUILD_ONLY.contains(&name.as_str()) == build {
                let twice = listed.iter().filter(|(other, _)| other == name).count() > 1;
                text.push_str(&entry(name, version, twice, whole));
            }
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

fn entry(name: &str, version: &str, twice: bool, whole: &Features) -> String {
    let sets = whole.get(&(name.to_owned(), version.to_owned()));
    let features: BTreeSet<&str> = sets
        .into_iter()
        .flatten()
        .flat_map(|set| set.split(','))
        .filter(|feature| !feature.is_empty() && !FOREIGN.contains(feature))
        .collect();
    let features: Vec<_> = features.iter().map(|feature| format!("\"{feature}\"")).collect();
    let mut parts = version.split('.');
    let line = format!("{}-{}", parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    let (key, package) = if twice {
        (format!("{name}-{line}"), format!("package = \"{name}\", "))
    } else {
        (name.to_owned(), String::new())
    };
    let features = features.join(", ");
    format!(
        "{key} = {{ {package}version = \"{version}\", default-features = false, features = [{features}] }}\n"
    )
}
