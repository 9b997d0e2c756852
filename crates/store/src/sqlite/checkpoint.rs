//! Carries what commits wrote into the log over to the database, beside the commits that come meanwhile:
//! within a commit, whose answer somebody waits for, it would take several fsyncs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sqlx::SqliteConnection;

use super::connect::{Connector, Role};

/// Commits after which it is done. What comes while it is done stays in the log until the next time.
const COMMITS: usize = 128;

/// The pages in the log from which on a commit does it itself, as where commits never pause: few are left to
/// it then, and the log begins anew.
pub(super) const PAGES_MAX: &str = "4000";

/// What carries the log over.
pub(super) struct Checkpoints {
    connector: Connector,
    commits: AtomicUsize,
    /// Held by the one that is under way.
    connection: Arc<tokio::sync::Mutex<Option<SqliteConnection>>>,
}

impl Checkpoints {
    pub(super) fn new(connector: Connector) -> Self {
        Checkpoints { connector, commits: AtomicUsize::new(0), connection: Arc::default() }
    }

    /// Notes a commit, and begins where it is time.
    pub(super) fn note_commit(&self) {
        if self.commits.fetch_add(1, Ordering::Relaxed) + 1 < COMMITS {
            return;
        }
        let Ok(mut connection) = self.connection.clone().try_lock_owned() else { return };
        self.commits.store(0, Ordering::Relaxed);
        let connector = self.connector.clone();
        tokio::spawn(async move {
            let mut open = match connection.take() {
                Some(open) => open,
                None => match connector.connect(Role::Writer).await {
                    Ok(open) => open,
                    Err(error) => return tracing::debug!(%error, "the log is not carried over"),
                },
            };
            // What cannot be carried over stays in the log, where everybody finds it.
            match sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(&mut open).await {
                Ok(_) => *connection = Some(open),
                Err(error) => tracing::debug!(%error, "the log is not carried over"),
            }
        });
    }
}
