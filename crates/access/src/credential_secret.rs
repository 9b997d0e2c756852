//! The text form of access tokens and of the secrets of access keys: `hwp_` or `hws_`, 48 random
//! hexadecimal digits, and 8 digits of their CRC-32.
//!
//! By the fixed prefix and the checksum, secret scanners recognise a secret in a text without
//! access to the lake.
//!
//! The store contains only the SHA-256 of a token. A fast hash is sufficient, because a token has
//! 192 random bits.

use std::fmt;

use headwater_model::ObjectId;

use crate::{Error, Result};

/// Prefix of access tokens.
pub(crate) const PREFIX: &str = "hwp_";

/// Prefix of the secrets of access keys.
const KEY_PREFIX: &str = "hws_";

/// Number of random bytes in a secret.
const RANDOM_BYTES: usize = 24;

/// Number of hexadecimal digits of the checksum.
const CHECKSUM_DIGITS: usize = 8;

/// The secret text of an access token.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct CredentialSecret(String);

impl CredentialSecret {
    /// Creates a random access token.
    pub(crate) fn generate() -> Result<Self> {
        Self::with_prefix(PREFIX)
    }

    /// Creates a random secret for an access key.
    pub(crate) fn of_key() -> Result<Self> {
        Self::with_prefix(KEY_PREFIX)
    }

    fn with_prefix(prefix: &str) -> Result<Self> {
        let digits = hex::encode(random::<RANDOM_BYTES>()?);
        let checksum = checksum(&digits);
        Ok(CredentialSecret(format!("{prefix}{digits}{checksum}")))
    }

    /// Parses a secret. Returns `None` if its format or checksum is wrong.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(PREFIX)?;
        let (random, sum) = digits.split_at_checked(2 * RANDOM_BYTES)?;
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let is_valid = digits.bytes().all(is_hex) && sum == checksum(random);
        is_valid.then(|| CredentialSecret(text.to_owned()))
    }

    /// Returns the SHA-256 of the text.
    pub(crate) fn hash(&self) -> ObjectId {
        ObjectId::of(self.0.as_bytes())
    }

    /// Returns the secret as text.
    pub(crate) fn into_text(self) -> String {
        self.0
    }
}

impl fmt::Debug for CredentialSecret {
    /// Omits the secret, which must not be logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

fn checksum(digits: &str) -> String {
    let sum = crc32fast::hash(digits.as_bytes());
    format!("{sum:0CHECKSUM_DIGITS$x}")
}

/// Returns random bytes from the operating system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    let filled = getrandom::fill(&mut bytes);
    filled.map_err(|error| Error::Secret { reason: error.to_string() })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_texts_with_the_right_form_and_checksum_are_secrets() {
        let secret = CredentialSecret::generate().expect("random bytes");
        assert_eq!(format!("{secret:?}"), "Secret");
        let text = secret.clone().into_text();
        assert_eq!(text.len(), PREFIX.len() + 2 * RANDOM_BYTES + CHECKSUM_DIGITS);
        assert_eq!(CredentialSecret::parse(&text), Some(secret));
        assert_ne!(CredentialSecret::generate().expect("random bytes").into_text(), text);
        let last = if text.ends_with('0') { "1" } else { "0" };
        let forged = format!("{}{last}", &text[..text.len() - 1]);
        let upper = format!("{PREFIX}{}", text[PREFIX.len()..].to_uppercase());
        let long = format!("{text}0");
        for wrong in ["", PREFIX, &text[1..], &text[..text.len() - 1], &forged, &long, "hwp_é"] {
            assert_eq!(CredentialSecret::parse(wrong), None, "{wrong}");
        }
        assert!(CredentialSecret::parse(&upper).is_none() || upper == text);
    }
}
