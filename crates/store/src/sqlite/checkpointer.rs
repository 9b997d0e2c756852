//! Background WAL checkpoints. A checkpoint within a commit would add several fsyncs to the latency
//! of the commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sqlx::SqliteConnection;

use super::connect::{ConnectionRole, Connector};

/// The number of commits between checkpoints.
const CHECKPOINT_COMMITS: usize = 128;

/// The WAL size in pages at which SQLite checkpoints within a commit. This limits the size of the
/// WAL if commits never pause, because background checkpoints then cannot finish.
pub(super) const AUTOCHECKPOINT_PAGES: &str = "4000";

/// A scheduler of background checkpoints.
pub(super) struct Checkpointer {
    connector: Connector,
    commits: AtomicUsize,
    /// The connection for checkpoints. The lock is held while a checkpoint runs.
    connection: Arc<tokio::sync::Mutex<Option<SqliteConnection>>>,
}

impl Checkpointer {
    pub(super) fn new(connector: Connector) -> Self {
        Checkpointer { connector, commits: AtomicUsize::new(0), connection: Arc::default() }
    }

    /// Counts a commit, and starts a checkpoint if one is due and none is running.
    pub(super) fn count_commit(&self) {
        if self.commits.fetch_add(1, Ordering::Relaxed) + 1 < CHECKPOINT_COMMITS {
            return;
        }
        let Ok(mut connection) = self.connection.clone().try_lock_owned() else { return };
        self.commits.store(0, Ordering::Relaxed);
        let connector = self.connector.clone();
        tokio::spawn(async move {
            let mut open = match connection.take() {
                Some(open) => open,
                None => match connector.connect(ConnectionRole::Writer).await {
                    Ok(open) => open,
                    Err(error) => return tracing::debug!(%error, "WAL checkpoint failed"),
                },
            };
            // Pages that could not be checkpointed stay in the WAL, where readers can still read
            // them.
            match sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(&mut open).await {
                Ok(_) => *connection = Some(open),
                Err(error) => tracing::debug!(%error, "WAL checkpoint failed"),
            }
        });
    }
}
