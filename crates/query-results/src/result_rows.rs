//! Reads a range of the rows of a result.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Cursor, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamReader;
use headwater_encoding::RowSource;
use headwater_model::{Problem, ResultExt};

use crate::error::{Error, Result};
use crate::record::{QueryRecord, StoredBatch, rows_path};

/// A range of rows of a result. Each batch is read from the file when the caller requests it.
#[derive(Debug)]
pub struct ResultRows {
    schema: SchemaRef,
    /// The reader; `None` during a read, and after an error.
    reader: Option<RowReader>,
}

#[derive(Debug)]
struct RowReader {
    file: File,
    /// The parts of the file from which rows are still to be read.
    parts: VecDeque<StoredBatch>,
    /// Number of rows to skip in the next part.
    skip: u64,
    /// Number of rows that may still be returned.
    left: u64,
}

impl ResultRows {
    /// Opens at most `limit` rows, after the first `offset` rows.
    pub(crate) fn open(
        folder: &Path,
        record: &QueryRecord,
        offset: u64,
        limit: u64,
    ) -> Result<Self> {
        let none = || Error::Rows("the result has no schema".to_owned());
        let schema = record.schema.as_ref().ok_or_else(none)?;
        let schema = StreamReader::try_new(Cursor::new(schema), None)?.schema();
        let mut file = File::open(rows_path(folder)).map_err(|error| match error.kind() {
            // The result was deleted after its record was read.
            ErrorKind::NotFound => Error::QueryNotFound { id: record.query.id.clone() },
            _ => error.into(),
        })?;
        let mut parts: VecDeque<StoredBatch> = record.parts.iter().copied().collect();
        let (mut skip, mut position) = (offset, 0);
        while let Some(part) = parts.front().filter(|part| part.rows <= skip) {
            skip -= part.rows;
            position += part.bytes;
            parts.pop_front();
        }
        file.seek(SeekFrom::Start(position))?;
        let reader = Some(RowReader { file, parts, skip, left: limit });
        Ok(ResultRows { schema, reader })
    }

    /// Returns the schema of the rows.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Returns the next batch. Returns `None` after the last batch, and after an error.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>> {
        let Some(mut reader) = self.reader.take() else { return Ok(None) };
        let reading = tokio::task::spawn_blocking(move || {
            let batch = reader.read();
            (reader, batch)
        });
        let (reader, batch) = reading.await.map_err(|error| Error::Rows(error.to_string()))?;
        self.reader = batch.is_ok().then_some(reader);
        batch
    }
}

impl RowSource for ResultRows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    async fn next(&mut self) -> Result<Option<RecordBatch>, Problem> {
        ResultRows::next(self).await.or_problem()
    }

    fn fail(&mut self, problem: Problem) -> Problem {
        problem
    }
}

impl RowReader {
    fn read(&mut self) -> Result<Option<RecordBatch>> {
        let Some(part) = self.parts.pop_front().filter(|_| self.left > 0) else { return Ok(None) };
        let mut bytes = vec![0; usize::try_from(part.bytes).unwrap_or(usize::MAX)];
        self.file.read_exact(&mut bytes)?;
        let batch = StreamReader::try_new(Cursor::new(bytes), None)?.next().transpose()?;
        let batch = batch.ok_or_else(|| Error::Rows("a part has no rows".to_owned()))?;
        let skip = std::mem::take(&mut self.skip);
        let rows = self.left.min(part.rows - skip);
        self.left -= rows;
        Ok(Some(batch.slice(skip as usize, rows as usize)))
    }
}
