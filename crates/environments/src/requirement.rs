//! Requirements: the packages of `pip={...}` in normal form, for `uv` and the hash.

use crate::version_specifier::are_specifiers;
use crate::{EnvironmentSpec, Error, Result};

/// Hint for an invalid version.
pub(crate) const VERSION_HINT: &str =
    "Write a version such as `2.2.3`, a part such as `2.2`, or a range such as `>=2,<3`.";

/// Returns the requirements of a specification, sorted; `pyarrow` only if requested. If the
/// specification has pins, returns the pins.
pub(crate) fn requirements(spec: &EnvironmentSpec) -> Result<Vec<String>> {
    if spec.pins.is_empty() {
        return requested(spec);
    }
    let pins = spec.pins.iter();
    let lines = pins.map(|(name, version)| requirement(name, &format!("=={version}")));
    let mut lines = lines.collect::<Result<Vec<_>>>()?;
    lines.sort();
    Ok(lines)
}

/// Returns the names of the requested packages, without pins.
pub(crate) fn requested_names(spec: &EnvironmentSpec) -> Result<Vec<String>> {
    Ok(requested(spec)?.iter().map(|line| name_of(line).to_owned()).collect())
}

fn requested(spec: &EnvironmentSpec) -> Result<Vec<String>> {
    let lines = spec.packages.iter().map(|(name, version)| requirement(name, version));
    let mut lines = lines.collect::<Result<Vec<_>>>()?;
    lines.sort();
    lines.dedup();
    Ok(lines)
}

/// Returns one requirement: `Pandas`, `2.2` becomes `pandas==2.2.*`.
fn requirement(name: &str, version: &str) -> Result<String> {
    let (bare, extras) = match name.trim().split_once('[') {
        Some((bare, extras)) => (bare.trim_end(), format!("[{}", extras.trim())),
        None => (name.trim(), String::new()),
    };
    let extras_fit = extras.is_empty() || extras.ends_with(']');
    let named = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let begins = bare.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !begins || !bare.chars().all(named) || !extras_fit || extras.contains(['\n', ';', '@']) {
        return Err(Error::failed(
            format!("`{name}` is not the name of a package"),
            "Write the name as on PyPI, such as `pip={\"polars\": \"1.38.1\"}`.",
        ));
    }
    Ok(format!("{}{extras}{}", normalize(bare), specifier(bare, version.trim())?))
}

fn specifier(name: &str, version: &str) -> Result<String> {
    if version.is_empty() || version == "*" {
        return Ok(String::new());
    }
    let specifiers = if version.starts_with(['<', '>', '=', '~', '!']) {
        version.to_owned()
    } else {
        let parts = version.split('.').count();
        let partial = parts < 3 && version.chars().all(|c| c.is_ascii_digit() || c == '.');
        format!("=={version}{}", if partial { ".*" } else { "" })
    };
    if !are_specifiers(&specifiers) {
        let message = format!("`{version}` is not a version of `{name}`");
        return Err(Error::failed(message, VERSION_HINT));
    }
    Ok(specifiers.split_whitespace().collect())
}

/// Normalizes a package name as PyPI does: lower case, one `-` per run of `-`, `_` and `.`.
pub(crate) fn normalize(name: &str) -> String {
    let parts = name.split(['-', '_', '.']).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("-").to_ascii_lowercase()
}

/// Returns the name in a requirement.
pub(crate) fn name_of(requirement: &str) -> &str {
    let end = requirement.find(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c)));
    &requirement[..end.unwrap_or(requirement.len())]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn common_spellings_of_versions_are_accepted() {
        let check = |name: &str, version: &str, wanted: &str| {
            assert_eq!(requirement(name, version).unwrap(), wanted);
        };
        check("polars", "1.38.1", "polars==1.38.1");
        check("polars", "1.37", "polars==1.37.*");
        check("polars", "1", "polars==1.*");
        check("polars", "1.37.*", "polars==1.37.*");
        check("Scikit_Learn", "", "scikit-learn");
        check("zope.interface", " * ", "zope-interface");
        check("numpy", ">=1.26, <2", "numpy>=1.26,<2");
        check("numpy", ">= 1.26\n,<2", "numpy>=1.26,<2");
        check("pandas[excel]", "2.2.3", "pandas[excel]==2.2.3");
        check("torch", "2.0.0rc1", "torch==2.0.0rc1");
    }

    #[test]
    fn pins_replace_the_requested_versions() {
        let map = |all: &[(&str, &str)]| -> BTreeMap<String, String> {
            all.iter().map(|(name, version)| ((*name).to_owned(), (*version).to_owned())).collect()
        };
        let spec = EnvironmentSpec {
            packages: map(&[("Pandas[excel]", ">=2")]),
            pins: map(&[("pandas", "2.2.3"), ("pytz", "2025.1"), ("six", "1.16.0")]),
            ..EnvironmentSpec::default()
        };
        let pinned = ["pandas==2.2.3", "pytz==2025.1", "six==1.16.0"];
        assert_eq!(requirements(&spec).unwrap(), pinned);
        assert_eq!(requested_names(&spec).unwrap(), ["pandas"]);
    }

    #[test]
    fn invalid_packages_are_rejected() {
        for name in ["", "-r", "a b", "a;b", "x @ file:///etc", "a\n-e ."] {
            assert!(requirement(name, "1").is_err(), "{name}");
        }
        for version in [
            "1; python_version<'3'",
            "1\n--index-url=x",
            "@ /tmp",
            "not a version",
            "=>1",
            ">=1,,",
            "latest",
            "^1",
        ] {
            assert!(requirement("a", version).is_err(), "{version}");
        }
    }

    #[test]
    fn a_requirement_begins_with_its_name() {
        assert_eq!(name_of("pandas[excel]==2.2.3"), "pandas");
        assert_eq!(name_of("pyarrow"), "pyarrow");
    }
}
