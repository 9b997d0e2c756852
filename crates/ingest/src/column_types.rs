//! The columns of a table and of all files imported into it, and their types.
//!
//! Columns match by name: exactly, or else case-insensitively. A type from the table and a declared
//! type are fixed. Every other column gets the narrowest type that holds its values in all files.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use headwater_model::{ImportRequest, PartitionField, nearest};
use headwater_tables::{Table, type_name};

use super::csv_header::{ColumnIndex, map_columns};
use super::file_columns::{FileColumns, InferOptions, check_count};
use super::parquet;
use super::progress::ByteCounter;
use super::request_validation::ValidRequest;
use super::source::SourceFile;
use super::type_inference::ColumnStatistics;
use crate::error::{Error, Result};

/// The reason for a column's type, and hints about the column.
#[derive(Debug, Clone)]
pub(crate) struct TypeReason {
    pub reason: String,
    /// The hint, if another type was probably intended.
    pub hint: Option<String>,
    /// For a new column whose name may be misspelt: the table's column with a similar name, which
    /// no imported file has.
    pub similar_to: Option<String>,
}

impl TypeReason {
    fn plain(reason: &str) -> Self {
        TypeReason { reason: reason.to_owned(), hint: None, similar_to: None }
    }
}

/// The columns of the table, and new columns of the files read so far.
pub(crate) struct ImportColumns<'a> {
    request: &'a ValidRequest,
    fields: Vec<Arc<Field>>,
    existing: usize,
    /// The indexes of the table's columns that at least one file has.
    present: HashSet<usize>,
    names: Vec<String>,
    evidence: Vec<ColumnStatistics>,
    index: ColumnIndex,
}

impl<'a> ImportColumns<'a> {
    pub fn new(table: Option<&Table>, request: &'a ValidRequest) -> Self {
        let fields: Vec<Arc<Field>> =
            table.map_or_else(Vec::new, |table| table.schema().fields().to_vec());
        let names: Vec<String> = fields.iter().map(|field| field.name().clone()).collect();
        let index = ColumnIndex::new(names.iter().map(String::as_str));
        let evidence = fields.iter().map(|_| ColumnStatistics::known()).collect();
        let (existing, present) = (fields.len(), HashSet::new());
        ImportColumns { request, fields, existing, present, names, evidence, index }
    }

    /// Returns the number of columns that the table already has.
    pub fn existing(&self) -> usize {
        self.existing
    }

    /// Returns the options for inferring the columns of the files.
    pub fn infer_options(&self, request: &ValidRequest) -> InferOptions {
        InferOptions {
            csv: request.csv.clone(),
            table: self.index.clone(),
            declared: request.type_index.clone(),
            reject: request.reject,
            rows_max: None,
            read: ByteCounter::default(),
        }
    }

    fn declared(&self, name: &str) -> Option<&DataType> {
        let place = self.request.type_index.get(name)?;
        self.request.types.get(place).map(|(_, data_type)| data_type)
    }

    /// Adds the columns of a file to the columns of the previous files.
    pub fn add_file(&mut self, file: &SourceFile, found: FileColumns) -> Result<()> {
        let names: Vec<String> = found.columns.iter().map(|(name, _)| name.clone()).collect();
        let places = map_columns(&names, &self.index);
        for (at, ((name, evidence), place)) in found.columns.into_iter().zip(places).enumerate() {
            let place = place.unwrap_or_else(|| self.add_column(name));
            if let Some(stored) = found.stored.as_ref().and_then(|fields| fields.get(at)) {
                self.check_stored(stored, place, file)?;
            }
            if place < self.existing {
                self.present.insert(place);
            } else if !self.evidence[place].merge(evidence) {
                return Err(self.conflict(place, file));
            }
        }
        check_count(self.names.len())
    }

    fn add_column(&mut self, name: String) -> usize {
        let place = self.names.len();
        self.index.insert(&name, place);
        self.names.push(name);
        self.evidence.push(ColumnStatistics::default());
        place
    }

    /// Checks that a column of a Parquet or Arrow file can be converted to column `place`, if this
    /// column has a fixed type: it exists in the table, or the request declares its type.
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

    /// Returns the table's partition fields, or the requested fields for a new table. Requested
    /// columns get the names that the table or the files have, which can differ in case.
    pub fn partition(
        &self,
        request: &ImportRequest,
        table: Option<&Table>,
    ) -> Result<Vec<PartitionField>> {
        let named = |field: &PartitionField| match self.index.get(&field.column) {
            Some(place) => {
                Ok(PartitionField { column: self.names[place].clone(), transform: field.transform })
            }
            None => Err(self.not_found(&field.column)),
        };
        let wanted: Vec<_> = request.partition.iter().map(named).collect::<Result<_>>()?;
        match table.map(Table::partition) {
            None => Ok(wanted),
            Some(current) if wanted.is_empty() || wanted == current => Ok(current),
            Some(_) => Err(Error::InvalidRequest {
                message: format!(
                    "the requested partition is not the partition of table `{}`",
                    request.table
                ),
                hint: "Omit the partition: it can be set only when a table is created.",
            }),
        }
    }

    fn not_found(&self, column: &str) -> Error {
        let near = nearest(column, self.names.iter().map(String::as_str));
        Error::ColumnNotFound { column: column.to_owned(), near }
    }

    /// Returns the schema, and the reason for each column's type.
    pub fn resolve(self, files: &[SourceFile]) -> Result<(SchemaRef, Vec<TypeReason>)> {
        let used: HashSet<usize> =
            self.names.iter().filter_map(|name| self.request.type_index.get(name)).collect();
        for (place, (name, _)) in self.request.types.iter().enumerate() {
            if !used.contains(&place) && !files.is_empty() {
                return Err(self.not_found(name));
            }
        }
        if self.names.is_empty() {
            let file = files.first().map(|file| file.name.clone()).unwrap_or_default();
            let empty = files.iter().all(|file| file.stamp.bytes == 0);
            return Err(Error::NoColumns { file, more: files.len().saturating_sub(1), empty });
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

    /// Returns the table's column with a name similar to that of a new column, if no file has this
    /// column: the new name is then probably misspelt.
    fn similar_to(&self, name: &str) -> Option<String> {
        let existing = self.names.iter().take(self.existing).enumerate();
        let missing = existing.filter(|(place, _)| !self.present.contains(place));
        nearest(name, missing.map(|(_, name)| name.as_str()))
    }

    fn resolve_column(
        &self,
        place: usize,
        name: &str,
        files: &[SourceFile],
    ) -> Result<(Arc<Field>, TypeReason)> {
        let declared = self.declared(name);
        if let Some(field) = self.fields.get(place) {
            return match declared {
                Some(declared) if declared != field.data_type() => Err(Error::TypeFixed {
                    column: name.to_owned(),
                    existing: type_name(field.data_type()),
                    declared: type_name(declared),
                }),
                _ => Ok((field.clone(), TypeReason::plain("table"))),
            };
        }
        if let Some(declared) = declared {
            let field = Arc::new(Field::new(name, declared.clone(), true));
            return Ok((field, TypeReason::plain("declared")));
        }
        let resolved = match (self.evidence[place].resolve(), files.first()) {
            (Some(resolved), _) => resolved,
            (None, Some(file)) => return Err(self.conflict(place, file)),
            (None, None) => return Err(self.not_found(name)),
        };
        let hint = resolved.hint.map(|hint| hint.replace("COLUMN", name));
        let similar_to = self.similar_to(name);
        let because = TypeReason { reason: resolved.reason, hint, similar_to };
        Ok((Arc::new(Field::new(name, resolved.data_type, true)), because))
    }
}
