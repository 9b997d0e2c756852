//! The public keys of a provider: a JSON Web Key Set (RFC 7517).

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use serde::Deserialize;
use serde_json::Value;

use crate::jwt::{Algorithm, Jwt};

/// A key set as received from a provider. Keys of unknown types are skipped.
#[derive(Debug, Deserialize)]
pub(crate) struct JwksDocument {
    keys: Vec<Value>,
}

/// A key for the verification of signatures.
#[derive(Debug, Deserialize)]
struct Jwk {
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    alg: Option<Algorithm>,
    #[serde(default, rename = "use")]
    usage: Option<String>,
    #[serde(flatten)]
    key: PublicKey,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "kty")]
enum PublicKey {
    #[serde(rename = "RSA")]
    Rsa { n: String, e: String },
    #[serde(rename = "EC")]
    Ec { crv: EllipticCurve, x: String, y: String },
    #[serde(rename = "OKP")]
    Okp { crv: EllipticCurve, x: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum EllipticCurve {
    #[serde(rename = "P-256")]
    P256,
    #[serde(rename = "P-384")]
    P384,
    Ed25519,
}

/// The keys of a provider that can verify signatures.
#[derive(Debug, Default)]
pub(crate) struct VerificationKeys(Vec<Jwk>);

impl From<JwksDocument> for VerificationKeys {
    fn from(set: JwksDocument) -> Self {
        let keys = set.keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
        VerificationKeys(
            keys.filter(|key| key.usage.as_deref().is_none_or(|usage| usage == "sig")).collect(),
        )
    }
}

impl VerificationKeys {
    /// Returns true if one of the keys matches the key id of a token.
    pub(crate) fn has_key_of(&self, token: &Jwt<'_>) -> bool {
        self.of(token).next().is_some()
    }

    /// Returns true if a token's signature was made with one of the keys.
    pub(crate) fn verify(&self, token: &Jwt<'_>) -> bool {
        self.of(token).any(|key| key.verify(token).is_some())
    }

    /// Returns the keys that match a token's algorithm, and its key id if it has one.
    fn of(&self, token: &Jwt<'_>) -> impl Iterator<Item = &Jwk> {
        let (id, algorithm) = (token.header.kid.clone(), token.header.alg);
        self.0.iter().filter(move |key| {
            key.alg.is_none_or(|alg| alg == algorithm) && (id.is_none() || key.kid == id)
        })
    }
}

impl Jwk {
    /// Verifies the signature of a token with this key. Returns `None` if the signature is invalid,
    /// or if the key is for another algorithm.
    fn verify(&self, token: &Jwt<'_>) -> Option<()> {
        let (message, signed) = (token.signed.as_bytes(), &token.signature);
        let algorithm = token.header.alg;
        match (&self.key, algorithm) {
            (PublicKey::Rsa { n, e }, _) => {
                let key = RsaPublicKeyComponents { n: decode(n)?, e: decode(e)? };
                key.verify(algorithm.rsa()?, message, signed).ok()
            }
            (PublicKey::Ec { crv: EllipticCurve::P256, x, y }, Algorithm::ES256) => {
                let key = point(x, y, 32)?;
                let kind = &signature::ECDSA_P256_SHA256_FIXED;
                UnparsedPublicKey::new(kind, key).verify(message, signed).ok()
            }
            (PublicKey::Ec { crv: EllipticCurve::P384, x, y }, Algorithm::ES384) => {
                let key = point(x, y, 48)?;
                let kind = &signature::ECDSA_P384_SHA384_FIXED;
                UnparsedPublicKey::new(kind, key).verify(message, signed).ok()
            }
            (PublicKey::Okp { crv: EllipticCurve::Ed25519, x }, Algorithm::EdDsa) => {
                let key = UnparsedPublicKey::new(&signature::ED25519, decode(x)?);
                key.verify(message, signed).ok()
            }
            _ => None,
        }
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64.decode(text).ok()
}

/// Returns a point of an elliptic curve in uncompressed form.
fn point(x: &str, y: &str, length: usize) -> Option<Vec<u8>> {
    let (x, y) = (decode(x)?, decode(y)?);
    let is_whole = x.len() == length && y.len() == length;
    is_whole.then(|| [&[4], x.as_slice(), y.as_slice()].concat())
}
