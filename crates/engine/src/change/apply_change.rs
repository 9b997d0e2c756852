//! Applies a change to the rows whose positions a query returned. The data files are rewritten
//! without these rows (copy-on-write) or get delete files (merge-on-read). New versions of rows go
//! to new files.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Int32Type, Int64Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use datafusion::common::Result as PlanResult;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::runtime_env::RuntimeEnv;
use futures::{StreamExt, TryStreamExt, stream};
use headwater_lake::BatchStream;
use headwater_model::ToProblem;
use headwater_table_scan::{plain_batch, plain_schema};
use headwater_tables::{DataFile, Positions, RowIds, RowRewrite, ScanPlan, Table, Tables};
use parking_lot::Mutex;

use super::row_positions::RowPositions;
use super::target::{AffectedRowsPlan, TargetTable};
use crate::datafusion_error::ResourceLimits;
use crate::error::{Error, Result};
use crate::plan_executor::RunningPlan;
use crate::returning::{BufferedRows, Returning, result_of};
use crate::session::{Session, StatementContext};
use crate::statement_result::StatementResult;
use crate::write::{FirstStreamError, first};

/// Options of [`Session::apply_change`], in addition to the query of the statement.
pub(super) struct ChangeOptions {
    /// Commit message.
    pub message: String,
    /// Name of the statement in table properties: `delete` in `write.delete.mode`.
    pub word: &'static str,
    /// If true, the change fails if its query returns the same row twice.
    pub once: bool,
    /// The RETURNING clause, applied to the new rows of UPDATE or the deleted rows of DELETE.
    pub returning: Option<Returning>,
}

/// Number of columns before the columns of the new row in the query's result: file, row index, and
/// a flag that is true if there is a new row.
const COLUMNS_BEFORE: usize = 3;

/// First table format version in which rows have ids.
const VERSION_OF_IDS: u8 = 3;

impl Session {
    /// Runs a change. Its query `found` returns the position of each row to delete or replace. For
    /// a change that writes new rows, it also returns a flag that is true if there is a new row,
    /// and the new row. `whole` has the indexes of files whose rows are all deleted; these files
    /// are removed without being read.
    pub(super) async fn apply_change(
        &self,
        mut target: TargetTable,
        run: StatementContext,
        found: AffectedRowsPlan,
        whole: Vec<usize>,
        kind: ChangeOptions,
    ) -> Result<StatementResult> {
        let (metrics, limits) = (Arc::clone(&run.metrics), run.limits);
        let unseen = target.concurrent_row_check(&found, kind.word, &run);
        let on_read = target.merges_on_read(kind.word);
        let whole_rows = self.live_rows(&target, &whole).await?;
        let known = RowIdCache::new(&run.runtime);
        let running = self.start(run, found.plan).await?;
        let places = Arc::new(Mutex::new(RowPositions::default()));
        let kept = FirstStreamError::default();
        let taking = ChangeResultReader {
            places: Arc::clone(&places),
            kept: Arc::clone(&kept),
            limits,
            name: target.name.to_string(),
            once: kind.once,
            returned: kind.returning.as_ref().map(|returning| returning.rows.clone()),
            tables: self.engine.lake().tables().clone(),
            table: target.table.clone(),
            plan: target.plan.clone(),
            ids: tokio::sync::Mutex::new(known),
        };
        let rows = taking.new_rows(running);
        let rows = if on_read {
            rows
        } else {
            rows.chain(self.remaining_rows(&target, Arc::clone(&places))).boxed()
        };
        let staged = target.transaction.write_rows(&target.name, rows).await;
        let mut staged = staged.map_err(|error| first(&kept, error))?;
        let mut places = std::mem::take(&mut *places.lock());
        let count = whole_rows + places.count;
        if count > 0 {
            if on_read {
                let deletes = self.split_off_deletes(&target, &mut places).await?;
                let deletes = target.transaction.write_deletes(&target.name, deletes).await?;
                staged = staged.and(deletes);
            }
            let removed = whole.into_iter().chain(places.rows.into_keys());
            let removed = removed.map(|file| Arc::clone(&target.plan.files()[file])).collect();
            let rewrite = RowRewrite { seen: target.plan.clone(), removed, staged, unseen };
            target.transaction.rewrite(&target.name, rewrite).await?;
        }
        let returned = self.returned(kind.returning, &metrics).await?;
        let written = self.finish_with(target.transaction, &kind.message, count, &metrics).await?;
        Ok(result_of(returned, written))
    }

    /// Returns the number of rows, without deleted rows, in the files with these indexes.
    async fn live_rows(&self, target: &TargetTable, files: &[usize]) -> Result<u64> {
        let files = files.iter().map(|file| Arc::clone(&target.plan.files()[*file])).collect();
        Ok(self.engine.lake().tables().deletes().live_rows(files).await?)
    }

    /// Removes from `places` the files of which some rows remain. Returns these files, each with
    /// the positions of its deleted rows, which are written to delete files.
    async fn split_off_deletes(
        &self,
        target: &TargetTable,
        places: &mut RowPositions,
    ) -> Result<Vec<(Arc<DataFile>, Positions)>> {
        let mut deletes = Vec::new();
        for (file, rows) in std::mem::take(&mut places.rows) {
            if rows.len() == self.live_rows(target, &[file]).await? {
                places.rows.insert(file, rows);
            } else {
                deletes.push((Arc::clone(&target.plan.files()[file]), rows));
            }
        }
        Ok(deletes)
    }

    /// Streams the rows that remain in rewritten files. The caller must read the stream after the
    /// query has returned all positions.
    fn remaining_rows(
        &self,
        target: &TargetTable,
        places: Arc<Mutex<RowPositions>>,
    ) -> BatchStream {
        let tables = self.engine.lake().tables().clone();
        let (table, plan) = (target.table.clone(), target.plan.clone());
        let rest = stream::once(async move {
            let places = places.lock();
            let files = places.rows.iter().filter_map(|(number, rows)| {
                let file = &plan.files()[*number];
                (rows.len() < file.rows).then(|| (Arc::clone(file), rows.clone()))
            });
            tables.rewrites().read_live(&table, files.collect())
        });
        rest.flatten().boxed()
    }
}

/// Reader of the query's result. Separates the row positions from the new rows.
struct ChangeResultReader {
    places: Arc<Mutex<RowPositions>>,
    kept: FirstStreamError,
    limits: ResourceLimits,
    name: String,
    once: bool,
    /// The buffer for the rows of RETURNING; `None` without this clause.
    returned: Option<BufferedRows>,
    tables: Tables,
    table: Table,
    plan: ScanPlan,
    ids: tokio::sync::Mutex<RowIdCache>,
}

/// Cache of row ids, by the index of the data file.
struct RowIdCache {
    files: HashMap<i32, RowIds>,
    /// Reservation of the cache in the statement's memory pool.
    memory: MemoryReservation,
}

impl RowIdCache {
    fn new(runtime: &RuntimeEnv) -> Self {
        let memory = MemoryConsumer::new("row ids").register(&runtime.memory_pool);
        RowIdCache { files: HashMap::new(), memory }
    }

    /// Caches the row ids of a file. If the memory pool is full, first evicts the ids of all other
    /// files; they are read again when needed.
    fn keep(&mut self, number: i32, ids: RowIds) -> PlanResult<&RowIds> {
        let bytes = ids.bytes();
        if self.memory.try_grow(bytes).is_err() {
            self.files = HashMap::new();
            self.memory.free();
            self.memory.try_grow(bytes)?;
        }
        Ok(self.files.entry(number).insert_entry(ids).into_mut())
    }
}

impl ChangeResultReader {
    /// Returns the new rows of the query's result, and adds the row positions to `places`.
    fn new_rows(self, running: RunningPlan) -> BatchStream {
        let fields = running.schema.fields().iter().skip(COLUMNS_BEFORE).cloned();
        let schema = plain_schema(&Schema::new(fields.collect::<Vec<_>>()));
        let taking = Arc::new(self);
        let rows = running.stream.then(move |batch| {
            let (taking, schema) = (Arc::clone(&taking), Arc::clone(&schema));
            async move {
                let taken = match batch {
                    Ok(batch) => taking.take(&batch, &schema).await,
                    Err(error) => Err(taking.limits.explain(&error)),
                };
                taken.map_err(|error| {
                    let problem = error.to_problem();
                    taking.kept.lock().get_or_insert(error);
                    ArrowError::ExternalError(Box::new(problem))
                })
            }
        });
        rows.try_filter_map(|rows| futures::future::ready(Ok(rows))).boxed()
    }

    async fn take(&self, batch: &RecordBatch, schema: &SchemaRef) -> Result<Option<RecordBatch>> {
        let firsts = self.places.lock().add(batch)?;
        if self.once && firsts.has_false() {
            return Err(Error::MatchedTwice { table: self.name.clone() });
        }
        if batch.num_columns() < COLUMNS_BEFORE {
            return Ok(None);
        }
        let failed = |error: ArrowError| self.limits.explain(&error.into());
        if let Some(returned) = &self.returned {
            let rows = filter_record_batch(batch, &firsts).map_err(failed)?;
            returned.add(&rows_of(&rows, schema).map_err(failed)?)?;
        }
        let comes = batch.column(COLUMNS_BEFORE - 1);
        let unmarked = || Error::Internal { message: "a row has no change marker".to_owned() };
        let comes = comes.as_boolean_opt().ok_or_else(unmarked)?;
        if !comes.has_true() {
            return Ok(None);
        }
        let coming = if comes.true_count() == comes.len() {
            batch.clone()
        } else {
            filter_record_batch(batch, comes).map_err(failed)?
        };
        let rows = rows_of(&coming, schema).map_err(failed)?;
        if self.table.format_version() < VERSION_OF_IDS {
            return Ok(Some(rows));
        }
        let ids = self.ids_of(&coming).await?;
        self.tables.rewrites().with_ids(&self.table, &rows, ids).map(Some).map_err(failed)
    }

    /// Returns the id of the replaced row for each new row; null for an inserted row.
    async fn ids_of(&self, rows: &RecordBatch) -> Result<Int64Array> {
        let unplaced = || Error::Internal { message: "a changed row has no position".to_owned() };
        let files = rows.column(0).as_primitive_opt::<Int32Type>().ok_or_else(unplaced)?;
        let places = rows.column(1).as_primitive_opt::<Int64Type>().ok_or_else(unplaced)?;
        let mut known = self.ids.lock().await;
        let failed = |error| self.limits.explain(&error);
        let mut ids = Vec::with_capacity(rows.num_rows());
        for (file, place) in files.iter().zip(places) {
            let Some((number, place)) = file.zip(place) else {
                ids.push(None);
                continue;
            };
            let place = u64::try_from(place).map_err(|_| unplaced())?;
            if let Some(of_file) = known.files.get(&number) {
                ids.push(of_file.at(place));
                continue;
            }
            let index = usize::try_from(number).map_err(|_| unplaced())?;
            let file = self.plan.files().get(index).ok_or_else(unplaced)?;
            let of_file = self.tables.rewrites().row_ids(file).await?;
            ids.push(known.keep(number, of_file).map_err(failed)?.at(place));
        }
        Ok(ids.into())
    }
}

/// Returns the table's columns of a batch, which follow the position and the flag.
fn rows_of(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns: Vec<usize> = (COLUMNS_BEFORE..batch.num_columns()).collect();
    plain_batch(&batch.project(&columns)?, schema)
}
