//! Converts the columns of a file to the table's current schema. Fields are matched by id at every
//! level.
//!
//! So a column that was renamed or moved is found by its id. A column that was added after the file
//! was written gets its default or null. A column whose type was widened is cast.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, StructArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use arrow::error::ArrowError;

use crate::column_defaults::missing_in_file;
use crate::types::schema::{entry_fields, field_id, names_of};

/// Returns the index of a table's field in a file. If the file has no field ids, the field is found
/// by the table's name mapping or, without a mapping, by name.
pub(crate) fn find(fields: &Fields, wanted: &Field) -> Option<usize> {
    let id = field_id(wanted);
    if fields.iter().any(|field| field_id(field).is_some()) {
        return fields.iter().position(|field| field_id(field) == id);
    }
    match names_of(wanted) {
        Some(names) => fields.iter().position(|field| names.contains(field.name())),
        None => fields.iter().position(|field| field.name() == wanted.name()),
    }
}

/// Converts an array of a file to the table's current field, matched by field ids at every level.
pub fn align(array: &ArrayRef, field: &Field) -> Result<ArrayRef, ArrowError> {
    match (array.data_type(), field.data_type()) {
        (DataType::Struct(found), DataType::Struct(wanted)) => align_struct(array, found, wanted),
        (DataType::List(_), DataType::List(element)) => {
            let list = array.as_list::<i32>();
            let values = align(list.values(), element)?;
            let nulls = list.nulls().cloned();
            let aligned =
                ListArray::try_new(element.clone(), list.offsets().clone(), values, nulls)?;
            Ok(Arc::new(aligned))
        }
        (DataType::Map(..), DataType::Map(entries, _)) => align_map(array, entries),
        (found, wanted) if found == wanted => Ok(array.clone()),
        (_, wanted) => {
            let options = CastOptions { safe: false, ..CastOptions::default() };
            cast_with_options(array, wanted, &options)
        }
    }
}

fn align_struct(array: &ArrayRef, found: &Fields, wanted: &Fields) -> Result<ArrayRef, ArrowError> {
    let array = array.as_struct();
    let parts = wanted.iter().map(|field| match find(found, field) {
        Some(position) => align(array.column(position), field),
        None => Ok(missing_in_file(field, array.len())),
    });
    let parts = parts.collect::<Result<Vec<_>, _>>()?;
    let nulls = array.nulls().cloned();
    Ok(Arc::new(StructArray::try_new_with_length(wanted.clone(), parts, nulls, array.len())?))
}

fn align_map(array: &ArrayRef, entries: &FieldRef) -> Result<ArrayRef, ArrowError> {
    let map = array.as_map();
    let (key, value) = entry_fields(entries)?;
    let columns = vec![align(map.keys(), key)?, align(map.values(), value)?];
    let pairs = StructArray::try_new(vec![key.clone(), value.clone()].into(), columns, None)?;
    let nulls = map.nulls().cloned();
    let aligned = MapArray::try_new(entries.clone(), map.offsets().clone(), pairs, nulls, false)?;
    Ok(Arc::new(aligned))
}
