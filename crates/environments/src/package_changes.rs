//! Differences between the packages of two builds of an environment.

use std::collections::BTreeMap;

use crate::Environment;

/// Version by package.
type PackageVersions = BTreeMap<String, String>;

impl Environment {
    /// Returns the differences from the packages of an earlier build, one phrase each.
    pub fn changes_since(&self, packages: &BTreeMap<String, String>) -> Vec<String> {
        differences(packages, &self.packages)
    }
}

/// Returns the differences between two sets of packages, one phrase each.
fn differences(before: &PackageVersions, now: &PackageVersions) -> Vec<String> {
    let mut changes = Vec::new();
    for (name, version) in now {
        match before.get(name) {
            None => changes.push(format!("package `{name}` {version} is new")),
            Some(old) if old != version => {
                changes.push(format!("package `{name}` changed: {old} -> {version}"));
            }
            Some(_) => {}
        }
    }
    let removed = before.keys().filter(|name| !now.contains_key(*name));
    changes.extend(removed.map(|name| format!("package `{name}` is no longer installed")));
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_name_packages_and_versions() {
        let packages = |all: &[(&str, &str)]| -> PackageVersions {
            all.iter().map(|(name, version)| ((*name).to_owned(), (*version).to_owned())).collect()
        };
        let before = packages(&[("numpy", "2.0.0"), ("polars", "1.37.0"), ("six", "1.16.0")]);
        let now = packages(&[("numpy", "2.0.0"), ("polars", "1.38.1"), ("pytz", "2025.1")]);
        assert_eq!(
            differences(&before, &now),
            [
                "package `polars` changed: 1.37.0 -> 1.38.1",
                "package `pytz` 2025.1 is new",
                "package `six` is no longer installed",
            ]
        );
        assert_eq!(differences(&now, &now), [""; 0]);
    }
}
