//! A table received in parts, each in its own memory file. The parts are combined within a quota.

use std::os::fd::OwnedFd;

use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use crate::blocking_io::run_blocking;
use crate::table_writer::{Writer, finish, writer};
use crate::{Error, Result, SharedTable, TableQuota};

/// A table of which some parts have been received.
pub struct TableReceiver {
    quota: Option<TableQuota>,
    state: TableReceiverState,
}

enum TableReceiverState {
    None,
    Some { writer: Box<Writer>, schema: SchemaRef, rows: u64 },
    Failed(Option<Error>),
}

impl TableReceiver {
    /// Returns a table without parts. If `quota` is `None`, all bytes stay in memory.
    pub fn new(quota: Option<TableQuota>) -> Self {
        TableReceiver { quota, state: TableReceiverState::None }
    }

    /// Returns true if at least one part was received.
    pub fn any(&self) -> bool {
        !matches!(self.state, TableReceiverState::None)
    }

    /// Adds a part that another process wrote. Returns false once a part has failed: no more parts
    /// are accepted.
    pub async fn add(&mut self, file: Option<OwnedFd>) -> bool {
        let state = std::mem::replace(&mut self.state, TableReceiverState::Failed(None));
        if matches!(state, TableReceiverState::Failed(_)) {
            self.state = state;
            return false;
        }
        let quota = self.quota.clone();
        let added = run_blocking(move || append(state, file, quota.as_ref())).await;
        self.state = added.unwrap_or_else(|error| TableReceiverState::Failed(Some(error)));
        matches!(self.state, TableReceiverState::Some { .. })
    }

    /// Returns the error that prevents combining the parts, if any. Later calls return `None`.
    pub fn failure(&mut self) -> Option<Error> {
        match &mut self.state {
            TableReceiverState::Failed(error) => error.take(),
            TableReceiverState::None | TableReceiverState::Some { .. } => None,
        }
    }

    /// Returns the combined table.
    pub async fn finish(self) -> Result<SharedTable> {
        match self.state {
            TableReceiverState::Some { writer, rows, .. } => {
                run_blocking(move || finish(*writer, rows)).await
            }
            TableReceiverState::Failed(Some(error)) => Err(error),
            TableReceiverState::Failed(None) | TableReceiverState::None => {
                Err(invalid("the parts of the table are missing"))
            }
        }
    }
}

fn append(
    state: TableReceiverState,
    file: Option<OwnedFd>,
    quota: Option<&TableQuota>,
) -> Result<TableReceiverState> {
    let part = SharedTable::open(file.ok_or_else(|| invalid("the file of a part is missing"))?)?;
    let (mut writer, schema, mut rows) = match state {
        TableReceiverState::Some { writer, schema, rows } => (writer, schema, rows),
        TableReceiverState::None | TableReceiverState::Failed(_) => {
            (Box::new(writer(&part.schema(), quota)?), part.schema(), 0)
        }
    };
    if part.schema() != schema {
        return Err(invalid("the columns of a part differ from the columns of the first part"));
    }
    for batch in part.mapped().unwrap_or_default() {
        rows += batch.num_rows() as u64;
        writer.write(&batch)?;
    }
    Ok(TableReceiverState::Some { writer, schema, rows })
}

fn invalid(what: &str) -> Error {
    Error::Arrow(ArrowError::InvalidArgumentError(what.to_owned()))
}
