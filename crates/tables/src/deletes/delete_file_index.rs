//! Assigns delete files to the data files to which they apply.
//!
//! A position delete applies to data files of the same partition with the same or a smaller
//! sequence number. An equality delete applies to data files with a smaller sequence number: to
//! those of the same partition or, if the delete file is unpartitioned, of all partitions. Deletion
//! vectors and some position delete files refer to one data file.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{FieldRef, Fields, Schema};
use iceberg::spec::{Datum, PrimitiveLiteral, Struct, TableMetadata};

use super::position_deletes::LOCATION_ID;
use super::{
    DeleteFile, DeleteFileRange, DeleteFilesByKey, DeleteGroup, DeletedKeys, Deletes,
    PositionsByFile,
};
use crate::table::name_mapping;
use crate::type_promotion::comparable_partition;
use crate::types::schema::{arrow_field, with_names};
use crate::{DataFile, Error, Result};

/// A partition: its spec id, and its values promoted to the widest types of their columns.
type Partition = (i32, Struct);

/// The delete files of a snapshot, indexed for lookup by data file.
struct DeleteFileIndex {
    vectors: HashMap<String, Arc<DeleteFile>>,
    own: DeleteFilesByKey<String>,
    positions: HashMap<Partition, Arc<DeleteGroup<PositionsByFile>>>,
    /// Equality deletes by the partition to which they apply; `None` is the key of the delete files
    /// that apply to all partitions.
    equality: HashMap<Option<Partition>, Vec<Arc<DeleteGroup<DeletedKeys>>>>,
}

/// Assigns delete files to data files.
pub(crate) fn attach(
    files: Vec<Arc<DataFile>>,
    deletes: Vec<Arc<DeleteFile>>,
    metadata: &TableMetadata,
) -> Result<Vec<Arc<DataFile>>> {
    if deletes.is_empty() {
        return Ok(files);
    }
    let index = DeleteFileIndex::new(deletes, metadata)?;
    let attached = files.into_iter().map(|file| match index.of(&file) {
        Some(deletes) => Arc::new(file.with_deletes(Arc::new(deletes))),
        None => file,
    });
    Ok(attached.collect())
}

impl DeleteFileIndex {
    fn new(mut deletes: Vec<Arc<DeleteFile>>, metadata: &TableMetadata) -> Result<Self> {
        // The list is sorted, because equal sets of files must have equal fingerprints.
        deletes.sort_by(|one, other| {
            let number = |file: &DeleteFile| file.sequence_number();
            (number(one), one.key()).cmp(&(number(other), other.key()))
        });
        let (mut vectors, mut own) = (HashMap::new(), DeleteFilesByKey::new());
        let mut positions: DeleteFilesByKey<Partition> = DeleteFilesByKey::new();
        let mut equality: DeleteFilesByKey<(Option<Partition>, Vec<i32>)> = DeleteFilesByKey::new();
        for file in deletes {
            let entry = &file.entry.data_file;
            let partition = (file.spec_id, comparable_partition(entry.partition()));
            if file.is_equality() {
                let spec = metadata.partition_spec_by_id(file.spec_id);
                let is_global = spec.is_some_and(|spec| spec.is_unpartitioned());
                let mut ids = entry.equality_ids().unwrap_or_default();
                ids.sort_unstable();
                let key = ((!is_global).then_some(partition), ids);
                equality.entry(key).or_default().push(file);
            } else if file.is_vector() {
                let missing = "a deletion vector does not refer to a data file";
                let of = entry.referenced_data_file();
                let of = of.ok_or_else(|| Error::corrupt(file.location(), missing))?;
                vectors.insert(of, file);
            } else if let Some(of) = named(entry) {
                own.entry(of).or_default().push(file);
            } else {
                positions.entry(partition).or_default().push(file);
            }
        }
        let group = |(partition, files)| (partition, Arc::new(DeleteGroup::new(files, Vec::new())));
        let positions = positions.into_iter().map(group).collect();
        let mut by_partition: HashMap<_, Vec<_>> = HashMap::new();
        for ((partition, ids), files) in equality {
            let columns = columns(metadata, &ids, &files)?;
            let group = Arc::new(DeleteGroup::new(files, columns));
            by_partition.entry(partition).or_default().push(group);
        }
        Ok(DeleteFileIndex { vectors, own, positions, equality: by_partition })
    }

    fn of(&self, file: &DataFile) -> Option<Deletes> {
        let number = file.sequence_number();
        let applies = |delete: &&Arc<DeleteFile>| delete.sequence_number() >= number;
        let partition = (file.spec_id, comparable_partition(file.entry.data_file.partition()));
        let vector = self.vectors.get(&file.location).filter(applies).cloned();
        let (mut own, mut positions) = (Vec::new(), None);
        if vector.is_none() {
            let named = self.own.get(&file.location).into_iter().flatten();
            own.extend(named.filter(applies).cloned());
            positions = self.positions.get(&partition).and_then(|group| files_from(group, number));
        }
        let in_partition = self.equality.get(&Some(partition)).into_iter().flatten();
        let global = self.equality.get(&None).into_iter().flatten();
        let equality = in_partition.chain(global).filter_map(|group| files_from(group, number + 1));
        Deletes::new(vector, own, positions, equality.collect())
    }
}

/// Returns the files of a group with the sequence number `number` or a later one; `None` if the
/// group has no such files.
fn files_from<T>(group: &Arc<DeleteGroup<T>>, number: i64) -> Option<DeleteFileRange<T>> {
    let from = group.files.partition_point(|file| file.sequence_number() < number);
    (from < group.files.len()).then(|| DeleteFileRange { group: group.clone(), from })
}

/// Returns the location of the only data file to which a delete file refers, according to its
/// manifest entry or the bounds of its location column; `None` if it may refer to several data
/// files.
pub(crate) fn named(entry: &iceberg::spec::DataFile) -> Option<String> {
    let text = |bound: Option<&Datum>| match bound.map(Datum::literal) {
        Some(PrimitiveLiteral::String(text)) => Some(text.clone()),
        _ => None,
    };
    entry.referenced_data_file().or_else(|| {
        let lower = text(entry.lower_bounds().get(&LOCATION_ID))?;
        let upper = text(entry.upper_bounds().get(&LOCATION_ID))?;
        (lower == upper).then_some(lower)
    })
}

/// Returns the columns with these field ids. Each column is taken from the newest schema that
/// contains it.
fn columns(
    metadata: &TableMetadata,
    ids: &[i32],
    files: &[Arc<DeleteFile>],
) -> Result<Vec<FieldRef>> {
    let location = files.first().map(|file| file.location()).unwrap_or_default();
    if ids.is_empty() {
        return Err(Error::corrupt(location, "an equality delete file has no equality columns"));
    }
    let mut schemas: Vec<_> = metadata.schemas_iter().collect();
    schemas.sort_by_key(|schema| std::cmp::Reverse(schema.schema_id()));
    schemas.insert(0, metadata.current_schema());
    let column = |id: &i32| {
        let top = |schema: &&iceberg::spec::SchemaRef| {
            schema.as_struct().fields().iter().find(|field| field.id == *id).cloned()
        };
        let field = schemas.iter().find_map(top).ok_or_else(|| Error::Unsupported {
            location: location.to_owned(),
            feature: format!("equality deletes on field {id}, which is nested or unknown"),
        })?;
        Ok(Arc::new(arrow_field(&field).with_nullable(true)))
    };
    let columns: Fields = ids.iter().map(column).collect::<Result<_>>()?;
    let named = with_names(&Arc::new(Schema::new(columns)), name_mapping(metadata));
    Ok(named.fields().to_vec())
}
