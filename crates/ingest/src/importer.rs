//! Runs an import: one thread reads, other threads write, and one commit at the end makes the rows
//! visible.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use futures::{StreamExt, stream};
use headwater_lake::{ImportedFile, ImportedFiles, Lake, Transaction, set_creator};
use headwater_model::{FileFormat, ImportPlan, ImportReport, ImportRequest, ObjectOwner};
use headwater_tables::{BatchStream, StagedFiles};
use tokio::sync::mpsc::{self, Receiver};
use tokio_util::sync::CancellationToken;

use super::cloud_object::BucketStores;
use super::import_plan::{PreparedImport, blocking};
use super::private_files::PrivateFiles;
use super::progress::{CountingReader, ImportStage, ProgressCallback, StageProgress};
use super::rejected_rows::{RejectedRows, rejected_name, rejected_schema};
use super::request_validation::{ValidRequest, check};
use super::row_builder::{RowBuilder, RowSink};
use super::source::SourceFile;
use super::table_authorizer::{TableAuthorizer, TableCheck};
use super::{arrow_file, csv, ndjson, parquet};
use crate::error::Result;

/// Maximum number of batches in the queue between the reader and a writer, chosen to keep both
/// busy.
pub(crate) const BATCHES_WAITING: usize = 3;

/// Number of a bucket's objects that are fetched ahead. For a small object, the latency of a
/// request exceeds the time to read its content.
const OBJECTS_AHEAD: usize = 8;

/// Maximum number of retries after a conflicting commit.
const ATTEMPTS_MAX: u32 = 10;

/// Imports files into the tables of a lake.
#[derive(Debug, Clone)]
pub struct Importer {
    lake: Lake,
    /// The owner of the tables that imports create.
    creator: Option<ObjectOwner>,
    pub(crate) authorizer: TableAuthorizer,
    pub(crate) buckets: BucketStores,
    /// Files that must not be read. `None` allows all files.
    pub(crate) private: Option<PrivateFiles>,
}

impl Importer {
    /// Creates an importer for a lake.
    pub fn new(lake: Lake) -> Self {
        let (authorizer, buckets) = (TableAuthorizer::default(), BucketStores::new());
        Importer { lake, creator: None, authorizer, buckets, private: None }
    }

    /// Returns an importer that performs an action on a table only if `check` allows the action.
    #[must_use]
    pub fn with_check(self, check: Option<TableCheck>) -> Self {
        Importer { authorizer: TableAuthorizer(check), ..self }
    }

    /// Returns an importer whose new tables have an owner.
    #[must_use]
    pub fn with_creator(self, creator: Option<ObjectOwner>) -> Self {
        Importer { creator, ..self }
    }

    /// Returns an importer that reads the given buckets from the given stores. Other buckets are
    /// read from a cloud.
    #[must_use]
    pub fn with_buckets(self, buckets: BucketStores) -> Self {
        Importer { buckets, ..self }
    }

    /// Returns an importer that rejects these files and the files of the warehouse.
    #[must_use]
    pub fn without(self, private: PrivateFiles) -> Self {
        Importer { private: Some(private), ..self }
    }

    /// Returns the lake that the importer writes to.
    pub(crate) fn lake(&self) -> &Lake {
        &self.lake
    }

    /// Plans an import: the files, the columns, their types and the reasons for the types. Reads
    /// and checks every row and writes nothing. Fails with the errors that the import would return.
    pub async fn plan(
        &self,
        request: &ImportRequest,
        progress: ProgressCallback,
        cancelled: CancellationToken,
    ) -> Result<ImportPlan> {
        let checked = check(request)?;
        let request = ImportRequest { dry_run: true, ..request.clone() };
        let plan = self.create_plan(&request, &checked, &progress, &cancelled).await?;
        let stage = ImportStage::Import;
        let meter = StageProgress::new(stage, &plan.files, progress, cancelled);
        let reader = ReadTask::new(&plan, &checked, &meter);
        blocking(move || reader.read(RowSink::check(checked.reject))).await?;
        Ok(plan.to_import_plan())
    }

    /// Imports files into a table in one commit, and creates the table if it does not exist. Files
    /// that were imported before are skipped. After an error or a cancellation, or if the future is
    /// dropped, the branch is unchanged.
    pub async fn import(
        &self,
        request: &ImportRequest,
        progress: ProgressCallback,
        cancelled: CancellationToken,
    ) -> Result<ImportReport> {
        let checked = check(request)?;
        let mut attempt = 1;
        loop {
            // An attempt fails as stale if another commit created the table or imported one of the
            // files. In this case, plan again.
            match self.import_once(request, &checked, &progress, &cancelled).await {
                Err(error) if error.is_stale() && attempt < ATTEMPTS_MAX => attempt += 1,
                other => return other,
            }
        }
    }

    async fn import_once(
        &self,
        request: &ImportRequest,
        checked: &ValidRequest,
        progress: &ProgressCallback,
        cancelled: &CancellationToken,
    ) -> Result<ImportReport> {
        let plan = self.create_plan(request, checked, progress, cancelled).await?;
        let mut report = report_of(&plan);
        if plan.files.is_empty() {
            return Ok(report);
        }
        let branch = plan.view.branch().unwrap_or_default().to_owned();
        let mut transaction = Transaction::new(plan.view.clone(), &branch, &checked.author);
        set_creator(&mut transaction, self.creator.clone());
        if let Some(event) = &request.event {
            transaction.event(event);
        }
        let stage = ImportStage::Import;
        let meter = StageProgress::new(stage, &plan.files, progress.clone(), cancelled.clone());
        let done = Box::pin(self.transfer(&plan, checked, &mut transaction, &meter)).await?;
        let files =
            ImportedFiles { files: done.files, again: request.again, known: plan.imports.clone() };
        report.rows = done.staged.rows();
        report.rows_rejected = done.rejected;
        report.bytes_read = meter.bytes();
        report.memory_bytes_peak = done.staged.memory_bytes_peak() + done.waiting_bytes;
        transaction.append_import(&plan.table, done.staged, Some(files)).await?;
        meter.check()?;
        report.bytes_written = transaction.written().bytes_written;
        let noun = if report.files == 1 { "file" } else { "files" };
        let message = format!("import {} {noun} into {}", report.files, plan.table);
        report.commit = transaction.commit(&message).await?.map(|commit| commit.id);
        Ok(report)
    }

    /// Reads all files and writes their rows. A transaction that ends without a commit removes
    /// the written files.
    async fn transfer(
        &self,
        plan: &PreparedImport,
        checked: &ValidRequest,
        transaction: &mut Transaction,
        meter: &Arc<StageProgress>,
    ) -> Result<TransferResult> {
        prepare_table(plan, transaction).await?;
        let table = transaction.table(&plan.table).await?;
        let (rows, rows_received) = mpsc::channel(BATCHES_WAITING);
        let largest = Arc::new(AtomicU64::new(0));
        let (bad_rows, bad_rows_received) = mpsc::channel(BATCHES_WAITING);
        let now = self.lake.clock().now();
        let rejected = checked.reject.then(|| RejectedRows::new(bad_rows, now));
        let output = RowSink::new(rows, rejected);
        let reader = ReadTask::new(plan, checked, meter);
        let (read, written, noted) = tokio::join!(
            blocking(move || reader.read(output)),
            self.lake.tables().write(&table, to_stream(rows_received, largest.clone())),
            write_rejected(plan, transaction, bad_rows_received),
        );
        let (error, staged) = match (read, written, noted) {
            (Ok((files, rejected)), Ok(staged), Ok(())) => {
                // The batches in the queue, plus the batch that is being built.
                let batches = (BATCHES_WAITING + 1) as u64;
                let waiting_bytes = batches * largest.load(Ordering::Relaxed);
                return Ok(TransferResult { staged, files, rejected, waiting_bytes });
            }
            // If one thread fails only because the other thread ended, return the other thread's
            // error.
            (Err(error), written, _) if !error.is_internal() => (error, written.ok()),
            (_, written, Err(error)) => (error, written.ok()),
            (_, Err(error), Ok(())) => (error.into(), None),
            (Err(error), Ok(staged), Ok(())) => (error, Some(staged)),
        };
        if let Some(staged) = staged {
            self.lake.tables().discard(staged).await?;
        }
        Err(error)
    }
}

/// Result of reading the files and writing their rows.
struct TransferResult {
    staged: StagedFiles,
    files: Vec<ImportedFile>,
    rejected: u64,
    /// Approximate peak of the bytes of rows that were read but not yet written.
    waiting_bytes: u64,
}

fn report_of(plan: &PreparedImport) -> ImportReport {
    let new_columns = plan.new_columns();
    let added = if plan.existing.is_some() { new_columns } else { Vec::new() };
    ImportReport {
        table: plan.table.clone(),
        created_table: plan.existing.is_none(),
        commit: None,
        files: plan.files.len() as u64,
        files_skipped: plan.skipped.len() as u64,
        rows: 0,
        rows_rejected: 0,
        columns_added: added.iter().map(|field| field.name().clone()).collect(),
        columns_as_text: plan.columns_as_text(),
        columns_misspelt: plan.columns_misspelt(),
        bytes_read: 0,
        bytes_written: 0,
        memory_bytes_peak: 0,
    }
}

/// Creates the table, or adds the missing columns.
async fn prepare_table(plan: &PreparedImport, transaction: &mut Transaction) -> Result<()> {
    if plan.existing.is_none() {
        let (schema, partition) = (plan.schema.clone(), plan.partition.clone());
        return Ok(transaction.create(&plan.table, schema, partition, BTreeMap::new()).await?);
    }
    let columns = plan.new_columns();
    if !columns.is_empty() {
        transaction.add_columns(&plan.table, columns).await?;
    }
    Ok(())
}

/// Writes rejected rows. Creates the table for rejected rows when the first row arrives.
async fn write_rejected(
    plan: &PreparedImport,
    transaction: &mut Transaction,
    mut batches: Receiver<RecordBatch>,
) -> Result<()> {
    let Some(first) = batches.recv().await else { return Ok(()) };
    let name = rejected_name(&plan.table)?;
    if transaction.view().find(&name.namespace, &name.name).await?.is_none() {
        transaction.create(&name, rejected_schema(), Vec::new(), BTreeMap::new()).await?;
    }
    let rest = stream::unfold(batches, |mut batches| async move {
        batches.recv().await.map(|batch| (batch, batches))
    });
    let rows = stream::iter([first]).chain(rest).map(Ok).boxed();
    Ok(transaction.append(&name, rows).await?)
}

/// Returns the batches as a stream, and records the size of the largest one.
fn to_stream(
    received: Receiver<Result<RecordBatch, ArrowError>>,
    largest: Arc<AtomicU64>,
) -> BatchStream {
    stream::unfold((received, largest), |(mut received, largest)| async move {
        let batch = received.recv().await?;
        if let Ok(batch) = &batch {
            largest.fetch_max(batch.get_array_memory_size() as u64, Ordering::Relaxed);
        }
        Some((batch, (received, largest)))
    })
    .boxed()
}

/// Input of the thread that reads all files of a plan.
pub(crate) struct ReadTask {
    pub files: Vec<SourceFile>,
    pub schema: SchemaRef,
    /// The columns that a query reads; `None` for an import. For a query, files are not hashed, and
    /// only these columns of a Parquet file are read.
    pub columns: Option<Vec<usize>>,
    pub options: csv::CsvOptions,
    pub meter: Arc<StageProgress>,
}

impl ReadTask {
    fn new(plan: &PreparedImport, checked: &ValidRequest, meter: &Arc<StageProgress>) -> Self {
        ReadTask {
            files: plan.files.clone(),
            schema: plan.schema.clone(),
            columns: None,
            options: checked.csv.clone(),
            meter: meter.clone(),
        }
    }

    /// Reads the files in sequence, so that rows keep their order. Returns the files with their
    /// hashes, and the number of rejected rows.
    pub fn read(self, mut output: RowSink) -> Result<(Vec<ImportedFile>, u64)> {
        let mut files = Vec::with_capacity(self.files.len());
        let mut rows: Option<RowBuilder> = None;
        let result = self.read_all(&mut output, &mut rows, &mut files);
        // After a cancellation, return `Cancelled` instead of an error that the cancellation
        // caused.
        let result = self.meter.check().and(result);
        output.finish(result).map(|rejected| (files, rejected))
    }

    fn read_all(
        &self,
        output: &mut RowSink,
        rows: &mut Option<RowBuilder>,
        files: &mut Vec<ImportedFile>,
    ) -> Result<()> {
        let (mut coming, mut opened) = (self.files.iter(), VecDeque::new());
        for file in &self.files {
            self.meter.check()?;
            let ahead = if file.is_object() { OBJECTS_AHEAD } else { 1 };
            while opened.len() < ahead
                && let Some(file) = coming.next()
            {
                opened.push_back(self.open(file)?);
            }
            let Some(tap) = opened.pop_front() else { break };
            let hash = self.read_file(file, tap, output, rows);
            let hash = hash.map_err(|error| file.explain(error))?;
            files.push(ImportedFile::new(&file.identity, file.stamp, hash));
            self.meter.end_file();
        }
        match rows {
            Some(rows) if rows.len() > 0 => output.send(rows.take()?),
            _ => Ok(()),
        }
    }

    /// Opens a file for one sequential read; `None` for the Parquet file of a query, whose column
    /// chunks are read separately.
    fn open(&self, file: &SourceFile) -> Result<Option<CountingReader>> {
        match &self.columns {
            None => CountingReader::open_hashing(file, &self.meter).map(Some),
            Some(_) if file.format == FileFormat::Parquet => Ok(None),
            Some(_) => CountingReader::open(file, &self.meter).map(Some),
        }
    }

    /// Reads a file completely and returns its hash; zeros if the file is not hashed.
    fn read_file(
        &self,
        file: &SourceFile,
        tap: Option<CountingReader>,
        output: &mut RowSink,
        rows: &mut Option<RowBuilder>,
    ) -> Result<[u8; 16]> {
        let (options, meter) = (&self.options, &self.meter);
        if file.format == FileFormat::Parquet {
            let columns = self.columns.as_deref();
            parquet::read_rows(file, &self.schema, columns, output, meter)?;
        }
        let Some(mut tap) = tap else { return Ok([0; 16]) };
        if file.format == FileFormat::Parquet {
            // Read the rest of the file, because the hash covers the whole file.
        } else if file.format == FileFormat::Arrow {
            arrow_file::read_rows(file, &mut tap, &self.schema, output, meter)?;
        } else {
            // Rows of several small files share a batch.
            let rows = match rows {
                Some(rows) => rows,
                None => rows.insert(RowBuilder::new(&self.schema, &file.name)?),
            };
            if file.format == FileFormat::Csv {
                csv::read_rows(file, &mut tap, options, rows, output, meter)?;
            } else {
                ndjson::read_rows(file, &mut tap, options.encoding, rows, output, meter)?;
            }
        }
        Ok(tap.finish(file)?.hash)
    }
}
