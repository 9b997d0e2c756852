//! A branch that exists as long as its handles, such as the hidden branch of a transaction.
//!
//! If a client disconnects, the future of its request is dropped at the next await point. Therefore
//! separate tasks, which are not dropped, create and delete the branch. A branch whose last handle
//! is dropped is deleted in the background. A failed deletion is repeated until it succeeds.
//! [`TemporaryBranch::delete_all`] deletes the branches that an earlier process left.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use headwater_model::{CreateRef, RefSpec};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::{Error, Lake, Result};

/// Minimum and maximum pause before a deletion is repeated.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_mins(1);

/// A branch that is deleted after its last handle is dropped. Clones are handles to the same
/// branch.
#[derive(Debug, Clone)]
pub struct TemporaryBranch(Arc<OwnedBranch>);

struct OwnedBranch {
    lake: Lake,
    name: String,
    runtime: Handle,
    /// True after the deletion was started.
    is_deleted: AtomicBool,
}

impl TemporaryBranch {
    /// Creates a branch at a ref. Its name is the prefix with a random suffix.
    pub async fn create(lake: &Lake, prefix: &str, from: RefSpec) -> Result<Self> {
        let name = format!("{prefix}{}", Uuid::new_v4().simple());
        let request = CreateRef { name: name.clone(), from: Some(from), if_not_exists: false };
        let (lake, runtime, is_deleted) = (lake.clone(), Handle::current(), AtomicBool::new(false));
        // The handle is created before the branch: if the store creates the branch but returns an
        // error, dropping the handle deletes it.
        let branch = TemporaryBranch(Arc::new(OwnedBranch { lake, name, runtime, is_deleted }));
        // If this future is dropped, the task drops the handle after the branch is created.
        let creation = tokio::spawn(async move {
            branch.0.lake.create_branch(request).await?;
            Ok::<_, Error>(branch)
        });
        creation.await.unwrap_or_else(|error| {
            Err(Error::Internal { message: format!("a branch was not created: {error}") })
        })
    }

    /// Returns the name of the branch.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Deletes the branch even if other handles exist. The deletion continues if the future is
    /// dropped. After a failure, the branch is deleted later, in the background.
    pub async fn delete(self) {
        if let Some(deletion) = self.0.start_deletion()
            && let Err(error) = deletion.await
        {
            tracing::warn!(%error, "the deletion of a temporary branch was aborted");
        }
    }

    /// Deletes all branches with this prefix. The caller must ensure that no process uses these
    /// branches during the call.
    pub async fn delete_all(lake: &Lake, prefix: &str) {
        match lake.catalog().branches(Some(prefix)).await {
            Ok(branches) => {
                for branch in branches {
                    delete_or_retry(lake, &branch.name).await;
                }
            }
            Err(error) => tracing::warn!("temporary branches cannot be listed: {error}"),
        }
    }
}

impl OwnedBranch {
    /// Starts the deletion, unless it was started before. The returned task ends after the first
    /// attempt.
    fn start_deletion(&self) -> Option<JoinHandle<()>> {
        if self.is_deleted.swap(true, Ordering::Relaxed) {
            return None;
        }
        let (lake, name) = (self.lake.clone(), self.name.clone());
        Some(self.runtime.spawn(async move { delete_or_retry(&lake, &name).await }))
    }
}

impl Drop for OwnedBranch {
    fn drop(&mut self) {
        drop(self.start_deletion());
    }
}

/// Deletes a branch. If this fails, starts a task that repeats the deletion.
async fn delete_or_retry(lake: &Lake, name: &str) {
    let Err(error) = try_delete(lake, name).await else { return };
    tracing::warn!(%error, name, "a temporary branch cannot be deleted yet");
    let (lake, name) = (lake.clone(), name.to_owned());
    tokio::spawn(async move {
        let mut pause = PAUSE_MIN;
        loop {
            tokio::time::sleep(pause).await;
            match try_delete(&lake, &name).await {
                Ok(()) => return,
                Err(error) => tracing::debug!(%error, name, "the branch cannot be deleted yet"),
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    });
}

/// Deletes a branch if it exists.
async fn try_delete(lake: &Lake, name: &str) -> Result<()> {
    match lake.catalog().delete_branch(name).await {
        Ok(()) | Err(headwater_catalog::Error::RefNotFound { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

impl std::fmt::Debug for OwnedBranch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TemporaryBranch").field("name", &self.name).finish_non_exhaustive()
    }
}
