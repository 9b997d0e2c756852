//! The record of a query, which is a JSON file in the folder of the query.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use headwater_model::{Actor, AsyncQuery, ErrorCode, JobStatus, Problem};
use serde::{Deserialize, Serialize};

/// Name of the record in the folder of a query.
const RECORD: &str = "query.json";

/// Name of the file with the rows.
const ROWS: &str = "rows.arrow";

/// The stored record of a query, with the sizes of the parts of the file that contains its rows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct QueryRecord {
    pub query: AsyncQuery,
    /// The identity that sent the query.
    pub actor: Actor,
    /// The parts of the file that contains the rows, in order. Their lengths determine their
    /// positions.
    pub parts: Vec<StoredBatch>,
    /// The schema as an Arrow IPC stream without batches; `None` until the columns are known.
    pub schema: Option<Vec<u8>>,
}

/// A part of the file with the rows: one batch, as an Arrow IPC stream.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct StoredBatch {
    /// Number of rows in the batch.
    pub rows: u64,
    /// Length of the part in bytes.
    pub bytes: u64,
}

impl QueryRecord {
    /// Reads the record in the folder of a query.
    pub fn read(folder: &Path) -> io::Result<QueryRecord> {
        Ok(serde_json::from_slice(&fs::read(folder.join(RECORD))?)?)
    }

    /// Sets the outcome of the query. After an error, the record has no rows.
    pub fn set_outcome(&mut self, outcome: Result<(), Problem>) {
        self.query.status = match &outcome {
            Ok(()) => JobStatus::Succeeded,
            Err(problem) if problem.code == ErrorCode::Cancelled => JobStatus::Cancelled,
            Err(problem) if problem.code == ErrorCode::Interrupted => JobStatus::Interrupted,
            Err(_) => JobStatus::Failed,
        };
        if outcome.is_err() {
            (self.query.rows, self.query.bytes) = (0, 0);
            self.parts.clear();
        }
        self.query.error = outcome.err();
    }

    /// Replaces the record in the folder of a query. The record is durable on return.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        let written = folder.join("query.json.new");
        let mut file = File::create(&written)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        fs::rename(&written, folder.join(RECORD))?;
        File::open(folder)?.sync_all()
    }
}

/// Returns the path of the rows in the folder of a query.
pub(crate) fn rows_path(folder: &Path) -> PathBuf {
    folder.join(ROWS)
}
