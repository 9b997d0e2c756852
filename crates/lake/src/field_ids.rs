//! Allocation of field ids for new columns, unique across all branches of a table.
//!
//! Iceberg identifies a column by its field id, and a branch does not record the ids that were
//! assigned on other branches. So the store contains one ref for each table, with the last id that
//! any branch has assigned. An allocated id that is not used is lost: it is never allocated again.

use arrow::datatypes::{DataType, Field};
use bytes::Bytes;
use headwater_catalog::Error as CatalogError;
use headwater_store::{RefChange, RefPrecondition, WriteBatch};
use headwater_tables::Table;

use crate::error::{Error, Result};
use crate::lake::Lake;

/// Maximum number of attempts if other processes allocate field ids of the same table at the same
/// time.
const ATTEMPTS_MAX: usize = 100;

impl Lake {
    /// Allocates field ids for new columns of a table. Returns the id that precedes the first
    /// allocated id.
    pub(crate) async fn allocate_field_ids(&self, table: &Table, columns: &[Field]) -> Result<i32> {
        let name = format!("columns/{}", table.id());
        let count: i32 = columns.iter().map(ids_in).sum();
        for _ in 0..ATTEMPTS_MAX {
            let found = self.store().reference(&name).await?;
            let last = found.as_deref().map(read).transpose()?.unwrap_or_default();
            let after = last.max(table.last_column_id());
            let expected = found.map_or(RefPrecondition::Absent, RefPrecondition::Value);
            let last = after.checked_add(count).ok_or_else(ids_exhausted)?;
            let value = Some(Bytes::from(last.to_string()));
            let refs = vec![RefChange { name: name.clone(), expected, value }];
            match self.store().apply(WriteBatch { refs, ..WriteBatch::default() }).await {
                Ok(_) => return Ok(after),
                Err(headwater_store::Error::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(CatalogError::Contended { name, attempts: ATTEMPTS_MAX }.into())
    }

    /// Returns the last field id assigned to a column of a table, on any branch.
    pub async fn last_column_id(&self, table: &Table) -> Result<i32> {
        let found = self.store().reference(&format!("columns/{}", table.id())).await?;
        let last = found.as_deref().map(read).transpose()?.unwrap_or_default();
        Ok(last.max(table.last_column_id()))
    }

    /// Reserves the field ids that another engine assigned to new columns of a table, up to `last`.
    /// Returns `None` if another branch already uses one of these ids.
    pub(crate) async fn reserve_field_ids(
        &self,
        before: &Table,
        new: &[i32],
        last: i32,
    ) -> Result<Option<()>> {
        let Some(first) = new.iter().min() else { return Ok(Some(())) };
        let name = format!("columns/{}", before.id());
        for _ in 0..ATTEMPTS_MAX {
            let found = self.store().reference(&name).await?;
            let taken = found.as_deref().map(read).transpose()?.unwrap_or_default();
            if *first <= taken.max(before.last_column_id()) {
                return Ok(None);
            }
            let expected = found.map_or(RefPrecondition::Absent, RefPrecondition::Value);
            let value = Some(Bytes::from(last.max(taken).to_string()));
            let refs = vec![RefChange { name: name.clone(), expected, value }];
            match self.store().apply(WriteBatch { refs, ..WriteBatch::default() }).await {
                Ok(_) => return Ok(Some(())),
                Err(headwater_store::Error::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(CatalogError::Contended { name, attempts: ATTEMPTS_MAX }.into())
    }
}

fn ids_exhausted() -> Error {
    Error::InvalidRequest {
        message: "the table has no field ids left for new columns".to_owned(),
        hint: "Create a new table with `CREATE TABLE ... AS SELECT`.",
    }
}

fn read(bytes: &[u8]) -> Result<i32> {
    let last = std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
    let message = || "the stored last field id of a table is not a number".to_owned();
    last.ok_or_else(|| Error::Internal { message: message() })
}

/// Counts the field ids that a column needs, including its nested fields.
fn ids_in(field: &Field) -> i32 {
    let parts: i32 = match field.data_type() {
        DataType::Struct(parts) => parts.iter().map(|part| ids_in(part)).sum(),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => ids_in(item),
        // The struct of a map's entries needs no id, but is counted like a field. So one allocated
        // id stays unused.
        DataType::Map(entries, _) => ids_in(entries),
        DataType::Dictionary(_, values) => {
            ids_in(&Field::new("", values.as_ref().clone(), true)) - 1
        }
        _ => 0,
    };
    parts + 1
}
