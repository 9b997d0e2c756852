//! Differences between the packages of two builds of an environment.

use std::collections::BTreeMap;

/// Returns the differences between the packages of two builds, one phrase each.
pub fn package_changes(
    before: &BTreeMap<String, String>,
    now: &BTreeMap<String, String>,
) -> Vec<String> {
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
    fn changes_name_packages_and_versions() {
        let packages = |all: &[(&str, &str)]| -> BTreeMap<String, String> {
            all.iter().map(|(name, version)| ((*name).to_owned(), (*version).to_owned())).collect()
        };
        let before = packages(&[("numpy", "2.0.0"), ("polars", "1.37.0"), ("six", "1.16.0")]);
        let now = packages(&[("numpy", "2.0.0"), ("polars", "1.38.1"), ("pytz", "2025.1")]);
        assert_eq!(
            package_changes(&before, &now),
            [
                "package `polars` changed: 1.37.0 -> 1.38.1",
                "package `pytz` 2025.1 is new",
                "package `six` is no longer installed",
            ]
        );
        assert_eq!(package_changes(&now, &now), [""; 0]);
    }
}
