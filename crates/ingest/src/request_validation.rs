//! Validation of an import request, before any file is opened.

use std::collections::BTreeMap;

use arrow::datatypes::DataType;
use headwater_lake::CommitView;
use headwater_model::{ImportRequest, OnError, RefSpec, TableName, name};
use headwater_tables::parse_type;

use super::csv::CsvOptions;
use super::csv_header::ColumnIndex;
use super::text_encoding::encoding_of;
use super::value_formats::{DateFormat, ValueFormats};
use crate::error::{Error, Result};
use crate::importer::Importer;

/// Default author of an import.
const AUTHOR: &str = "headwater";

/// A validated request.
#[derive(Debug, Clone)]
pub(crate) struct ValidRequest {
    pub table: TableName,
    pub reference: RefSpec,
    pub csv: CsvOptions,
    /// The declared types, and their index by name.
    pub types: Vec<(String, DataType)>,
    pub type_index: ColumnIndex,
    pub reject: bool,
    pub author: String,
}

pub(crate) fn check(request: &ImportRequest) -> Result<ValidRequest> {
    let table: TableName = request.table.parse()?;
    if name::is_system(&table.namespace) {
        let name = table.namespace;
        return Err(headwater_catalog::Error::ReservedNamespace { name }.into());
    }
    if request.sources.is_empty() {
        return Err(Error::InvalidRequest {
            message: "no file given".to_owned(),
            hint: "Name files, folders or globs to import.",
        });
    }
    let types = check_types(&request.types)?;
    let type_index = ColumnIndex::new(types.iter().map(|(name, _)| name.as_str()));
    let csv = CsvOptions {
        delimiter: request.delimiter.map(check_delimiter).transpose()?,
        header: request.header.unwrap_or(true),
        encoding: request.encoding.as_deref().map(encoding_of).transpose()?,
        nulls: request.nulls.clone(),
        reading: ValueFormats {
            dates: request.date_format.as_deref().map(DateFormat::parse).transpose()?,
            decimal_comma: request.decimal_comma,
        },
    };
    Ok(ValidRequest {
        table,
        reference: request.reference.clone().unwrap_or_else(RefSpec::main),
        csv,
        types,
        type_index,
        reject: request.on_error == OnError::Reject,
        author: request.author.clone().unwrap_or_else(|| AUTHOR.to_owned()),
    })
}

fn check_types(types: &BTreeMap<String, String>) -> Result<Vec<(String, DataType)>> {
    let parse = |(name, text): (&String, &String)| Ok((name.clone(), parse_type(text)?));
    types.iter().map(parse).collect()
}

fn check_delimiter(delimiter: char) -> Result<u8> {
    match u8::try_from(delimiter) {
        Ok(byte) if byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r' | 0) => Ok(byte),
        _ => Err(Error::InvalidRequest {
            message: format!("`{}` cannot be a delimiter", delimiter.escape_default()),
            hint: "Use a single ASCII character such as `,`, `;`, `|` or a tab.",
        }),
    }
}

impl Importer {
    /// Returns the current state of the target branch and checks that imports may write to it.
    pub(crate) async fn import_target(
        &self,
        request: &ValidRequest,
        writes: bool,
    ) -> Result<CommitView> {
        let view = self.lake().view(&request.reference).await?;
        let Some(branch) = view.branch() else {
            let reference = request.reference.to_string();
            return Err(headwater_lake::Error::NotABranch { reference }.into());
        };
        if writes && self.lake().catalog().branch(branch).await?.protected {
            let branch = branch.to_owned();
            return Err(headwater_catalog::Error::Protected { branch }.into());
        }
        view.check_namespace(&request.table.namespace).await?;
        Ok(view)
    }
}
