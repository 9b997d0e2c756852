//! Field ids for new columns, which no two branches give away twice.
//!
//! Iceberg knows a column by its field id, and a branch of a table knows nothing of the ids that other
//! branches gave to their new columns. So the last id that was given away, on whatever branch, is kept in
//! the store, one ref a table. An id that is taken and then not used is lost, which costs nothing.

use arrow::datatypes::{DataType, Field};
use bytes::Bytes;
use headwater_catalog::Error as CatalogError;
use headwater_store::{Batch, Expected, RefChange};
use headwater_tables::Table;

use crate::error::{Error, Result};
use crate::lake::Lake;

/// How often ids are asked for when others ask at the same time.
const ATTEMPTS_MAX: usize = 100;

impl Lake {
    /// Takes field ids for new columns of a table: those that follow the answer are theirs alone.
    pub(crate) async fn allot_columns(&self, table: &Table, columns: &[Field]) -> Result<i32> {
        let name = format!("columns/{}", table.id());
        let count: i32 = columns.iter().map(ids_in).sum();
        for _ in 0..ATTEMPTS_MAX {
            let found = self.store().reference(&name).await?;
            let last = found.as_deref().map(read).transpose()?.unwrap_or_default();
            let after = last.max(table.last_column_id());
            let expected = found.map_or(Expected::Absent, Expected::Value);
            let last = after.checked_add(count).ok_or_else(none_left)?;
            let value = Some(Bytes::from(last.to_string()));
            let refs = vec![RefChange { name: name.clone(), expected, value }];
            match self.store().apply(Batch { refs, ..Batch::default() }).await {
                Ok(_) => return Ok(after),
                Err(headwater_store::Error::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(CatalogError::Contended { name, attempts: ATTEMPTS_MAX }.into())
    }

    /// The last field id that a column of a table was given, on whatever branch.
    pub async fn last_column_id(&self, table: &Table) -> Result<i32> {
        let found = self.store().reference(&format!("columns/{}", table.id())).await?;
        let last = found.as_deref().map(read).transpose()?.unwrap_or_default();
        Ok(last.max(table.last_column_id()))
    }

    /// Takes the field ids that another engine gave to new columns of a table, up to `last`; none where
    /// another branch has one of them.
    pub(crate) async fn take_columns(
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
            let expected = found.map_or(Expected::Absent, Expected::Value);
            let value = Some(Bytes::from(last.max(taken).to_string()));
            let refs = vec![RefChange { name: name.clone(), expected, value }];
            match self.store().apply(Batch { refs, ..Batch::default() }).await {
                Ok(_) => return Ok(Some(())),
                Err(headwater_store::Error::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(CatalogError::Contended { name, attempts: ATTEMPTS_MAX }.into())
    }
}

fn none_left() -> Error {
    Error::InvalidRequest {
        message: "the table has no field ids left for new columns".to_owned(),
        hint: "Make a new table of its rows.",
    }
}

fn read(bytes: &[u8]) -> Result<i32> {
    let last = std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
    let message = || "the last field id of a table cannot be read".to_owned();
    last.ok_or_else(|| Error::Internal { message: message() })
}

/// How many ids a column takes, its parts among them.
fn ids_in(field: &Field) -> i32 {
    let parts: i32 = match field.data_type() {
        DataType::Struct(parts) => parts.iter().map(|part| ids_in(part)).sum(),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => ids_in(item),
        // The entries of a map have no id of their own, and are counted for all that.
        DataType::Map(entries, _) => ids_in(entries),
        DataType::Dictionary(_, values) => {
            ids_in(&Field::new("", values.as_ref().clone(), true)) - 1
        }
        _ => 0,
    };
    parts + 1
}
