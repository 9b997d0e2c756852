//! The two row lineage columns of format version 3: the id of each row, and the sequence number of
//! the last commit that changed the row.
//!
//! A file stores these values only for rows that were rewritten. For all other rows,
//! [`RowLineageExec`] computes the values from the position of the row, which the scan below it
//! adds as a column.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{FieldRef, Int32Type, Int64Type, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::TryStreamExt;
use headwater_sql::change::{FILE, ROW};
use headwater_tables::{DataFile, LINEAGE, lineage_fields};

/// The values from which the lineage of a file's rows is computed: the first row id of the file, if
/// it has one, and the sequence number of the commit that added the file.
type RowOrigin = (Option<i64>, i64);

/// Returns a schema with the two lineage columns at its end.
pub(crate) fn with_lineage(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().cloned().chain(lineage_fields());
    Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone()))
}

/// Returns true for a lineage column, false for a column of the table that has the same name by
/// chance.
pub(crate) fn is_lineage(field: &FieldRef) -> bool {
    lineage_fields()
        .iter()
        .any(|own| own.name() == field.name() && own.metadata() == field.metadata())
}

/// An operator that fills in the lineage columns, and returns only the first columns of its input.
#[derive(Debug)]
pub(crate) struct RowLineageExec {
    input: Arc<dyn ExecutionPlan>,
    origins: Arc<[RowOrigin]>,
    columns: usize,
    properties: Arc<PlanProperties>,
}

impl RowLineageExec {
    /// Wraps a scan of `files` that includes the columns [`FILE`] and [`ROW`]. Only the first
    /// `columns` columns are returned.
    pub(crate) fn over(
        input: Arc<dyn ExecutionPlan>,
        files: &[Arc<DataFile>],
        columns: usize,
    ) -> Result<Self> {
        let origins = files.iter().map(|file| (file.first_row_id(), file.sequence_number()));
        RowLineageExec::new(input, origins.collect(), columns)
    }

    fn new(
        input: Arc<dyn ExecutionPlan>,
        origins: Arc<[RowOrigin]>,
        columns: usize,
    ) -> Result<Self> {
        let kept: Vec<usize> = (0..columns).collect();
        let schema = Arc::new(input.schema().project(&kept)?);
        let below = input.properties();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            below.output_partitioning().clone(),
            below.emission_type,
            below.boundedness,
        );
        Ok(RowLineageExec { input, origins, columns, properties: Arc::new(properties) })
    }
}

impl DisplayAs for RowLineageExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LineageExec")
    }
}

/// Filters on lineage columns must not be passed to the scan, because the values in files differ
/// from the values that this operator computes.
impl ExecutionPlan for RowLineageExec {
    fn name(&self) -> &'static str {
        "LineageExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (Some(input), true) = (children.pop(), children.is_empty()) else {
            return internal_err!("the operator of row ids needs exactly one input");
        };
        Ok(Arc::new(RowLineageExec::new(input, Arc::clone(&self.origins), self.columns)?))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        let (file, row) = (input.schema().index_of(FILE)?, input.schema().index_of(ROW)?);
        let schema = Arc::clone(self.properties.equivalence_properties().schema());
        let (origins, filled) = (Arc::clone(&self.origins), Arc::clone(&schema));
        let rows = input.and_then(move |batch| {
            futures::future::ready(fill_in(&batch, &filled, &origins, (file, row)))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}

fn fill_in(
    batch: &RecordBatch,
    schema: &SchemaRef,
    origins: &[RowOrigin],
    (file, row): (usize, usize),
) -> Result<RecordBatch> {
    let files = batch.column(file).as_primitive_opt::<Int32Type>();
    let rows = batch.column(row).as_primitive_opt::<Int64Type>();
    let (Some(files), Some(rows)) = (files, rows) else {
        return internal_err!("the columns with the positions of rows have the wrong types");
    };
    let columns = schema.fields().iter().zip(batch.columns()).map(|(field, column)| {
        if !is_lineage(field) {
            return Arc::clone(column);
        }
        let own = column.as_primitive_opt::<Int64Type>();
        let is_id = field.name() == LINEAGE[0];
        let value = |at: usize| {
            if let Some(own) = own.filter(|own| own.is_valid(at)) {
                return Some(own.value(at));
            }
            let number = usize::try_from(files.value(at)).ok()?;
            let (first, sequence_number) = origins.get(number).copied()?;
            if is_id { first?.checked_add(rows.value(at)) } else { first.map(|_| sequence_number) }
        };
        Arc::new((0..batch.num_rows()).map(value).collect::<Int64Array>()) as ArrayRef
    });
    Ok(RecordBatch::try_new(Arc::clone(schema), columns.collect())?)
}
