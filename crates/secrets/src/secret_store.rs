//! Secrets in the store: one ref `secrets/NAME` for each, whose value is its encrypted record.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use headwater_model::{Clock, Secret, Timestamp};
use headwater_store::{RefChange, RefPrecondition, Store, WriteBatch};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::cipher::{EncryptedValue, SecretVersion};
use crate::encryption_key::EncryptionKeys;
use crate::{Error, KeySource, Result, check_name};

/// Maximum size of a value, in bytes.
pub const VALUE_BYTES_MAX: usize = 64 << 10;

/// Prefix of the refs.
const PREFIX: &str = "secrets/";

/// The ref with the id of the key that encrypted values outside this store (see
/// [`SecretStore::seal`]). It is missing if there are no such values.
const SEALED: &str = "secret-key/sealed";

/// Maximum number of secrets that are listed.
const LISTED_MAX: usize = 10_000;

/// The secrets of a lake. Cheap to clone.
#[derive(Clone)]
pub struct SecretStore {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    key: KeySource,
}

impl std::fmt::Debug for SecretStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretStore").finish_non_exhaustive()
    }
}

/// The stored form of a secret.
#[derive(Serialize, Deserialize)]
struct SecretRecord {
    version: u64,
    created: Timestamp,
    updated: Timestamp,
    author: String,
    sealed: EncryptedValue,
}

impl SecretStore {
    /// Opens the secrets in a store.
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, key: KeySource) -> Self {
        SecretStore { store, clock, key }
    }

    /// Sets a secret and increments its version; the secret is durable on return. The previous
    /// value is removed.
    ///
    /// Errors: `invalid_name`, `invalid_argument`, `commit_conflict`, and errors of the key.
    pub async fn set(&self, name: &str, value: &str, author: &str) -> Result<Secret> {
        let (secret, change) = self.next_version(name, value, author).await?;
        self.apply(name, change).await?;
        Ok(secret)
    }

    /// Returns the next version of a secret, and the change of its ref, which the caller applies.
    ///
    /// Errors: `invalid_name`, `invalid_argument`, and errors of the key.
    pub async fn next_version(
        &self,
        name: &str,
        value: &str,
        author: &str,
    ) -> Result<(Secret, RefChange)> {
        check_name(name)?;
        check_value(name, value)?;
        let keys = self.keys_to_encrypt().await?;
        self.replace_earlier_keys(&keys).await?;
        let stored = self.store.reference(&reference(name)).await?;
        let before = stored.as_deref().map(|bytes| read(name, bytes)).transpose()?;
        let now = self.clock.now();
        let version = before.as_ref().map_or(1, |record| record.version + 1);
        let sealed = EncryptedValue::seal(&keys.current, SecretVersion { name, version }, value);
        let record = SecretRecord {
            version,
            created: before.map_or(now, |record| record.created),
            updated: now,
            author: author.to_owned(),
            sealed: sealed.ok_or_else(|| corrupt(name))?,
        };
        let bytes = serde_json::to_vec(&record).map_err(|_| corrupt(name))?;
        Ok((record.describe(name), replacement(name, stored, Some(bytes.into()))))
    }

    /// Lists the secrets by name, without their values.
    pub async fn list(&self) -> Result<Vec<Secret>> {
        let found = self.store.references(PREFIX, None, LISTED_MAX).await?;
        let described = found.into_iter().map(|(reference, bytes)| {
            let name = reference.strip_prefix(PREFIX).unwrap_or(&reference);
            read(name, &bytes).map(|record| record.describe(name))
        });
        described.collect()
    }

    /// Deletes a secret with its value.
    ///
    /// Error: `secret_not_found`.
    pub async fn delete(&self, name: &str) -> Result<()> {
        let stored = self.store.reference(&reference(name)).await?;
        if stored.is_none() {
            return Err(Error::NotFound { name: name.to_owned() });
        }
        self.apply(name, replacement(name, stored, None)).await
    }

    /// Checks that all secrets of these names exist.
    ///
    /// Error: `secret_not_found` with the first missing name.
    pub async fn check(&self, names: &[String]) -> Result<()> {
        for name in names {
            self.record(name).await?;
        }
        Ok(())
    }

    /// Returns the values of secrets by name, for the process of a function.
    ///
    /// Errors: `secret_not_found`, and errors of the key.
    pub async fn values(&self, names: &[String]) -> Result<BTreeMap<String, Zeroizing<String>>> {
        let mut values = BTreeMap::new();
        if names.is_empty() {
            return Ok(values);
        }
        let keys = self.key.get().await?;
        self.replace_earlier_keys(&keys).await?;
        for name in names {
            let record = self.record(name).await?;
            values.insert(name.clone(), record.open(&keys, name)?);
        }
        Ok(values)
    }

    /// Encrypts a value that the caller stores itself. `label` identifies the caller's record.
    pub async fn seal(&self, label: &str, value: &str) -> Result<String> {
        let key = self.keys_to_encrypt().await?.current;
        let change = RefChange {
            name: SEALED.to_owned(),
            expected: RefPrecondition::Anything,
            value: Some(key.id.clone().into()),
        };
        self.store.apply(WriteBatch { refs: vec![change], ..WriteBatch::default() }).await?;
        let sealed = EncryptedValue::seal(&key, SecretVersion { name: label, version: 0 }, value);
        let sealed = sealed.ok_or_else(|| corrupt(label))?;
        serde_json::to_string(&sealed).map_err(|_| corrupt(label))
    }

    /// Decrypts a value that was encrypted with the same label.
    ///
    /// Errors: errors of the key; `corrupt` if the text was modified or belongs to another label.
    pub async fn unseal(&self, label: &str, sealed: &str) -> Result<Zeroizing<String>> {
        let sealed: EncryptedValue = serde_json::from_str(sealed).map_err(|_| corrupt(label))?;
        let keys = self.key.get().await?;
        sealed.open_with(&keys, SecretVersion { name: label, version: 0 })
    }

    /// Returns the keys for encrypting a new value. If encrypted values exist but the key file is
    /// missing, creates no new key, because it could not decrypt them.
    async fn keys_to_encrypt(&self) -> Result<EncryptionKeys> {
        let is_used = self.store.reference(SEALED).await?.is_some();
        if is_used || !self.store.references(PREFIX, None, 1).await?.is_empty() {
            return self.key.get().await;
        }
        self.key.get_or_create().await
    }

    /// Encrypts with the current key all secrets that earlier keys encrypted, so that a user can
    /// remove the earlier keys. Skips a secret that another request changes meanwhile, because the
    /// next use of secrets repeats this.
    async fn replace_earlier_keys(&self, keys: &EncryptionKeys) -> Result<()> {
        if keys.earlier.is_empty() {
            return Ok(());
        }
        for (reference, bytes) in self.store.references(PREFIX, None, LISTED_MAX).await? {
            let name = reference.strip_prefix(PREFIX).unwrap_or(&reference);
            // Skip a damaged secret, so that the others can be used. Below, also skip one with an
            // unknown key.
            let Ok(record) = read(name, &bytes) else { continue };
            if record.sealed.key == keys.current.id {
                continue;
            }
            let Ok(value) = record.open(keys, name) else { continue };
            let id = SecretVersion { name, version: record.version };
            let sealed = EncryptedValue::seal(&keys.current, id, &value);
            let record = SecretRecord { sealed: sealed.ok_or_else(|| corrupt(name))?, ..record };
            let renewed = serde_json::to_vec(&record).map_err(|_| corrupt(name))?;
            let change = replacement(name, Some(bytes), Some(renewed.into()));
            match self.apply(name, change).await {
                Ok(()) | Err(Error::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn record(&self, name: &str) -> Result<SecretRecord> {
        let stored = self.store.reference(&reference(name)).await?;
        let stored = stored.ok_or_else(|| Error::NotFound { name: name.to_owned() })?;
        read(name, &stored)
    }

    async fn apply(&self, name: &str, change: RefChange) -> Result<()> {
        let applied =
            self.store.apply(WriteBatch { refs: vec![change], ..WriteBatch::default() }).await;
        match applied {
            Err(headwater_store::Error::Conflict { .. }) => {
                Err(Error::Conflict { name: name.to_owned() })
            }
            other => other.map(|_| ()).map_err(Error::from),
        }
    }
}

impl EncryptedValue {
    fn open_with(&self, keys: &EncryptionKeys, id: SecretVersion) -> Result<Zeroizing<String>> {
        let Some(key) = keys.find(&self.key) else {
            let (stored, current) = (self.key.clone(), keys.current.id.clone());
            return Err(Error::OtherKey { name: id.name.to_owned(), stored, current });
        };
        self.open(key, id).ok_or_else(|| corrupt(id.name))
    }
}

impl SecretRecord {
    fn open(&self, keys: &EncryptionKeys, name: &str) -> Result<Zeroizing<String>> {
        self.sealed.open_with(keys, SecretVersion { name, version: self.version })
    }

    fn describe(&self, name: &str) -> Secret {
        Secret {
            name: name.to_owned(),
            version: self.version,
            created: self.created,
            updated: self.updated,
            author: self.author.clone(),
        }
    }
}

fn check_value(name: &str, value: &str) -> Result<()> {
    let reason = match value {
        "" => "is empty",
        value if value.len() > VALUE_BYTES_MAX => "is too large",
        value if value.contains('\0') => "has a NUL byte",
        _ => return Ok(()),
    };
    Err(Error::InvalidValue { name: name.to_owned(), reason })
}

fn reference(name: &str) -> String {
    format!("{PREFIX}{name}")
}

/// Returns the change of a secret's ref from one value to another.
fn replacement(name: &str, before: Option<Bytes>, value: Option<Bytes>) -> RefChange {
    let expected = before.map_or(RefPrecondition::Absent, RefPrecondition::Value);
    RefChange { name: reference(name), expected, value }
}

fn read(name: &str, bytes: &[u8]) -> Result<SecretRecord> {
    serde_json::from_slice(bytes).map_err(|_| corrupt(name))
}

fn corrupt(name: &str) -> Error {
    Error::Corrupt { name: name.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use headwater_model::{ErrorCode, SystemClock, ToProblem};
    use headwater_store::MemoryStore;

    use super::*;

    fn open(store: &Arc<MemoryStore>, key: &Path) -> SecretStore {
        SecretStore::new(store.clone(), Arc::new(SystemClock), KeySource::File(key.to_owned()))
    }

    fn code<T>(result: Result<T>) -> Option<ErrorCode> {
        result.err().map(|error| error.code())
    }

    #[tokio::test]
    async fn a_secret_is_set_replaced_listed_and_deleted() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Arc::new(MemoryStore::new());
        let secrets = open(&store, &folder.path().join("key"));
        let names = ["KEY".to_owned()];
        assert_eq!(code(secrets.values(&[]).await), None);
        assert_eq!(secrets.set("KEY", "one", "ada").await.expect("set").version, 1);
        assert_eq!(secrets.set("KEY", "two", "bob").await.expect("set").version, 2);
        let values = secrets.values(&names).await.expect("values");
        assert_eq!(values["KEY"].as_str(), "two");
        let listed = secrets.list().await.expect("a list");
        assert_eq!((&*listed[0].name, listed[0].version, &*listed[0].author), ("KEY", 2, "bob"));

        secrets.delete("KEY").await.expect("deleted");
        assert_eq!(code(secrets.values(&names).await), Some(ErrorCode::SecretNotFound));
        assert_eq!(code(secrets.delete("KEY").await), Some(ErrorCode::SecretNotFound));
        for (name, value) in [("8", "x"), ("A B", "x")] {
            assert_eq!(code(secrets.set(name, value, "").await), Some(ErrorCode::InvalidName));
        }
        for value in ["", "a\0b", &"x".repeat(VALUE_BYTES_MAX + 1)] {
            assert_eq!(code(secrets.set("A", value, "").await), Some(ErrorCode::InvalidArgument));
        }
    }

    #[tokio::test]
    async fn the_store_has_no_value_and_records_cannot_be_exchanged() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Arc::new(MemoryStore::new());
        let secrets = open(&store, &folder.path().join("key"));
        secrets.set("A", "topsecret-a", "").await.expect("set");
        secrets.set("B", "topsecret-b", "").await.expect("set");
        let stored = store.references(PREFIX, None, 9).await.expect("refs");
        assert!(stored.iter().all(|(_, value)| !value.windows(9).any(|part| part == b"topsecret")));

        let change = RefChange {
            name: reference("B"),
            expected: RefPrecondition::Anything,
            value: Some(stored[0].1.clone()),
        };
        let batch = WriteBatch { refs: vec![change], ..WriteBatch::default() };
        store.apply(batch).await.expect("a batch");
        let exchanged = secrets.values(&["B".to_owned()]).await;
        assert_eq!(code(exchanged), Some(ErrorCode::Corrupt));
    }

    #[tokio::test]
    async fn a_value_that_is_stored_elsewhere_is_bound_to_its_label_and_keeps_the_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Arc::new(MemoryStore::new());
        let secrets = open(&store, &folder.path().join("key"));
        let sealed = secrets.seal("access key A", "topsecret").await.expect("sealed");
        assert!(!sealed.contains("topsecret"));
        let opened = secrets.unseal("access key A", &sealed).await.expect("opened");
        assert_eq!(opened.as_str(), "topsecret");
        let moved = secrets.unseal("access key B", &sealed).await;
        assert_eq!(code(moved.map(drop)), Some(ErrorCode::Corrupt));
        // With the key file missing, no new key is created, because it could not decrypt the value.
        let without = open(&store, &folder.path().join("lost"));
        assert_eq!(code(without.set("A", "value", "").await), Some(ErrorCode::FileNotFound));
    }

    #[tokio::test]
    async fn a_lost_or_different_key_is_an_error_and_never_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Arc::new(MemoryStore::new());
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        open(&store, &one).set("A", "value", "").await.expect("set");
        let names = ["A".to_owned()];
        let without = open(&store, &two);
        assert_eq!(code(without.values(&names).await), Some(ErrorCode::FileNotFound));
        assert_eq!(code(without.set("B", "value", "").await), Some(ErrorCode::FileNotFound));
        assert!(!two.exists());

        let empty = Arc::new(MemoryStore::new());
        open(&empty, &two).set("B", "value", "").await.expect("set");
        let error = without.values(&names).await.expect_err("another key");
        assert!(matches!(error, Error::OtherKey { .. }), "{error}");
        assert!(!error.to_string().contains("value"));
    }

    #[tokio::test]
    async fn a_key_is_replaced_by_writing_a_new_key_before_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Arc::new(MemoryStore::new());
        let (old, new, both) =
            (folder.path().join("old"), folder.path().join("new"), folder.path().join("both"));
        let secrets = open(&store, &old);
        secrets.set("A", "value-a", "ada").await.expect("set");
        secrets.set("B", "value-b", "ada").await.expect("set");
        let sealed = secrets.seal("access key C", "value-c").await.expect("sealed");
        open(&Arc::new(MemoryStore::new()), &new).set("X", "x", "").await.expect("a new key");
        let text = |path: &Path| std::fs::read_to_string(path).expect("a key");
        std::fs::copy(&new, &both).expect("a file of mode 0600");
        std::fs::write(&both, format!("{}{}", text(&new), text(&old))).expect("two keys");

        // Reading one secret encrypts all secrets again, with the first key. They keep their
        // versions.
        let secrets = open(&store, &both);
        let values = secrets.values(&["A".to_owned()]).await.expect("values");
        assert_eq!(values["A"].as_str(), "value-a");
        let opened = secrets.unseal("access key C", &sealed).await.expect("opened");
        assert_eq!(opened.as_str(), "value-c");
        let names = ["A".to_owned(), "B".to_owned()];
        let values = open(&store, &new).values(&names).await.expect("values");
        assert_eq!(values["B"].as_str(), "value-b");
        assert_eq!(code(open(&store, &old).values(&names).await), Some(ErrorCode::Corrupt));
        let listed = secrets.list().await.expect("a list");
        assert_eq!((listed[1].version, &*listed[1].author), (1, "ada"));
        // A value that `seal` encrypted is not encrypted again, so the new key cannot decrypt it.
        let error = open(&store, &new).unseal("access key C", &sealed).await.expect_err("a key");
        assert!(matches!(error, Error::OtherKey { .. }), "{error}");
    }
}
