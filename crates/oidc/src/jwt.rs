//! JSON Web Tokens (RFC 7519) signed with public-key algorithms.
//!
//! The enum of accepted algorithms contains neither symmetric algorithms nor `none`, so a token
//! that names one of these algorithms cannot be parsed.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use ring::signature;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// Maximum length of a token, in bytes.
const BYTES_MAX: usize = 32 << 10;

/// A signature algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum Algorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl Algorithm {
    /// Returns the parameters for verification with an RSA key; `None` for other algorithms.
    pub(crate) const fn rsa(self) -> Option<&'static signature::RsaParameters> {
        Some(match self {
            Algorithm::RS256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Algorithm::RS384 => &signature::RSA_PKCS1_2048_8192_SHA384,
            Algorithm::RS512 => &signature::RSA_PKCS1_2048_8192_SHA512,
            Algorithm::PS256 => &signature::RSA_PSS_2048_8192_SHA256,
            Algorithm::PS384 => &signature::RSA_PSS_2048_8192_SHA384,
            Algorithm::PS512 => &signature::RSA_PSS_2048_8192_SHA512,
            Algorithm::ES256 | Algorithm::ES384 | Algorithm::EdDsa => return None,
        })
    }
}

/// The header of a token.
#[derive(Debug, Deserialize)]
pub(crate) struct Header {
    pub(crate) alg: Algorithm,
    #[serde(default)]
    pub(crate) kid: Option<String>,
    #[serde(default)]
    typ: Option<String>,
    /// Critical extensions (`crit`): a reader that does not know one of them must reject the token.
    #[serde(default)]
    crit: Option<serde_json::Value>,
}

/// A token split into its parts. Its signature has not been verified yet.
#[derive(Debug)]
pub(crate) struct Jwt<'a> {
    pub(crate) header: Header,
    /// The text that the signature covers.
    pub(crate) signed: &'a str,
    pub(crate) signature: Vec<u8>,
    claims: Vec<u8>,
}

/// Returns true if a text has the form of a JSON Web Token. Access tokens have another form.
pub fn is_jwt(text: &str) -> bool {
    text.starts_with("eyJ") && text.bytes().filter(|byte| *byte == b'.').count() == 2
}

impl<'a> Jwt<'a> {
    /// Parses a token. Fails if its algorithm is not accepted.
    pub(crate) fn parse(text: &'a str) -> Result<Self> {
        let fail = |reason: &'static str| Error::Token { reason: reason.into() };
        if text.len() > BYTES_MAX {
            return Err(fail("the token is too long"));
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(fail("the signature is missing"))?;
        let (header, claims) = signed.split_once('.').ok_or(fail("the claims are missing"))?;
        let decode =
            |part: &str| BASE64.decode(part).map_err(|_| fail("a part is not in base64url"));
        let header: Header = serde_json::from_slice(&decode(header)?)
            .map_err(|_| fail("the header is malformed, or the algorithm is not accepted"))?;
        if header.crit.is_some() {
            return Err(fail("the header has critical extensions"));
        }
        let kind = header.typ.as_deref().unwrap_or("JWT").to_ascii_lowercase();
        if !matches!(kind.trim_start_matches("application/"), "jwt" | "at+jwt") {
            return Err(fail("the type is not that of an ID token or an access token"));
        }
        Ok(Jwt { header, signed, signature: decode(signature)?, claims: decode(claims)? })
    }

    /// Parses the claims. They cannot be trusted before the signature is verified.
    pub(crate) fn claims<T: DeserializeOwned>(&self) -> Result<T> {
        let parsed = serde_json::from_slice(&self.claims);
        parsed.map_err(|_| Error::Token { reason: "the claims are malformed".into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str) -> String {
        format!("{}.{}.AAAA", BASE64.encode(header), BASE64.encode("{}"))
    }

    #[test]
    fn only_algorithms_with_public_keys_are_accepted() {
        for alg in ["RS256", "PS512", "ES256", "ES384", "EdDSA"] {
            Jwt::parse(&token(&format!(r#"{{"alg":"{alg}"}}"#))).expect(alg);
        }
        for alg in ["none", "None", "nOnE", "HS256", "HS512", "ES256K", "rs256", "dir", ""] {
            Jwt::parse(&token(&format!(r#"{{"alg":"{alg}"}}"#))).expect_err(alg);
        }
    }

    #[test]
    fn other_kinds_of_tokens_and_malformed_ones_are_rejected() {
        for header in [
            r#"{"alg":"RS256","typ":"logout+jwt"}"#,
            r#"{"alg":"RS256","crit":["exp"]}"#,
            r#"{"alg":["RS256"]}"#,
            r#"{"alg":"RS256","alg":"none"}"#,
            "{}",
            "",
        ] {
            Jwt::parse(&token(header)).expect_err(header);
        }
        for text in ["", ".", "..", "a.b", "eyJ.eyJ.+/=", "é.é.é"] {
            Jwt::parse(text).expect_err(text);
        }
        Jwt::parse(&"x".repeat(BYTES_MAX + 1)).expect_err("too long");
        assert!(is_jwt("eyJh.b.c") && !is_jwt("hwp_00") && !is_jwt("eyJh.b") && !is_jwt("a.b.c"));
    }
}
