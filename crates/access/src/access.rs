//! The `Access` handle, which holds all users, roles, grants and credentials in memory. The records
//! change only through the handle's method `change`.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use headwater_model::{Clock, Principal, Timestamp};
use headwater_store::{JournalAppend, RefChange, RefPrecondition, Store, WriteBatch};
use parking_lot::{Mutex, RwLock};

use crate::access_state::AccessState;
use crate::audit::AuditLog;
use crate::password::Passwords;
use crate::record::VERSION;
use crate::{Error, Result};

/// Maximum number of attempts for a change that conflicts with changes by other processes.
const ATTEMPTS: usize = 5;

/// Users, roles, grants and credentials of a lake. Cheap to clone.
#[derive(Clone)]
pub struct Access(pub(crate) Arc<AccessInner>);

/// State shared by the clones of an [`Access`] handle.
pub(crate) struct AccessInner {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) passwords: Passwords,
    /// The time of the last recorded use of each token or access key in this process, by its id.
    pub(crate) used: Mutex<HashMap<String, Timestamp>>,
    pub(crate) audit: AuditLog,
    directory: RwLock<Arc<AccessState>>,
    /// The lock that is held while a change is applied, so that changes do not conflict.
    changing: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").finish_non_exhaustive()
    }
}

/// A change of rights: the journal entries to append, and the fields of the audit event for the
/// change.
pub(crate) struct RightsChange<T> {
    pub(crate) entries: Vec<JournalAppend>,
    /// The action in the audit log, such as `grant`.
    pub(crate) action: &'static str,
    /// The object in the audit log, such as `user:ana`.
    pub(crate) object: String,
    /// The detail in the audit log, such as the granted permission.
    pub(crate) detail: String,
    pub(crate) result: T,
}

impl Access {
    /// Opens the access records in a store, and reads them into memory.
    pub async fn open(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Result<Self> {
        let directory = AccessState::load(&*store).await?;
        Ok(Access(Arc::new(AccessInner {
            audit: AuditLog::new(store.clone(), clock.clone()),
            store,
            clock,
            passwords: Passwords::default(),
            used: Mutex::default(),
            directory: RwLock::new(Arc::new(directory)),
            changing: tokio::sync::Mutex::default(),
        })))
    }

    /// Returns true if at least one user exists. Without users, every client acts as the lake's
    /// owner.
    pub fn has_users(&self) -> bool {
        !self.directory().users.is_empty()
    }

    /// Returns the audit log.
    pub fn audit(&self) -> &AuditLog {
        &self.0.audit
    }

    /// Reloads the records if another process has changed them.
    pub async fn refresh(&self) -> Result<()> {
        let _changing = self.0.changing.lock().await;
        self.refresh_locked().await.map(drop)
    }

    async fn refresh_locked(&self) -> Result<Arc<AccessState>> {
        let known = self.directory();
        if self.0.store.reference(VERSION).await? == known.version {
            return Ok(known);
        }
        self.reload().await
    }

    async fn reload(&self) -> Result<Arc<AccessState>> {
        let directory = Arc::new(AccessState::load(&*self.0.store).await?);
        *self.0.directory.write() = directory.clone();
        Ok(directory)
    }

    /// Returns the records in memory, as of the last change.
    pub(crate) fn directory(&self) -> Arc<AccessState> {
        self.0.directory.read().clone()
    }

    /// Applies the change that `edit` returns for the current records, together with an audit
    /// event.
    pub(crate) async fn change<T>(
        &self,
        by: &Principal,
        edit: impl Fn(&AccessState) -> Result<RightsChange<T>>,
    ) -> Result<T> {
        self.change_with(by, &[], edit).await
    }

    /// Does the same as [`Access::change`], and changes other refs in the same batch. The batch is
    /// not repeated if one of these refs has another value than expected.
    pub(crate) async fn change_with<T>(
        &self,
        by: &Principal,
        others: &[RefChange],
        edit: impl Fn(&AccessState) -> Result<RightsChange<T>>,
    ) -> Result<T> {
        self.apply(others, |directory| {
            let RightsChange { mut entries, action, object, detail, result } = edit(directory)?;
            if !entries.is_empty() {
                entries.push(self.0.audit.change(by, action, object, detail)?);
            }
            Ok((entries, result))
        })
        .await
    }

    /// Stores the journal entries that `edit` returns for the current records, and the changes of
    /// other refs, in one batch. The entries include the audit events.
    pub(crate) async fn apply<T>(
        &self,
        others: &[RefChange],
        edit: impl Fn(&AccessState) -> Result<(Vec<JournalAppend>, T)>,
    ) -> Result<T> {
        let _changing = self.0.changing.lock().await;
        for _ in 1..ATTEMPTS {
            match self.try_apply(others, &edit).await {
                Err(Error::Store(error)) if is_outdated(&error) => {}
                other => return other,
            }
        }
        self.try_apply(others, &edit).await
    }

    async fn try_apply<T>(
        &self,
        others: &[RefChange],
        edit: &impl Fn(&AccessState) -> Result<(Vec<JournalAppend>, T)>,
    ) -> Result<T> {
        let directory = self.refresh_locked().await?;
        let (entries, result) = edit(&directory)?;
        if entries.is_empty() && others.is_empty() {
            return Ok(result);
        }
        let mut refs = vec![next_version(&directory)?];
        refs.extend_from_slice(others);
        self.0.store.apply(WriteBatch { entries, refs, ..WriteBatch::default() }).await?;
        self.reload().await?;
        Ok(result)
    }
}

/// Returns true if another process has changed the records since they were read.
fn is_outdated(error: &headwater_store::Error) -> bool {
    matches!(error, headwater_store::Error::Conflict { name } if name == VERSION)
}

/// Returns a ref change that increments the version of the records. The batch with this ref change
/// fails if another process has changed the version meanwhile.
fn next_version(directory: &AccessState) -> Result<RefChange> {
    let corrupt = || Error::Corrupt { key: VERSION.to_owned() };
    let number = match &directory.version {
        None => 0_u64,
        Some(text) => {
            let text = std::str::from_utf8(text).map_err(|_| corrupt())?;
            text.parse().map_err(|_| corrupt())?
        }
    };
    Ok(RefChange {
        name: VERSION.to_owned(),
        expected: directory.version.clone().map_or(RefPrecondition::Absent, RefPrecondition::Value),
        value: Some(Bytes::from((number + 1).to_string())),
    })
}
