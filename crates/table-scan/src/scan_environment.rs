//! The components that all scans of an engine share.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::datasource::physical_plan::ParquetFileReaderFactory;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use headwater_tables::Tables;

use crate::cached_reader::CachedReaderFactory;
use crate::column_cache::ColumnCache;
use crate::decoded_cache::DecodedCache;

/// URL of the lake's object store inside the engine.
const STORE_URL: &str = "headwater://lake";

/// The components that all scans of an engine share.
#[derive(Debug, Clone)]
pub struct ScanEnvironment {
    /// URL under which the object store is registered in the runtime.
    pub(crate) url: ObjectStoreUrl,
    /// The reader of Parquet files, with the cache of their footers.
    pub(crate) reader: Arc<dyn ParquetFileReaderFactory>,
    /// The reader that also uses the cache of scanned columns.
    cached: Arc<dyn ParquetFileReaderFactory>,
    /// The cache of decoded columns; `None` if the scans do not use it.
    pub(crate) decoded: Option<DecodedCache>,
    /// The tables, from which delete files are read.
    pub(crate) tables: Tables,
}

impl ScanEnvironment {
    /// Creates the environment of a lake's tables, and registers their object store in the runtime.
    /// `column_cache_bytes` is the memory limit of the cache of scanned columns, which only runs
    /// use. `decoded` is the cache of decoded columns, which all other statements use.
    pub fn new(
        runtime: &RuntimeEnv,
        tables: Tables,
        column_cache_bytes: u64,
        decoded: DecodedCache,
    ) -> Result<Self> {
        let url = ObjectStoreUrl::parse(STORE_URL)?;
        let store = Arc::clone(tables.object_store());
        runtime.register_object_store(url.as_ref(), Arc::clone(&store));
        let footers = runtime.cache_manager.get_file_metadata_cache();
        let reader: Arc<dyn ParquetFileReaderFactory> =
            Arc::new(CachedParquetFileReaderFactory::new(Arc::clone(&store), footers));
        let columns = ColumnCache::new(column_cache_bytes);
        let cached = CachedReaderFactory { footers: Arc::clone(&reader), store, columns };
        let decoded = decoded.is_enabled().then_some(decoded);
        Ok(ScanEnvironment { url, reader, cached: Arc::new(cached), decoded, tables })
    }

    /// Returns the same environment for scans that use the cache of scanned columns, and not the
    /// cache of decoded columns.
    #[must_use]
    pub fn with_column_cache(&self) -> Self {
        ScanEnvironment { reader: Arc::clone(&self.cached), decoded: None, ..self.clone() }
    }
}
