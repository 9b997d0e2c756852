//! What an import would do: which files, which columns, which types, and why.

use std::collections::HashSet;
use std::io::Read;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use futures::{StreamExt, stream};
use headwater_model::{
    ImportColumn, ImportFile, ImportPlan, ImportRequest, PartitionField, TableName,
};
use headwater_tables::{Table, type_name};
use tokio_util::sync::CancellationToken;

use super::evidence::Evidence;
use super::header::{NameIndex, places};
use super::infer::{FileColumns, InferOptions, check_count, infer_file};
use super::meter::{ImportStage, Meter, Progress, Tap};
use super::parquet;
use super::request::Checked;
use super::source::{SourceFile, discover};
use super::state::{IMPORTS_KEY, Imported};
use crate::error::{Error, Result};
use crate::lake::Lake;
use crate::name::nearest;
use crate::view::View;

/// An import ready to be carried out.
pub(crate) struct Plan {
    pub view: View,
    pub table: TableName,
    /// The table as it is; none where the import makes it.
    pub existing: Option<Table>,
    /// What the table's snapshot said of imported files.
    pub imports: Option<String>,
    pub files: Vec<SourceFile>,
    pub skipped: Vec<String>,
    /// The columns the table will have.
    pub schema: SchemaRef,
    /// How many of them it has already.
    pub columns_existing: usize,
    pub partition: Vec<PartitionField>,
    reasons: Vec<String>,
}

impl Plan {
    /// The plan as it is shown.
    pub fn to_answer(&self) -> ImportPlan {
        let file = |file: &SourceFile| ImportFile {
            path: file.name.clone(),
            bytes: file.stamp.bytes,
            format: file.format,
        };
        let column = |(at, (field, reason)): (usize, (&Arc<Field>, &String))| ImportColumn {
            name: field.name().clone(),
            data_type: type_name(field.data_type()),
            exists: at < self.columns_existing,
            reason: reason.clone(),
        };
        let columns = self.schema.fields().iter().zip(&self.reasons).enumerate();
        ImportPlan {
            table: self.table.clone(),
            creates_table: self.existing.is_none(),
            files: self.files.iter().map(file).collect(),
            skipped: self.skipped.clone(),
            columns: columns.map(column).collect(),
        }
    }

    /// The columns that the table does not have yet.
    pub fn new_columns(&self) -> Vec<Field> {
        self.schema.fields()[self.columns_existing..].iter().map(|f| f.as_ref().clone()).collect()
    }
}

impl Lake {
    /// Lists the files, leaves out those imported before, and reads the others for their columns.
    pub(crate) async fn make_plan(
        &self,
        request: &ImportRequest,
        checked: &Checked,
        progress: &Progress,
        cancelled: &CancellationToken,
    ) -> Result<Plan> {
        let view = self.import_target(checked, !request.dry_run).await?;
        let (sources, format) = (request.sources.clone(), request.format);
        let files = blocking(move || discover(&sources, format)).await?;
        let found = view.find(&checked.table.namespace, &checked.table.name).await?;
        let (table, existing) = match found {
            Some((name, table)) => (name, Some(table)),
            None => (checked.table.clone(), None),
        };
        let imports = existing.as_ref().and_then(|t| t.summary().get(IMPORTS_KEY).cloned());
        let (files, skipped) = if request.again {
            (files, Vec::new())
        } else {
            let imported =
                Imported::load(self.store().as_ref(), &table, imports.as_deref()).await?;
            blocking(move || skip_imported(files, &imported)).await?
        };
        let mut columns = Columns::new(existing.as_ref(), checked);
        if !files.is_empty() {
            let options = columns.infer_options(checked);
            self.gather(&files, options, progress, cancelled, &mut columns).await?;
        }
        let partition = columns.partition(request, existing.as_ref())?;
        let columns_existing = columns.existing;
        let (schema, reasons) = columns.resolve(&files)?;
        Ok(Plan {
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
        })
    }

    /// Reads files side by side, and takes what they show in their order.
    async fn gather(
        &self,
        files: &[SourceFile],
        options: InferOptions,
        progress: &Progress,
        cancelled: &CancellationToken,
        columns: &mut Columns<'_>,
    ) -> Result<()> {
        let stage = ImportStage::InferSchema;
        let meter = Meter::new(stage, files, progress.clone(), cancelled.clone());
        let options = Arc::new(options);
        let infer = |file: SourceFile| {
            let (options, meter) = (options.clone(), meter.clone());
            blocking(move || infer_file(&file, &options, &meter).map(|found| (file, found)))
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

/// Runs work that reads files on a thread of its own.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Internal { message: format!("a reader ended: {error}") }),
    }
}

/// Parts files from those that were imported before.
fn skip_imported(
    files: Vec<SourceFile>,
    imported: &Imported,
) -> Result<(Vec<SourceFile>, Vec<String>)> {
    let mut fresh = Vec::new();
    let mut skipped = Vec::new();
    for file in files {
        let known = imported.is_untouched(&file)
            || imported.knows(&file) && imported.has(&file.identity, &hex::encode(hash_of(&file)?));
        if known {
            skipped.push(file.name);
        } else {
            fresh.push(file);
        }
    }
    Ok((fresh, skipped))
}

fn hash_of(file: &SourceFile) -> Result<[u8; 16]> {
    let none: Progress = Arc::new(|_| {});
    let meter = Meter::new(ImportStage::InferSchema, &[], none, CancellationToken::new());
    let mut tap = Tap::open(file, &meter)?;
    let fail = |error| Error::File { file: file.name.clone(), source: error };
    let mut buffer = vec![0; 256 * 1024];
    while tap.read(&mut buffer).map_err(fail)? > 0 {}
    Ok(tap.finish(file)?.hash)
}

/// The columns of the table and of all files, as they are gathered.
struct Columns<'a> {
    request: &'a Checked,
    fields: Vec<Arc<Field>>,
    existing: usize,
    names: Vec<String>,
    evidence: Vec<Evidence>,
    index: NameIndex,
}

impl<'a> Columns<'a> {
    fn new(table: Option<&Table>, request: &'a Checked) -> Self {
        let fields: Vec<Arc<Field>> =
            table.map_or_else(Vec::new, |table| table.schema().fields().to_vec());
        let names: Vec<String> = fields.iter().map(|field| field.name().clone()).collect();
        let index = NameIndex::new(names.iter().map(String::as_str));
        let evidence = fields.iter().map(|_| Evidence::known()).collect();
        Columns { request, existing: fields.len(), fields, names, evidence, index }
    }

    fn infer_options(&self, request: &Checked) -> InferOptions {
        InferOptions {
            csv: request.csv.clone(),
            table: self.index.clone(),
            declared: request.type_index.clone(),
            reject: request.reject,
        }
    }

    fn declared(&self, name: &str) -> Option<&arrow::datatypes::DataType> {
        let place = self.request.type_index.get(name)?;
        self.request.types.get(place).map(|(_, data_type)| data_type)
    }

    fn add_file(&mut self, file: &SourceFile, found: FileColumns) -> Result<()> {
        let names: Vec<String> = found.columns.iter().map(|(name, _)| name.clone()).collect();
        let places = places(&names, &self.index);
        for (at, ((name, evidence), place)) in found.columns.into_iter().zip(places).enumerate() {
            let place = place.unwrap_or_else(|| self.add_column(name));
            if let Some(stored) = found.stored.as_ref().and_then(|fields| fields.get(at)) {
                self.check_stored(stored, place, file)?;
            }
            if place >= self.existing && !self.evidence[place].merge(evidence) {
                return Err(self.conflict(place, file));
            }
        }
        check_count(self.names.len())
    }

    fn add_column(&mut self, name: String) -> usize {
        let place = self.names.len();
        self.index.insert(&name, place);
        self.names.push(name);
        self.evidence.push(Evidence::default());
        place
    }

    /// Checks a column of a file that knows its types against a type that is settled.
    fn check_stored(&self, found: &Field, place: usize, file: &SourceFile) -> Result<()> {
        if let Some(field) = self.fields.get(place) {
            return parquet::check_column(found, field, false, file);
        }
        let name = &self.names[place];
        match self.declared(name) {
            Some(data_type) => {
                let field = Field::new(name, data_type.clone(), true);
                parquet::check_column(found, &field, true, file)
            }
            None => Ok(()),
        }
    }

    fn conflict(&self, place: usize, file: &SourceFile) -> Error {
        Error::TypeConflict {
            column: self.names[place].clone(),
            found: "another type".to_owned(),
            expected: "nested".to_owned(),
            file: file.name.clone(),
        }
    }

    /// The partition fields, their columns as the files write them.
    fn partition(
        &self,
        request: &ImportRequest,
        table: Option<&Table>,
    ) -> Result<Vec<PartitionField>> {
        if let Some(table) = table {
            let current = table.partition();
            if !request.partition.is_empty() && request.partition != current {
                return Err(Error::InvalidRequest {
                    message: format!("table `{}` has other partition fields", request.table),
                    hint: "Leave the partition out: it is chosen when a table is made.",
                });
            }
            return Ok(current);
        }
        let named = |field: &PartitionField| match self.index.get(&field.column) {
            Some(place) => {
                Ok(PartitionField { column: self.names[place].clone(), transform: field.transform })
            }
            None => Err(self.not_found(&field.column)),
        };
        request.partition.iter().map(named).collect()
    }

    fn not_found(&self, column: &str) -> Error {
        let near = nearest(column, self.names.iter().map(String::as_str)).map(str::to_owned);
        Error::ColumnNotFound { column: column.to_owned(), near }
    }

    /// The schema, and why each column has its type.
    fn resolve(self, files: &[SourceFile]) -> Result<(SchemaRef, Vec<String>)> {
        let used: HashSet<usize> =
            self.names.iter().filter_map(|name| self.request.type_index.get(name)).collect();
        for (place, (name, _)) in self.request.types.iter().enumerate() {
            if !used.contains(&place) && !files.is_empty() {
                return Err(self.not_found(name));
            }
        }
        if self.names.is_empty() {
            let file = files.first().map(|file| file.name.clone()).unwrap_or_default();
            let note = Some("The files are empty: name one that has columns.");
            return Err(Error::NoFiles { path: file, note });
        }
        let mut fields = Vec::new();
        let mut reasons = Vec::new();
        for (place, name) in self.names.iter().enumerate() {
            let (field, reason) = self.resolve_column(place, name, files)?;
            fields.push(field);
            reasons.push(reason);
        }
        Ok((Arc::new(Schema::new(fields)), reasons))
    }

    fn resolve_column(
        &self,
        place: usize,
        name: &str,
        files: &[SourceFile],
    ) -> Result<(Arc<Field>, String)> {
        let declared = self.declared(name);
        if let Some(field) = self.fields.get(place) {
            return match declared {
                Some(declared) if declared != field.data_type() => Err(Error::TypeFixed {
                    column: name.to_owned(),
                    existing: type_name(field.data_type()),
                    declared: type_name(declared),
                }),
                _ => Ok((field.clone(), "table".to_owned())),
            };
        }
        if let Some(declared) = declared {
            return Ok((Arc::new(Field::new(name, declared.clone(), true)), "declared".to_owned()));
        }
        let resolved = match (self.evidence[place].resolve(), files.first()) {
            (Some(resolved), _) => resolved,
            (None, Some(file)) => return Err(self.conflict(place, file)),
            (None, None) => return Err(self.not_found(name)),
        };
        Ok((Arc::new(Field::new(name, resolved.data_type, true)), resolved.reason))
    }
}
