//! The warehouse: the location of table files, a local folder or a cloud bucket.
//!
//! The lake's database contains the location of the warehouse. The location can be changed only as
//! long as no commit has a table, because commits contain absolute file locations. In a bucket, an
//! object at the root of the prefix states which lake owns the prefix. Without this object, another
//! lake could use the same prefix, and remove the files of this lake as unreferenced.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use headwater_catalog::Catalog;
use headwater_model::Clock;
use headwater_store::{RefChange, RefPrecondition, Store, WriteBatch};
use headwater_tables::{CloudSettings, CloudUrl, StoreTimeouts, TablesOptions};
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use uuid::Uuid;

use crate::error::{Error, Result};

/// The name of the warehouse in the folder next to the database.
pub(crate) const LOCAL: &str = "local";

/// The names of the refs in the store that contain the URL of the warehouse and the id of the lake.
const URL_REF: &str = "lake/warehouse";
const ID_REF: &str = "lake/id";

/// The timeouts of the object store while a lake is opened.
const OPENING: StoreTimeouts =
    StoreTimeouts { request: Duration::from_secs(10), total: Duration::from_secs(15) };

/// Options for the location of a lake's tables.
#[derive(Debug, Clone, Default)]
pub struct WarehouseOptions {
    /// A bucket such as `s3://bucket/prefix`, or `local` for the folder next to the database;
    /// `None` to keep the lake's current warehouse.
    pub url: Option<String>,
    /// The settings for cloud object stores.
    pub cloud: CloudSettings,
}

/// Opens the requested warehouse, or the lake's current warehouse.
pub(crate) async fn open(
    folder: &Path,
    store: &Arc<dyn Store>,
    clock: &Arc<dyn Clock>,
    options: WarehouseOptions,
) -> Result<(Arc<dyn ObjectStore>, TablesOptions)> {
    let url = choose(store, clock, &options).await?;
    let (object_store, mut tables) = match url {
        None => open_folder(folder)?,
        Some(url) => (url.open(&options.cloud)?, TablesOptions::new(url.as_str())),
    };
    tables.clock = clock.clone();
    tables.cloud = options.cloud;
    Ok((object_store, tables))
}

fn open_folder(folder: &Path) -> Result<(Arc<dyn ObjectStore>, TablesOptions)> {
    let fail = |source| Error::Folder { path: folder.display().to_string(), source };
    let warehouse = folder.join("warehouse");
    std::fs::create_dir_all(&warehouse).map_err(fail)?;
    let warehouse = warehouse.canonicalize().map_err(fail)?;
    let object_store = LocalFileSystem::new_with_prefix(&warehouse)
        .map_err(|error| fail(std::io::Error::other(error)))?;
    Ok((Arc::new(object_store), TablesOptions::local(&warehouse)))
}

/// Returns the URL of the warehouse, after marking its prefix and recording the URL in the
/// database; `None` for the local folder.
async fn choose(
    store: &Arc<dyn Store>,
    clock: &Arc<dyn Clock>,
    options: &WarehouseOptions,
) -> Result<Option<CloudUrl>> {
    let stored = store.reference(URL_REF).await?;
    let current = stored.as_ref().map(|url| String::from_utf8_lossy(url).into_owned());
    let current = current.filter(|url| url != LOCAL);
    let wanted = match options.url.as_deref() {
        None => current.clone(),
        Some(LOCAL) => None,
        Some(url) => Some(CloudUrl::warehouse(url)?.as_str().to_owned()),
    };
    if wanted != current {
        check_empty(store, clock, current.as_deref()).await?;
    }
    let url = wanted.as_deref().map(CloudUrl::warehouse).transpose()?;
    if let Some(url) = &url {
        let usual = options.cloud.timeouts();
        let (request, total) = (OPENING.request.min(usual.request), OPENING.total.min(usual.total));
        let cloud = options.cloud.clone().with_timeouts(StoreTimeouts { request, total });
        url.claim(&cloud, &lake_id(store).await?).await?;
    }
    if wanted != current {
        let value = Bytes::from(wanted.unwrap_or_else(|| LOCAL.to_owned()));
        let expected = stored.map_or(RefPrecondition::Absent, RefPrecondition::Value);
        let change = RefChange { name: URL_REF.to_owned(), expected, value: Some(value) };
        store.apply(WriteBatch { refs: vec![change], ..WriteBatch::default() }).await?;
    }
    Ok(url)
}

/// Fails if a commit has a table. In that case, the warehouse cannot be changed.
async fn check_empty(
    store: &Arc<dyn Store>,
    clock: &Arc<dyn Clock>,
    current: Option<&str>,
) -> Result<()> {
    let catalog = Catalog::open(store.clone(), clock.clone()).await?;
    let branches = catalog.branches(None).await?.into_iter().map(|branch| branch.commit);
    let tags = catalog.tags().list(None).await?.into_iter().map(|tag| tag.commit);
    let heads: Vec<_> = branches.chain(tags).collect();
    if catalog.reach(&heads, |_| true).await?.states.is_empty() {
        return Ok(());
    }
    Err(Error::WarehouseFixed { current: current.unwrap_or(LOCAL).to_owned() })
}

/// Returns the unique id of the lake, which is created on first use.
async fn lake_id(store: &Arc<dyn Store>) -> Result<String> {
    let read = async || {
        let found = store.reference(ID_REF).await?;
        Ok::<_, Error>(found.map(|id| String::from_utf8_lossy(&id).into_owned()))
    };
    if let Some(id) = read().await? {
        return Ok(id);
    }
    let id = Uuid::new_v4().to_string();
    let value = Some(Bytes::from(id.clone()));
    let change = RefChange { name: ID_REF.to_owned(), expected: RefPrecondition::Absent, value };
    match store.apply(WriteBatch { refs: vec![change], ..WriteBatch::default() }).await {
        // Another process created the id at the same time, so use its id.
        Err(headwater_store::Error::Conflict { .. }) => Ok(read().await?.unwrap_or(id)),
        other => Ok(other.map(|_| id)?),
    }
}
