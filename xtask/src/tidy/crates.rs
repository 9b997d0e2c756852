//! The crate graph: the manifests must agree with the table in ARCHITECTURE.md.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// External crates, each with the workspace crates that may use it.
const OWNED: [(&str, &[&str]); 7] = [
    (
        "datafusion",
        &[
            "engine",
            "table-diff",
            "join-order",
            "table-scan",
            "sql-functions",
            "sql-library",
            "sql-aggregates",
            "restrictions",
            "sql-python",
        ],
    ),
    ("sqlx", &["store", "triggers", "destinations"]),
    ("axum", &["http-request", "iceberg-rest", "server"]),
    ("tonic", &["flight"]),
    ("arrow-flight", &["flight"]),
    ("pgwire", &["server"]),
    ("s3s", &["s3", "server"]),
];

/// Crates by name, each with the crates that it may use.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// Compares the manifests with the table; returns the differences.
pub fn check_graph(root: &Path) -> Result<Vec<String>, String> {
    let text = std::fs::read_to_string(root.join("ARCHITECTURE.md"));
    let documented = parse_table(&text.map_err(|error| format!("ARCHITECTURE.md: {error}"))?);
    let mut faults = Vec::new();
    let folders = std::fs::read_dir(root.join("crates"));
    let folders = folders.map_err(|error| format!("crates: {error}"))?.flatten();
    let mut built = Graph::new();
    for folder in folders {
        // A folder without a manifest is a remnant of a removed crate.
        let Ok(manifest) = std::fs::read_to_string(folder.path().join("Cargo.toml")) else {
            continue;
        };
        let name = folder.file_name().to_string_lossy().into_owned();
        let dependencies = dependencies(&manifest);
        for (external, owners) in OWNED {
            if !owners.contains(&name.as_str()) && dependencies.contains(external) {
                let owners = owners.join(" and crates/");
                faults.push(format!("crates/{name} uses {external}; only crates/{owners} may"));
            }
        }
        let own = dependencies.iter().filter_map(|name| name.strip_prefix("headwater-"));
        built.insert(name, own.map(str::to_owned).collect());
    }
    faults.extend(differences(&documented, &built));
    Ok(faults)
}

/// Reads the rows `| `name` | purpose | dependencies |` of the table.
fn parse_table(text: &str) -> Graph {
    let section = text.split("\n## Crates\n").nth(1).unwrap_or_default();
    let section = section.split("\n## ").next().unwrap_or_default();
    let row = |line: &str| {
        let cells: Vec<_> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        let [name, _, uses] = cells.as_slice() else { return None };
        let name = name.strip_prefix('`')?.strip_suffix('`')?;
        let uses = uses.split(", ").filter(|name| !["-", ""].contains(name));
        Some((name.to_owned(), uses.map(str::to_owned).collect()))
    };
    section.lines().filter_map(row).collect()
}

/// Lists the dependencies of a manifest, except dev-dependencies.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut is_dependency = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            is_dependency = line.contains("dependencies]") && !line.contains("dev-dependencies]");
        } else if is_dependency {
            let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
            names.insert(name.to_owned());
        }
    }
    names
}

fn differences(documented: &Graph, built: &Graph) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, uses) in built {
        let Some(allowed) = documented.get(name) else {
            faults.push(format!("ARCHITECTURE.md: no row for the crate `{name}`"));
            continue;
        };
        for other in uses.difference(allowed) {
            faults.push(format!("crates/{name} uses crates/{other}; ARCHITECTURE.md forbids it"));
        }
        for other in allowed.difference(uses) {
            faults.push(format!("ARCHITECTURE.md: `{name}` does not use `{other}`"));
        }
    }
    let missing = documented.keys().filter(|name| !built.contains_key(*name));
    faults.extend(missing.map(|name| format!("ARCHITECTURE.md: there is no crate `{name}`")));
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_between_table_and_manifests_are_found() {
        let table = "# A\n\n## Crates\n\n| crate | for | may use |\n|---|---|---|\n\
                     | `lake` | tables | store, model |\n| `gone` | - | - |\n\n## Invariants\n";
        let manifest = "[package]\nname = \"headwater-lake\"\n[dependencies]\n\
                        headwater-model.workspace = true\nheadwater-sql.workspace = true\n\
                        [dev-dependencies]\nheadwater-jobs.workspace = true\n";
        let own = dependencies(manifest);
        let own = own.iter().filter_map(|name| name.strip_prefix("headwater-"));
        let built = Graph::from([("lake".to_owned(), own.map(str::to_owned).collect())]);
        assert_eq!(
            differences(&parse_table(table), &built),
            [
                "crates/lake uses crates/sql; ARCHITECTURE.md forbids it",
                "ARCHITECTURE.md: `lake` does not use `store`",
                "ARCHITECTURE.md: there is no crate `gone`",
            ]
        );
    }
}
