//! The number of tokens and access keys of a user.
//!
//! Users create tokens and access keys without a grant. All records are in memory and are read at
//! each change of rights, so the number of records of a user is limited.

use headwater_model::Timestamp;
use headwater_store::JournalAppend;

use crate::record::{USED_JOURNAL, remove};
use crate::{Error, Result};

/// Maximum number of tokens of a user, and of its access keys, including those that are no longer
/// valid.
const CREDENTIALS_MAX: usize = 1_000;

/// The stored record of a token or access key.
#[derive(Debug)]
pub(crate) struct StoredCredential<'a> {
    pub(crate) id: &'a str,
    /// The key of the record.
    pub(crate) key: String,
    pub(crate) created: Timestamp,
    pub(crate) is_valid: bool,
}

/// Returns the journal entries that must precede a new credential of a user: they delete the user's
/// oldest invalid credentials above the limit.
///
/// Errors: the user has too many valid credentials.
pub(crate) fn entries_before_new<'a>(
    stored: impl Iterator<Item = StoredCredential<'a>>,
) -> Result<Vec<JournalAppend>> {
    let (valid, mut invalid): (Vec<_>, Vec<_>) = stored.partition(|one| one.is_valid);
    if valid.len() >= CREDENTIALS_MAX {
        return Err(Error::TooManyCredentials { max: CREDENTIALS_MAX });
    }
    let excess = (valid.len() + invalid.len() + 1).saturating_sub(CREDENTIALS_MAX);
    invalid.sort_by_key(|one| one.created);
    let deleted = invalid.into_iter().take(excess);
    Ok(deleted
        .flat_map(|one| [remove(one.key), JournalAppend::tombstone(USED_JOURNAL, one.id)])
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the deleted records of a user with this number of valid credentials, and of invalid
    /// ones, the newest first.
    fn deleted(valid: usize, invalid: usize) -> Result<Vec<String>> {
        let ids: Vec<String> = (0..valid + invalid).map(|number| format!("{number:04}")).collect();
        let stored = ids.iter().enumerate().map(|(at, id)| StoredCredential {
            id,
            key: format!("token/{id}"),
            created: Timestamp::UNIX_EPOCH
                - chrono::TimeDelta::seconds(i64::try_from(at).expect("small")),
            is_valid: at < valid,
        });
        let entries = entries_before_new(stored)?;
        Ok(entries.into_iter().map(|entry| entry.key).collect())
    }

    #[test]
    fn the_oldest_invalid_credentials_are_deleted() {
        assert_eq!(deleted(0, 0).expect("accepted"), Vec::<String>::new());
        assert_eq!(deleted(999, 0).expect("accepted"), Vec::<String>::new());
        assert_eq!(deleted(0, 1_000).expect("accepted"), ["token/0999", "0999"]);
        assert_eq!(deleted(998, 1).expect("accepted"), Vec::<String>::new());
        let oldest = ["token/1000", "1000", "token/0999", "0999"];
        assert_eq!(deleted(998, 3).expect("accepted"), oldest);
        assert!(matches!(deleted(1_000, 3), Err(Error::TooManyCredentials { max: 1_000 })));
    }
}
