//! The format of a response, selected by `Accept`.

use headwater_model::{ErrorCode, FileFormat, Problem};
use hyper::HeaderMap;
use hyper::header::ACCEPT;

/// The format of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Arrow's IPC stream.
    Arrow,
    /// An array of objects, one per row.
    Json,
    /// One object per line.
    Ndjson,
    /// Comma-separated values with a header line.
    Csv,
    /// A Parquet file.
    Parquet,
}

impl Format {
    const ALL: [Format; 5] =
        [Format::Json, Format::Arrow, Format::Ndjson, Format::Csv, Format::Parquet];

    /// Returns the media type.
    pub const fn media_type(self) -> &'static str {
        match self {
            Format::Arrow => "application/vnd.apache.arrow.stream",
            Format::Json => "application/json",
            Format::Ndjson => "application/x-ndjson",
            Format::Csv => "text/csv",
            Format::Parquet => "application/vnd.apache.parquet",
        }
    }

    /// Returns the first supported format in `Accept`; JSON by default.
    pub fn accepted(headers: &HeaderMap) -> Result<Self, Problem> {
        let given: Vec<_> =
            headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok()).collect();
        if given.is_empty() {
            return Ok(Format::Json);
        }
        let wanted = given.iter().flat_map(|value| value.split(','));
        let essence = |item: &str| item.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
        wanted.map(essence).find_map(|item| Format::matching(&item)).ok_or_else(|| {
            let known = Format::ALL.map(|format| format!("`{}`", format.media_type())).join(", ");
            let message = format!("the format `{}` is not supported", given.join(", "));
            Problem::new(ErrorCode::InvalidArgument, message)
                .with_hint(format!("Set the `Accept` header to one of {known}."))
        })
    }

    fn matching(item: &str) -> Option<Self> {
        match item {
            "*/*" | "application/*" => Some(Format::Json),
            "text/*" => Some(Format::Csv),
            "application/x-parquet" | "application/parquet" => Some(Format::Parquet),
            "application/ndjson" | "application/jsonl" => Some(Format::Ndjson),
            _ => Format::ALL.into_iter().find(|format| format.media_type() == item),
        }
    }
}

impl From<FileFormat> for Format {
    fn from(format: FileFormat) -> Self {
        match format {
            FileFormat::Arrow => Format::Arrow,
            FileFormat::Ndjson => Format::Ndjson,
            FileFormat::Csv => Format::Csv,
            FileFormat::Parquet => Format::Parquet,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(accept: &str, expected: Option<Format>) {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().expect("a header"));
        assert_eq!(Format::accepted(&headers).ok(), expected, "{accept}");
    }

    #[test]
    fn accept_selects_the_format() {
        check("*/*", Some(Format::Json));
        check("text/csv", Some(Format::Csv));
        check("Application/X-NDJSON; charset=utf-8", Some(Format::Ndjson));
        check("application/vnd.apache.arrow.stream, */*", Some(Format::Arrow));
        check("text/html, application/json;q=0.9", Some(Format::Json));
        check("application/vnd.apache.parquet", Some(Format::Parquet));
        check("image/png", None);
        assert_eq!(Format::accepted(&HeaderMap::new()), Ok(Format::Json));
    }
}
