//! Checks that a top-level or nested column contains no nulls before it becomes required.
//!
//! If a struct is null, its fields do not count as null.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{filter, is_not_null};
use arrow::datatypes::{DataType, FieldRef};
use arrow::error::ArrowError;
use futures::TryStreamExt;

use crate::tables::Tables;
use crate::types::schema::field_id;
use crate::{DataFile, Error, Result, Table};

/// A step of the path to a nested column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PathStep {
    /// A field of a struct.
    Part(usize),
    /// The element of a list.
    Element,
    /// The value of a map.
    Value,
}

/// Rejects columns that become required, if they contain nulls.
pub(super) async fn check_values(tables: &Tables, table: &Table, columns: &[i32]) -> Result<()> {
    let schema = table.schema();
    for id in columns {
        let found = schema.fields().iter().find_map(|field| Some((field, steps_to(field, *id)?)));
        let Some((field, steps)) = found else { continue };
        let written = table.metadata().current_schema().name_by_field_id(*id);
        let column = || written.unwrap_or(field.name()).to_owned();
        let plan = tables.plan(table, None).await?;
        let may_lack = |file: &&Arc<DataFile>| file.null_count(*id) != Some(0);
        let files: Vec<Arc<DataFile>> = plan.files().iter().filter(may_lack).cloned().collect();
        let nulls = count_nulls(tables, table, &files, field.name(), &steps).await?;
        if nulls > 0 {
            return Err(Error::NullValue { column: column(), rows: nulls });
        }
        // Deleted rows are checked, too: a null in a deleted row is a problem for readers that read
        // a file without applying its deletes.
        let with_deletes = files.iter().filter(|file| file.has_deletes());
        let undeleted: Vec<Arc<DataFile>> =
            with_deletes.map(|file| Arc::new(file.without_deletes())).collect();
        if count_nulls(tables, table, &undeleted, field.name(), &steps).await? > 0 {
            let reason = "data files still contain deleted rows with nulls in this column; \
                          compact them with `headwater table maintain` first";
            return Err(Error::InvalidColumn { column: column(), reason: reason.to_owned() });
        }
    }
    Ok(())
}

async fn count_nulls(
    tables: &Tables,
    table: &Table,
    files: &[Arc<DataFile>],
    column: &str,
    steps: &[PathStep],
) -> Result<usize> {
    let mut rows = tables.read(table, files, Some(&[column.to_owned()]), None)?;
    let mut nulls = 0;
    while let Some(batch) = rows.try_next().await.map_err(Error::Input)? {
        let counted = nulls_at(batch.column(0), steps);
        nulls += counted.map_err(|error| Error::internal("altered", error))?;
    }
    Ok(nulls)
}

/// Returns the steps from a column to the nested column with this id; `None` if the column does not
/// contain that column.
fn steps_to(field: &FieldRef, id: i32) -> Option<Vec<PathStep>> {
    if field_id(field) == Some(id) {
        return Some(Vec::new());
    }
    let within = |part: &FieldRef, step: PathStep| {
        let mut steps = steps_to(part, id)?;
        steps.insert(0, step);
        Some(steps)
    };
    match field.data_type() {
        DataType::Struct(parts) => {
            parts.iter().enumerate().find_map(|(index, part)| within(part, PathStep::Part(index)))
        }
        DataType::List(element) => within(element, PathStep::Element),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(parts) if parts.len() == 2 => within(&parts[1], PathStep::Value),
            _ => None,
        },
        _ => None,
    }
}

/// Counts the nulls of a nested column. A null whose parent is null is not counted.
fn nulls_at(array: &ArrayRef, steps: &[PathStep]) -> std::result::Result<usize, ArrowError> {
    let Some((step, rest)) = steps.split_first() else { return Ok(array.logical_null_count()) };
    let non_null = filter(array, &is_not_null(array)?)?;
    let between = |offsets: &[i32]| match (offsets.first(), offsets.last()) {
        (Some(first), Some(last)) => (*first as usize, (last - first) as usize),
        _ => (0, 0),
    };
    match step {
        PathStep::Part(index) => nulls_at(non_null.as_struct().column(*index), rest),
        PathStep::Element => {
            let list = non_null.as_list::<i32>();
            let (first, length) = between(list.value_offsets());
            nulls_at(&list.values().slice(first, length), rest)
        }
        PathStep::Value => {
            let map = non_null.as_map();
            let (first, length) = between(map.value_offsets());
            nulls_at(&map.values().slice(first, length), rest)
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int32Array, ListArray, StructArray};
    use arrow::buffer::{NullBuffer, OffsetBuffer};
    use arrow::datatypes::Field;

    use super::*;

    #[test]
    fn a_field_of_a_null_struct_does_not_count_as_null() {
        let part: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None, None]));
        let field = Arc::new(Field::new("c", DataType::Int32, true));
        let non_null = NullBuffer::from(vec![true, false, true]);
        let of = StructArray::new(vec![Arc::clone(&field)].into(), vec![part], Some(non_null));
        let array: ArrayRef = Arc::new(of);
        assert_eq!(nulls_at(&array, &[PathStep::Part(0)]).ok(), Some(1));
        // Three lists. The last list is null, but its offsets still include an element.
        let lists = ListArray::new(
            Arc::new(Field::new("element", array.data_type().clone(), true)),
            OffsetBuffer::from_lengths([1, 1, 1]),
            array,
            Some(NullBuffer::from(vec![true, true, false])),
        );
        let array: ArrayRef = Arc::new(lists);
        assert_eq!(nulls_at(&array, &[]).ok(), Some(1));
        assert_eq!(nulls_at(&array, &[PathStep::Element]).ok(), Some(1));
        assert_eq!(nulls_at(&array, &[PathStep::Element, PathStep::Part(0)]).ok(), Some(0));
        assert_eq!(
            nulls_at(&array.slice(1, 2), &[PathStep::Element, PathStep::Part(0)]).ok(),
            Some(0)
        );
    }
}
