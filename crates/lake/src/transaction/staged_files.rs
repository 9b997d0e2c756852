//! The data files of a transaction that is not committed yet, removed when it ends otherwise.

use headwater_tables::{Staged, Tables};

/// Data files that belong to no commit.
#[derive(Debug)]
pub(super) struct StagedFiles {
    tables: Tables,
    staged: Vec<Staged>,
}

impl StagedFiles {
    pub fn new(tables: Tables) -> Self {
        StagedFiles { tables, staged: Vec::new() }
    }

    pub fn push(&mut self, staged: Staged) {
        self.staged.push(staged);
    }

    /// Lets go of the files: from now on they may belong to a commit.
    pub fn release(&mut self) -> Vec<Staged> {
        std::mem::take(&mut self.staged)
    }

    /// Takes files back that turned out to belong to no commit.
    pub fn take_back(&mut self, staged: Vec<Staged>) {
        self.staged.extend(staged);
    }

    /// Removes the files. One that cannot be removed is left for the lake's upkeep to find.
    pub async fn discard(&mut self) {
        discard(self.tables.clone(), self.release()).await;
    }
}

async fn discard(tables: Tables, staged: Vec<Staged>) {
    for files in staged {
        if let Err(error) = tables.discard(files).await {
            tracing::warn!(%error, "a data file of a change that failed is left behind");
        }
    }
}

impl Drop for StagedFiles {
    fn drop(&mut self) {
        let staged = self.release();
        if staged.is_empty() {
            return;
        }
        // Without a runtime the process is ending, and the files are left for the lake's upkeep.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(discard(self.tables.clone(), staged));
        }
    }
}
