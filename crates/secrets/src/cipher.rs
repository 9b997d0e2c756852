//! Encryption of a value: AES-256-GCM with a random nonce. The cipher also authenticates the
//! secret's name and version, so that a record cannot be moved to another secret or replaced by an
//! older version.

use aes_gcm::aead::{Aead, OsRng, Payload};
use aes_gcm::{AeadCore, Aes256Gcm, Key as CipherKey, KeyInit, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::encryption_key::EncryptionKey;

/// Size of a nonce in bytes.
const NONCE_BYTES: usize = 12;

/// An encrypted value.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct EncryptedValue {
    /// The id of the key that encrypted the value.
    pub(crate) key: String,
    /// Nonce and ciphertext as base64.
    data: String,
}

/// The secret and version to which a value belongs.
#[derive(Clone, Copy)]
pub(crate) struct SecretVersion<'a> {
    pub(crate) name: &'a str,
    pub(crate) version: u64,
}

impl SecretVersion<'_> {
    fn associated_data(&self) -> String {
        format!("headwater secret\n{}\n{}", self.name, self.version)
    }
}

impl EncryptedValue {
    /// Encrypts a value; `None` if the value is too large for the cipher, which is impossible for
    /// secrets.
    pub(crate) fn seal(key: &EncryptionKey, id: SecretVersion, value: &str) -> Option<Self> {
        let nonce = Aes256Gcm::generate_nonce(&mut OsRng);
        let aad = id.associated_data();
        let payload = Payload { msg: value.as_bytes(), aad: aad.as_bytes() };
        let sealed = cipher(key).encrypt(&nonce, payload).ok()?;
        let data = STANDARD.encode([nonce.as_slice(), &sealed].concat());
        Some(EncryptedValue { key: key.id.clone(), data })
    }

    /// Decrypts the value; `None` if the record was modified, or belongs to another secret, version
    /// or key.
    pub(crate) fn open(&self, key: &EncryptionKey, id: SecretVersion) -> Option<Zeroizing<String>> {
        let data = STANDARD.decode(&self.data).ok()?;
        let (nonce, sealed) = data.split_at_checked(NONCE_BYTES)?;
        let aad = id.associated_data();
        let payload = Payload { msg: sealed, aad: aad.as_bytes() };
        let value = cipher(key).decrypt(Nonce::from_slice(nonce), payload).ok()?;
        String::from_utf8(value).ok().map(Zeroizing::new)
    }
}

fn cipher(key: &EncryptionKey) -> Aes256Gcm {
    Aes256Gcm::new(CipherKey::<Aes256Gcm>::from_slice(&key.bytes))
}
