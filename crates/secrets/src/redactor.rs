//! Removal of secrets from text that leaves a function: printed lines, errors and JSON results.
//!
//! A value is found in plain form, as base64 (even inside longer base64), percent-encoded,
//! hexadecimal, and escaped for JSON. A value that a function splits, reverses or encrypts is not
//! found.

use std::borrow::Cow;

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// The text that replaces a value.
const REPLACEMENT: &str = "***";

/// Minimum length in bytes of a value, or of one of its lines, to be replaced. Shorter texts occur
/// by chance.
const BYTES_MIN: usize = 4;

/// A replacer of known values in text. Without values it changes nothing.
#[derive(Debug, Clone, Default)]
pub struct Redactor(Option<AhoCorasick>);

impl Redactor {
    /// Creates a redactor for these values. For a value with several lines, each line is also
    /// replaced.
    pub fn new<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let mut patterns: Vec<String> = Vec::new();
        for value in values {
            let parts = std::iter::once(value).chain(value.lines().map(str::trim));
            let parts = parts.filter(|part| part.len() >= BYTES_MIN);
            patterns.extend(parts.flat_map(forms));
        }
        if patterns.is_empty() {
            return Redactor::default();
        }
        let builder = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(patterns);
        // Construction fails only for more patterns than can be addressed.
        Redactor(builder.ok())
    }

    /// Returns the text with `***` in place of each value.
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match &self.0 {
            Some(values) if values.is_match(text) => {
                let mut redacted = String::with_capacity(text.len());
                values.replace_all_with(text, &mut redacted, |_, _, out| {
                    out.push_str(REPLACEMENT);
                    true
                });
                Cow::Owned(redacted)
            }
            _ => Cow::Borrowed(text),
        }
    }

    /// Returns true if there are no values to replace.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

/// Returns the forms of a value that are replaced.
fn forms(value: &str) -> Vec<String> {
    let escaped = serde_json::Value::from(value).to_string();
    let hexadecimal = hex::encode(value);
    let mut forms = vec![
        value.to_owned(),
        escaped.trim_matches('"').to_owned(),
        percent_encoded(value),
        hexadecimal.to_uppercase(),
        hexadecimal,
    ];
    forms.extend((0..3).flat_map(|offset| base64_at(value, offset)));
    forms.retain(|form| form.len() >= BYTES_MIN);
    forms.sort_unstable();
    forms.dedup();
    forms
}

/// Returns the base64 digits that depend only on the value, if it starts `offset` bytes after a
/// multiple of three. These digits occur in the base64 of every longer text that contains the value
/// at such a position.
fn base64_at(value: &str, offset: usize) -> [String; 2] {
    let bytes = [&vec![0; offset], value.as_bytes()].concat();
    // The first digits also encode bits of the preceding text, and the last digit bits of the
    // following text.
    let skipped = (offset * 8).div_ceil(6);
    let complete = bytes.len() * 8 / 6;
    [STANDARD_NO_PAD.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes)]
        .map(|text| text.get(skipped..complete).unwrap_or_default().to_owned())
}

fn percent_encoded(value: &str) -> String {
    let mut encoded = String::new();
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(byte.into());
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    const KEY: &str = "sk_live/4eC39+Hq\"LyjW";

    #[test]
    fn a_value_is_replaced_in_each_common_encoding() {
        let redactor = Redactor::new([KEY]);
        let json = serde_json::json!({ "key": KEY }).to_string();
        let texts = [
            format!("key={KEY};"),
            json,
            format!("https://a.example/?key={}", percent_encoded(KEY)),
            hex::encode(KEY),
            STANDARD.encode(KEY),
        ];
        for text in texts {
            let redacted = redactor.redact(&text);
            assert!(redacted.contains(REPLACEMENT), "{text}: {redacted}");
            assert!(!redacted.contains("4eC39"), "{redacted}");
        }
        assert_eq!(redactor.redact("nothing here"), "nothing here");
    }

    #[test]
    fn a_value_is_found_within_longer_base64() {
        let redactor = Redactor::new([KEY]);
        for user in ["", "a", "ab", "abc", "user:"] {
            let text = STANDARD.encode(format!("{user}{KEY}@host"));
            let redacted = redactor.redact(&text);
            assert!(redacted.contains(REPLACEMENT), "{user}: {redacted}");
        }
    }

    #[test]
    fn each_line_of_a_long_value_is_replaced() {
        let redactor = Redactor::new(["-----BEGIN KEY-----\nMIIEvQIBADAN\nabc\n"]);
        assert_eq!(redactor.redact("line: MIIEvQIBADAN"), "line: ***");
        // A short line is not redacted, because it occurs by chance.
        assert_eq!(redactor.redact("abc"), "abc");
        assert!(Redactor::new(["abc"]).is_empty());
    }
}
