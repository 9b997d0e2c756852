//! Plans an import: the files, the columns, their types and the reasons for the types.

use std::io::Read;
use std::sync::Arc;

use arrow::datatypes::{Field, SchemaRef};
use futures::{StreamExt, stream};
use headwater_lake::{CommitView, IMPORTS_KEY, ImportedFileMap};
use headwater_model::{
    ImportColumn, ImportFile, ImportPlan, ImportRequest, PartitionField, TableName,
};
use headwater_tables::{Table, type_name};
use tokio_util::sync::CancellationToken;

use super::cloud_object::CloudStores;
use super::column_types::{ImportColumns, TypeReason};
use super::file_columns::{InferOptions, infer_file};
use super::progress::{CountingReader, ImportStage, ProgressCallback, StageProgress};
use super::request_validation::ValidRequest;
use super::source::{SourceFile, discover};
use crate::error::{Error, Result};
use crate::importer::Importer;

/// An import that is ready to run.
pub(crate) struct PreparedImport {
    pub view: CommitView,
    pub table: TableName,
    /// The table's current state; `None` if the import creates it.
    pub existing: Option<Table>,
    /// The table's list of the files that were imported before, from its current snapshot.
    pub imports: Option<String>,
    pub files: Vec<SourceFile>,
    pub skipped: Vec<String>,
    /// The columns of the table after the import.
    pub schema: SchemaRef,
    /// Number of columns that the table already has.
    pub columns_existing: usize,
    pub partition: Vec<PartitionField>,
    reasons: Vec<TypeReason>,
}

impl PreparedImport {
    /// Returns the plan for display.
    pub fn to_import_plan(&self) -> ImportPlan {
        let file = |file: &SourceFile| ImportFile {
            path: file.name.clone(),
            bytes: file.stamp.bytes,
            format: file.format,
        };
        ImportPlan {
            table: self.table.clone(),
            creates_table: self.existing.is_none(),
            files: self.files.iter().map(file).collect(),
            skipped: self.skipped.clone(),
            columns: self.columns().collect(),
        }
    }

    /// Returns the table's columns for display.
    fn columns(&self) -> impl Iterator<Item = ImportColumn> {
        let columns = self.schema.fields().iter().zip(&self.reasons).enumerate();
        columns.map(|(at, (field, because))| ImportColumn {
            name: field.name().clone(),
            data_type: type_name(field.data_type()),
            exists: at < self.columns_existing,
            reason: because.reason.clone(),
            hint: because.hint.clone(),
            similar_to: because.similar_to.clone(),
        })
    }

    /// Returns the new columns that became text although another type was probably intended.
    pub fn columns_as_text(&self) -> Vec<ImportColumn> {
        self.columns().filter(|column| column.hint.is_some()).collect()
    }

    /// Returns the new columns whose names are probably misspelt.
    pub fn columns_misspelt(&self) -> Vec<ImportColumn> {
        self.columns().filter(|column| column.similar_to.is_some()).collect()
    }

    /// Returns the columns that the table does not have yet.
    pub fn new_columns(&self) -> Vec<Field> {
        self.schema.fields()[self.columns_existing..].iter().map(|f| f.as_ref().clone()).collect()
    }
}

impl Importer {
    /// Lists the files, skips files that were imported before, and reads the remaining files to
    /// determine their columns.
    pub(crate) async fn create_plan(
        &self,
        request: &ImportRequest,
        checked: &ValidRequest,
        progress: &ProgressCallback,
        cancelled: &CancellationToken,
    ) -> Result<PreparedImport> {
        let view = self.import_target(checked, !request.dry_run).await?;
        let (sources, format) = (request.sources.clone(), request.format);
        let cloud = self.lake().tables().options().cloud.clone();
        let clouds = CloudStores::new(cloud, self.buckets.clone());
        let private = self.private.as_ref().map(|files| files.resolve(self.lake()));
        let files = blocking(move || discover(&sources, format, clouds, private)).await?;
        let found = view.find(&checked.table.namespace, &checked.table.name).await?;
        let (table, existing) = match found {
            Some((name, table)) => (name, Some(table)),
            None => (checked.table.clone(), None),
        };
        self.authorizer.check_rows(&table, &view).await?;
        let imports = existing.as_ref().and_then(|t| t.summary().get(IMPORTS_KEY).cloned());
        let (files, skipped) = if request.again {
            (files, Vec::new())
        } else {
            let imported =
                ImportedFileMap::load(self.lake().store().as_ref(), &table, imports.as_deref())
                    .await?;
            blocking(move || skip_imported(files, &imported)).await?
        };
        let mut columns = ImportColumns::new(existing.as_ref(), checked);
        if !files.is_empty() {
            let options = columns.infer_options(checked);
            self.gather(&files, options, progress, cancelled, &mut columns).await?;
        }
        let partition = columns.partition(request, existing.as_ref())?;
        let columns_existing = columns.existing();
        let (schema, reasons) = columns.resolve(&files)?;
        let plan = PreparedImport {
            view,
            table,
            existing,
            imports,
            files,
            skipped,
            schema,
            columns_existing,
            partition,
            reasons,
        };
        self.authorizer.check_plan(&plan, checked).await?;
        Ok(plan)
    }

    /// Reads files in parallel and merges their columns in file order.
    pub(crate) async fn gather(
        &self,
        files: &[SourceFile],
        options: InferOptions,
        progress: &ProgressCallback,
        cancelled: &CancellationToken,
        columns: &mut ImportColumns<'_>,
    ) -> Result<()> {
        let stage = ImportStage::InferSchema;
        let (progress, cancelled) = (progress.clone(), cancelled.clone());
        let read = options.read.clone();
        let meter = StageProgress::counting(stage, files, progress, cancelled, read);
        let options = Arc::new(options);
        let infer = |file: SourceFile| {
            let (options, meter) = (options.clone(), meter.clone());
            blocking(move || match infer_file(&file, &options, &meter) {
                Ok(found) => Ok((file, found)),
                Err(error) => Err(file.explain(error)),
            })
        };
        let threads = std::thread::available_parallelism().map_or(2, usize::from).min(8);
        let mut found = stream::iter(files.to_vec()).map(infer).buffered(threads);
        while let Some(result) = found.next().await {
            let (file, found) = result?;
            columns.add_file(&file, found)?;
        }
        Ok(())
    }
}

/// Runs blocking file work on a separate thread.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Internal { message: format!("a reader thread failed: {error}") }),
    }
}

/// Separates new files from files that were imported before. Returns the new files, and the names
/// of the others.
fn skip_imported(
    files: Vec<SourceFile>,
    imported: &ImportedFileMap,
) -> Result<(Vec<SourceFile>, Vec<String>)> {
    let mut fresh = Vec::new();
    let mut skipped = Vec::new();
    for file in files {
        let known = imported.is_untouched(&file.identity, file.stamp)
            || imported.has_path(&file.identity)
                && imported.has(&file.identity, &hex::encode(hash_of(&file)?));
        if known {
            skipped.push(file.name);
        } else {
            fresh.push(file);
        }
    }
    Ok((fresh, skipped))
}

fn hash_of(file: &SourceFile) -> Result<[u8; 16]> {
    hash_all(file).map_err(|error| file.explain(error))
}

fn hash_all(file: &SourceFile) -> Result<[u8; 16]> {
    let none: ProgressCallback = Arc::new(|_| {});
    let meter = StageProgress::new(ImportStage::InferSchema, &[], none, CancellationToken::new());
    let mut tap = CountingReader::open_hashing(file, &meter)?;
    let fail = |error| Error::File { file: file.name.clone(), source: error };
    let mut buffer = vec![0; 256 * 1024];
    while tap.read(&mut buffer).map_err(fail)? > 0 {}
    Ok(tap.finish(file)?.hash)
}
