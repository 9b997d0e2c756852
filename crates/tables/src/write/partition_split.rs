//! Splits batches by partition.

use std::collections::HashMap;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::row::{RowConverter, SortField};
use iceberg::spec::{PartitionSpecRef, SchemaRef, Struct};

use crate::partition::partition_columns;
use crate::value_conversion::literal_at;
use crate::{Error, Result};

/// The values of a partition, encoded as bytes. Keys are equal if and only if the values are equal.
pub(crate) type PartitionKey = Box<[u8]>;

/// The rows of one partition within a batch.
#[derive(Debug)]
pub(crate) struct PartitionRows {
    pub(crate) key: PartitionKey,
    pub(crate) values: Struct,
    pub(crate) rows: RecordBatch,
}

/// Splits batches by a partition spec.
#[derive(Debug)]
pub(crate) struct PartitionSplitter {
    spec: PartitionSpecRef,
    schema: SchemaRef,
    converter: Option<RowConverter>,
}

impl PartitionSplitter {
    pub(crate) fn new(spec: PartitionSpecRef, schema: SchemaRef) -> Self {
        PartitionSplitter { spec, schema, converter: None }
    }

    /// Splits a batch into partitions, in the order of their first rows; rows keep their order.
    pub(crate) fn split(&mut self, batch: RecordBatch) -> Result<Vec<PartitionRows>> {
        if batch.num_rows() == 0 {
            return Ok(Vec::new());
        }
        if self.spec.fields().is_empty() {
            return Ok(vec![PartitionRows {
                key: Box::default(),
                values: Struct::empty(),
                rows: batch,
            }]);
        }
        let internal = |error| Error::internal("partitioned", error);
        let columns = partition_columns(&batch, &self.spec, &self.schema)?;
        let converter = match &mut self.converter {
            Some(converter) => converter,
            none => {
                let fields =
                    columns.iter().map(|column| SortField::new(column.data_type().clone()));
                none.insert(RowConverter::new(fields.collect()).map_err(internal)?)
            }
        };
        let rows = converter.convert_columns(&columns).map_err(internal)?;
        let mut group_indexes: HashMap<&[u8], usize> = HashMap::new();
        let mut groups: Vec<Vec<u32>> = Vec::new();
        for row in 0..rows.num_rows() {
            let group = *group_indexes.entry(rows.row(row).data()).or_insert_with(|| {
                groups.push(Vec::new());
                groups.len() - 1
            });
            groups[group].push(row as u32);
        }
        let is_single = groups.len() == 1;
        let parts = groups.into_iter().map(|group| {
            let first = group[0] as usize;
            let key = rows.row(first).data().into();
            let values = columns.iter().map(|column| literal_at(column, first)).collect();
            let rows = if is_single {
                batch.clone()
            } else {
                take_record_batch(&batch, &UInt32Array::from(group)).map_err(internal)?
            };
            Ok(PartitionRows { key, values, rows })
        });
        parts.collect()
    }
}
