//! Where a lake's tables lie: in the folder beside its database, or in a cloud's bucket.
//!
//! The database keeps the choice, so that it is made once. It can be made anew only while no commit knows
//! of a table, since commits name files by where they lie. A bucket's folder is marked as this lake's own:
//! another lake would take its files for nobody's.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use headwater_catalog::Catalog;
use headwater_model::Clock;
use headwater_store::{Batch, Expected, RefChange, Store};
use headwater_tables::{CloudSettings, CloudUrl, Patience, TablesOptions};
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use uuid::Uuid;

use crate::error::{Error, Result};

/// The name of the folder beside the database, as a warehouse.
pub(crate) const LOCAL: &str = "local";

/// Where the database keeps the warehouse's URL, and the lake's own id.
const URL_REF: &str = "lake/warehouse";
const ID_REF: &str = "lake/id";

/// How long a bucket is waited for before the lake is said not to open.
const OPENING: Patience =
    Patience { request: Duration::from_secs(10), total: Duration::from_secs(15) };

/// Where a lake's tables are to lie.
#[derive(Debug, Clone, Default)]
pub struct WarehouseOptions {
    /// A bucket, as `s3://bucket/prefix`, or `local` for the folder beside the database; none for what
    /// the lake has.
    pub url: Option<String>,
    /// How clouds are reached.
    pub cloud: CloudSettings,
}

/// Opens the warehouse that is asked for, or the one that the lake has.
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

/// The warehouse that counts from now on, kept and marked as this lake's; none for the folder.
async fn choose(
    store: &Arc<dyn Store>,
    clock: &Arc<dyn Clock>,
    options: &WarehouseOptions,
) -> Result<Option<CloudUrl>> {
    let kept = store.reference(URL_REF).await?;
    let current = kept.as_ref().map(|url| String::from_utf8_lossy(url).into_owned());
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
        let usual = options.cloud.patience();
        let (request, total) = (OPENING.request.min(usual.request), OPENING.total.min(usual.total));
        let cloud = options.cloud.clone().with_patience(Patience { request, total });
        url.claim(&cloud, &lake_id(store).await?).await?;
    }
    if wanted != current {
        let value = Bytes::from(wanted.unwrap_or_else(|| LOCAL.to_owned()));
        let expected = kept.map_or(Expected::Absent, Expected::Value);
        let change = RefChange { name: URL_REF.to_owned(), expected, value: Some(value) };
        store.apply(Batch { refs: vec![change], ..Batch::default() }).await?;
    }
    Ok(url)
}

/// Refuses another warehouse where a commit knows of a table.
async fn check_empty(
    store: &Arc<dyn Store>,
    clock: &Arc<dyn Clock>,
    current: Option<&str>,
) -> Result<()> {
    let catalog = Catalog::open(store.clone(), clock.clone()).await?;
    let branches = catalog.branches(None).await?.into_iter().map(|branch| branch.commit);
    let tags = catalog.tags(None).await?.into_iter().map(|tag| tag.commit);
    let heads: Vec<_> = branches.chain(tags).collect();
    if catalog.reach(&heads, |_| true).await?.states.is_empty() {
        return Ok(());
    }
    Err(Error::WarehouseFixed { current: current.unwrap_or(LOCAL).to_owned() })
}

/// What tells this lake from every other; made when it is first asked for.
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
    let change = RefChange { name: ID_REF.to_owned(), expected: Expected::Absent, value };
    match store.apply(Batch { refs: vec![change], ..Batch::default() }).await {
        // Another process was first.
        Err(headwater_store::Error::Conflict { .. }) => Ok(read().await?.unwrap_or(id)),
        other => Ok(other.map(|_| id)?),
    }
}
