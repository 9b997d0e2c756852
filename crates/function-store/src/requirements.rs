//! `requirements.txt` of a function in Python: names and versions of packages.

use std::collections::BTreeMap;

use crate::paths::printable;
use crate::{Error, Result};

/// Name of the file.
pub(crate) const FILE: &str = "requirements.txt";

/// Returns the packages in a file by name, with their versions; `*` means any version.
///
/// Errors: `invalid_argument` for a line that is not a package from PyPI, such as an option or URL.
pub(crate) fn parse(text: &str) -> Result<BTreeMap<String, String>> {
    let mut packages = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split(" #").next().unwrap_or_default().trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let invalid = |reason: &str| {
            let line = printable(line);
            let message = format!("line {} of `{FILE}`, `{line}`: {reason}", number + 1);
            let hint = "Write packages from PyPI as in `pandas==2.2.3` or `pandas>=2,<3`";
            Error::invalid(message, hint)
        };
        let (name, version) = requirement(line)
            .ok_or_else(|| invalid("the line is not a requirement of a package"))?;
        if packages.insert(name, version).is_some() {
            return Err(invalid("the package is listed twice"));
        }
    }
    Ok(packages)
}

/// Returns the package name with its extras, and the version, from a line of the file.
fn requirement(line: &str) -> Option<(String, String)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let end = line.find(|c: char| !is_name(c)).unwrap_or(line.len());
    let (mut name, mut rest) = (line[..end].to_owned(), line[end..].trim_start());
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return None;
    }
    if rest.starts_with('[') {
        let close = rest.find(']')? + 1;
        let extras = &rest[..close];
        if !extras[1..close - 1].chars().all(|c| is_name(c) || ", ".contains(c)) {
            return None;
        }
        name.push_str(extras);
        rest = rest[close..].trim_start();
    }
    if rest.is_empty() {
        return Some((name, "*".to_owned()));
    }
    let is_version = |c: char| c.is_ascii_alphanumeric() || ".*+!<>=~,- _".contains(c);
    let begins = rest.starts_with(['<', '>', '=', '~', '!']);
    (begins && rest.chars().all(is_version)).then(|| (name, rest.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_read_and_other_lines_are_rejected() {
        let text = "# packages\npandas==2.2.3  # rows\nhttpx[http2] >= 0.27, <1\n\nsix\n";
        let expected =
            [("httpx[http2]", ">= 0.27, <1"), ("pandas", "==2.2.3"), ("six", "*")].into_iter();
        let expected: BTreeMap<_, _> =
            expected.map(|(name, version)| (name.to_owned(), version.to_owned())).collect();
        assert_eq!(parse(text).expect("packages"), expected);
        for line in [
            "-r other.txt",
            "--index-url https://example.com",
            "-e .",
            "pandas @ https://example.com/a.whl",
            "./local",
            "a; python_version < '3.11'",
            "a[b",
            "a b",
            "six\nsix",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
