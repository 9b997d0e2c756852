//! Passwords as Argon2id hashes.
//!
//! The computation of a hash deliberately takes tens of milliseconds and 19 MiB. Blocking threads
//! compute only a few hashes concurrently, so that logins cannot exhaust the server's memory.

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Argon2, Params};
use tokio::sync::Semaphore;

use crate::credential_secret::random;
use crate::{Error, Result};

/// Minimum length of a password, in characters.
const CHARACTERS_MIN: usize = 10;

/// Maximum length of a password, in bytes.
const BYTES_MAX: usize = 1_024;

/// Maximum number of hashes computed concurrently.
const CONCURRENCY: usize = 2;

/// Maximum number of hash computations that are running or queued.
const WAITING_MAX: usize = 64;

/// A hash that matches no password. It is verified for a user that is unknown or has no password,
/// so that the check takes as long as for a wrong password.
const NO_PASSWORD: &str = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$\
                           AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Computation and verification of password hashes.
#[derive(Debug)]
pub(crate) struct Passwords {
    running: Semaphore,
    waiting: Semaphore,
}

impl Default for Passwords {
    fn default() -> Self {
        Passwords { running: Semaphore::new(CONCURRENCY), waiting: Semaphore::new(WAITING_MAX) }
    }
}

impl Passwords {
    /// Returns the hash of a new password. Fails if the password is too short or too long.
    pub(crate) async fn hash(&self, password: &str) -> Result<String> {
        if password.chars().count() < CHARACTERS_MIN {
            let reason = format!("a password must have at least {CHARACTERS_MIN} characters");
            return Err(Error::Password { reason });
        }
        if password.len() > BYTES_MAX {
            let reason = format!("a password must have at most {BYTES_MAX} bytes");
            return Err(Error::Password { reason });
        }
        let password = password.to_owned();
        self.compute(move || {
            let failed =
                |error: argon2::password_hash::Error| Error::Secret { reason: error.to_string() };
            let salt = SaltString::encode_b64(&random::<16>()?).map_err(failed)?;
            let hash = hasher().hash_password(password.as_bytes(), &salt).map_err(failed)?;
            Ok(hash.to_string())
        })
        .await?
    }

    /// Returns true if a password matches a hash. Without a hash, returns false after the same
    /// time.
    pub(crate) async fn verify(&self, password: &str, hash: Option<String>) -> Result<bool> {
        let exists = hash.is_some() && password.len() <= BYTES_MAX;
        let hash = hash.unwrap_or_else(|| NO_PASSWORD.to_owned());
        let password = if password.len() <= BYTES_MAX { password } else { "" }.to_owned();
        let verified = self.compute(move || {
            let parsed = PasswordHash::new(&hash).ok();
            parsed.is_some_and(|parsed| {
                hasher().verify_password(password.as_bytes(), &parsed).is_ok()
            })
        });
        Ok(verified.await? && exists)
    }

    async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let _waiting = self.waiting.try_acquire().map_err(|_| Error::Busy)?;
        let _running = self.running.acquire().await.map_err(|_| Error::Busy)?;
        let computed = tokio::task::spawn_blocking(work).await;
        computed.map_err(|error| Error::Secret { reason: error.to_string() })
    }
}

/// Returns Argon2id with the parameters recommended by OWASP: 19 MiB, 2 iterations, 1 lane.
fn hasher() -> Argon2<'static> {
    Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, Params::DEFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_same_password_has_the_hash() {
        let passwords = Passwords::default();
        let hash = passwords.hash("correct horse").await.expect("a hash");
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert_ne!(passwords.hash("correct horse").await.expect("a hash"), hash);
        let verify = |password: &'static str| passwords.verify(password, Some(hash.clone()));
        assert!(verify("correct horse").await.expect("verified"));
        assert!(!verify("correct horsf").await.expect("verified"));
        assert!(!verify("").await.expect("verified"));
        for password in ["", "correct horse"] {
            assert!(!passwords.verify(password, None).await.expect("verified"));
            let broken = Some("no hash".to_owned());
            assert!(!passwords.verify(password, broken).await.expect("verified"));
        }
        assert!(PasswordHash::new(NO_PASSWORD).is_ok());
    }

    #[tokio::test]
    async fn short_and_long_passwords_are_refused() {
        let passwords = Passwords::default();
        passwords.hash("123456789").await.expect_err("short");
        passwords.hash(&"x".repeat(1_025)).await.expect_err("long");
    }
}
