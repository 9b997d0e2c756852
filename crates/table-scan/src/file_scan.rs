//! The source of the files of a scan.

use std::sync::Arc;

use datafusion::datasource::physical_plan::{FileSource, ParquetSource};

use crate::decoded_source::DecodedSource;
use crate::scan_environment::ScanEnvironment;

/// Returns the source of files for a scan, with the cache of decoded columns if the scan can use
/// it. A scan for a statement that changes rows filters the rows while it decodes them, and does
/// not use the cache.
pub(crate) fn file_source(
    environment: &ScanEnvironment,
    source: ParquetSource,
    changes_rows: bool,
) -> Arc<dyn FileSource> {
    match &environment.decoded {
        Some(cache) if !changes_rows => {
            let reader = Arc::clone(&environment.reader);
            Arc::new(DecodedSource::new(source, cache.clone(), reader))
        }
        _ => Arc::new(source),
    }
}

/// Returns the Parquet source of a scan, if the scan reads Parquet files.
pub fn parquet_source(source: &Arc<dyn FileSource>) -> Option<&ParquetSource> {
    match source.downcast_ref::<DecodedSource>() {
        Some(decoded) => decoded.plain.downcast_ref(),
        None => source.downcast_ref(),
    }
}
