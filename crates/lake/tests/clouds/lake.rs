//! A lake whose tables are in a cloud bucket, with one table of one row.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::error::ArrowError;
use futures::{StreamExt, TryStreamExt, stream};
use headwater_lake::{Error, Lake, LakeOptions, json_rows};
use headwater_model::{Clock as _, FixedClock, RefSpec, SystemClock, TableName};
use headwater_store::MemoryStore;
use headwater_tables::{CloudUrl, TablesOptions};

use crate::fault_proxy::FaultProxy;
use crate::provider::Provider;

/// A short timeout, and a timeout that is long enough for two retries.
pub const SHORT: Duration = Duration::from_millis(600);
pub const LONG: Duration = Duration::from_secs(10);

/// The prefix of the lake's tables in the bucket.
const PLACE: &str = "a";

/// A lake in a bucket.
pub struct CloudLake {
    pub cloud: Provider,
    pub lake: Lake,
    /// The clock of the lake, which the test sets. The object store has another clock.
    pub clock: Arc<FixedClock>,
    store: Arc<MemoryStore>,
    patience: Duration,
}

impl CloudLake {
    pub async fn new(cloud: Provider, patience: Duration) -> Self {
        let store = Arc::new(MemoryStore::new());
        let clock = Arc::new(FixedClock::at(SystemClock.now()));
        let lake = open(&cloud, &store, &clock, patience).await;
        let lake = CloudLake { cloud, lake, clock, store, patience };
        let mut change = lake.lake.transaction("main", "eva").await.unwrap();
        change.create(&table(), numbers([]).schema(), Vec::new(), BTreeMap::new()).await.unwrap();
        change.append(&table(), stream::iter([Ok(numbers([1]))]).boxed()).await.unwrap();
        change.commit("make").await.unwrap();
        lake
    }

    /// Returns the server that injects faults.
    pub fn front(&self) -> &FaultProxy {
        self.cloud.front()
    }

    pub async fn append(&self, ids: impl IntoIterator<Item = i64>) -> Result<(), Error> {
        self.append_to("main", ids).await
    }

    pub async fn append_to(
        &self,
        branch: &str,
        ids: impl IntoIterator<Item = i64>,
    ) -> Result<(), Error> {
        let mut change = self.lake.transaction(branch, "eva").await.unwrap();
        change.append(&table(), stream::iter([Ok(numbers(ids))]).boxed()).await?;
        change.commit("append").await.map(drop)
    }

    /// Returns the ids in the table as a new process with empty caches would read them.
    pub async fn ids(&self) -> Vec<i64> {
        ids(&self.reopened().await).await.unwrap()
    }

    pub async fn reopened(&self) -> Lake {
        open(&self.cloud, &self.store, &self.clock, self.patience).await
    }

    /// Waits until exactly these files exist, because aborted uploads may be removed with a delay.
    pub async fn settle(&self, expected: &[String], case: &str) {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let mut left = self.cloud.contents().await;
            left.retain(|file| !expected.contains(file));
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "{case} left {left:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn open(
    cloud: &Provider,
    store: &Arc<MemoryStore>,
    clock: &Arc<FixedClock>,
    patience: Duration,
) -> Lake {
    let (url, settings) = (cloud.url(PLACE), cloud.hurried(patience));
    let object_store = CloudUrl::warehouse(&url).unwrap().open(&settings).unwrap();
    let mut tables = TablesOptions::new(&url);
    tables.cloud = settings;
    tables.clock = clock.clone();
    let (store, clock) = (store.clone(), clock.clone());
    Lake::open(LakeOptions { store, object_store, tables, clock }).await.unwrap()
}

/// Returns the ids in the table on `main`, sorted.
pub async fn ids(lake: &Lake) -> Result<Vec<i64>, Error> {
    let table = lake.view(&RefSpec::main()).await?.table(&table()).await?;
    let plan = lake.tables().plan(&table, None).await?;
    let rows = lake.tables().read(&table, plan.files(), None, None)?;
    let rows = rows.try_collect::<Vec<_>>().await.map_err(|error| match error {
        ArrowError::ExternalError(inner) => {
            Error::from(*inner.downcast::<headwater_tables::Error>().unwrap())
        }
        other => panic!("{other}"),
    })?;
    let rows = json_rows(&rows).unwrap();
    let mut ids: Vec<i64> = rows.iter().map(|row| row["id"].as_i64().unwrap()).collect();
    ids.sort_unstable();
    Ok(ids)
}

pub fn table() -> TableName {
    "t".parse().unwrap()
}

fn numbers(ids: impl IntoIterator<Item = i64>) -> RecordBatch {
    let array: ArrayRef = Arc::new(Int64Array::from_iter_values(ids));
    RecordBatch::try_from_iter_with_nullable([("id", array, true)]).unwrap()
}
