//! Version specifiers of packages, by PEP 440: lists such as `>=2,<3`.
//!
//! `uv` rejects other text only when it builds an environment. The check of a deployment builds
//! nothing, so it uses [`are_specifiers`].

/// Operators, such that no operator is a prefix of a later one.
const OPERATORS: [&str; 8] = ["===", "~=", "==", "!=", "<=", ">=", "<", ">"];

/// Spellings of pre-releases, such that no spelling is a prefix of a later one.
const PRE_RELEASES: [&str; 8] = ["alpha", "a", "beta", "b", "preview", "pre", "rc", "c"];

/// Returns true for a list of one or more version specifiers, separated by commas. As in `uv`, a
/// comma may end the list.
pub(crate) fn are_specifiers(text: &str) -> bool {
    let text = text.trim_end();
    text.strip_suffix(',').unwrap_or(text).split(',').all(|one| is_specifier(one.trim()))
}

fn is_specifier(text: &str) -> bool {
    let Some(operator) = OPERATORS.into_iter().find(|operator| text.starts_with(operator)) else {
        return false;
    };
    let version = text[operator.len()..].trim_start().to_ascii_lowercase();
    let is_equality = matches!(operator, "==" | "!=");
    if let Some(prefix) = version.strip_suffix(".*") {
        let parts = VersionParts::of(prefix);
        return is_equality && parts.is_some_and(|parts| parts.suffix.is_empty());
    }
    let Some(parts) = VersionParts::of(&version) else { return false };
    let (public, local) = match parts.suffix.split_once('+') {
        Some((public, local)) => (public, Some(local)),
        None => (parts.suffix, None),
    };
    let is_local_allowed = is_equality || operator == "===";
    is_suffix(public)
        && local.is_none_or(|local| is_local_allowed && is_local(local))
        && (operator != "~=" || parts.release_count > 1)
}

/// The parts of a version (in lower case) that the checks need.
struct VersionParts<'v> {
    /// Number of parts of the release: 3 for `1.2.3`.
    release_count: usize,
    /// The text after the release, such as `rc1+local`.
    suffix: &'v str,
}

impl<'v> VersionParts<'v> {
    /// Splits a version such as `1!2.0rc1+local`; `None` unless it begins with a release.
    fn of(version: &'v str) -> Option<Self> {
        let version = version.strip_prefix('v').unwrap_or(version);
        let mut rest = match version.split_once('!') {
            Some((epoch, rest)) => after_digits(epoch)?.is_empty().then_some(rest)?,
            None => version,
        };
        let mut release_count = 0;
        loop {
            rest = after_digits(rest)?;
            release_count += 1;
            match rest.strip_prefix('.') {
                Some(next) if next.starts_with(|c: char| c.is_ascii_digit()) => rest = next,
                _ => return Some(VersionParts { release_count, suffix: rest }),
            }
        }
    }
}

/// Returns true if the text is empty or names a pre-release, a post-release, a development release,
/// or several of them in this order.
fn is_suffix(text: &str) -> bool {
    let text = after_segment(text, &PRE_RELEASES).unwrap_or(text);
    let implicit_post = text.strip_prefix('-').and_then(after_digits);
    let text = implicit_post.or_else(|| after_segment(text, &["post", "rev", "r"])).unwrap_or(text);
    after_segment(text, &["dev"]).unwrap_or(text).is_empty()
}

/// Returns the rest of a version that starts with a segment such as `.dev1`, `rc1` or `-post_2`.
fn after_segment<'t>(text: &'t str, names: &[&str]) -> Option<&'t str> {
    let text = text.strip_prefix(['-', '_', '.']).unwrap_or(text);
    let rest = names.iter().find_map(|name| text.strip_prefix(name))?;
    let number = rest.strip_prefix(['-', '_', '.']).unwrap_or(rest);
    Some(after_digits(number).unwrap_or(number))
}

fn is_local(text: &str) -> bool {
    let is_part = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric());
    text.split(['-', '_', '.']).all(is_part)
}

/// Returns the text after one or more digits.
fn after_digits(text: &str) -> Option<&str> {
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
    (rest.len() < text.len()).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specifiers_have_the_form_of_pep_440() {
        for text in [
            "==1",
            ">=2,<3",
            ">= 1.26 , !=1.27.*",
            "~=2.2",
            "~= 2.2.3rc1",
            "==1.37.*",
            "===1.0+cpu",
            "==2.1.0+cu118.x",
            "==v1.0",
            "==1!2.0",
            "==1.0a1",
            "==1.0.ALPHA-2",
            "==2.0.0rc1.post2.dev3",
            "==1.0-1",
            "==1.0.post",
            "==1.0.dev",
            "==1.0a_",
            "==1.0rc-.post1",
            "<2.0.dev0",
            "==2025.1",
            ">=1,",
            ">=2, <3, ",
        ] {
            assert!(are_specifiers(text), "{text}");
        }
        for text in [
            "",
            "1.0",
            "=>1",
            "=1",
            "=<2",
            "<>1",
            "== ",
            ",",
            ",>=1",
            ">=1,,",
            ">=1 <2",
            "==not a version",
            "==latest",
            "==1.",
            "==1..2",
            "==1.x",
            "==1.0foo",
            "==*",
            "==1.*.2",
            ">=1.*",
            "~=1",
            "~=1.0.*",
            ">=1.0+cpu",
            "==1.0+",
            "==1.0a1.*",
            "==1.0.dev1rc1",
            "==x!1",
            "!1",
        ] {
            assert!(!are_specifiers(text), "{text}");
        }
    }
}
