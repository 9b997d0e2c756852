//! Scans planned for Iceberg REST clients: data files, their delete files and the residual filters.
//!
//! Planning is synchronous: the response contains the first page, and a plan task for each further
//! page. A stored plan is only the request and the table's state; each page is computed on request.
//! Plans expire after an hour, or earlier if many newer plans follow. Clients then plan again.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_model::{ErrorCode, Principal, Problem, RefSpec, ResultExt, TableName};
use headwater_table_rest::{RestTables, Scan, ScanPage, ScanRequest};
use parking_lot::Mutex;
use uuid::Uuid;

use super::Iceberg;
use crate::service::Components;

/// Lifetime of a plan.
const LIFETIME: Duration = Duration::from_hours(1);

/// Maximum number of plans.
const PLANS_MAX: usize = 1_000;

/// Maximum total size of the requests of all plans, in bytes.
const BYTES_MAX: usize = 32 << 20;

/// The table that a scan reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanTarget {
    /// The ref to read.
    pub reference: RefSpec,
    /// The table to read.
    pub table: TableName,
}

/// A planned scan.
pub struct PlannedScan {
    /// Id of the plan.
    pub id: String,
    /// The first page.
    pub first: ScanPage,
    /// The plan tasks of the further pages.
    pub tasks: Vec<String>,
}

/// The scans whose pages clients may still request.
#[derive(Debug, Default)]
pub(crate) struct ScanCache(Mutex<OpenScans>);

#[derive(Debug, Default)]
struct OpenScans {
    by_id: HashMap<String, Arc<OpenScan>>,
    /// Ids of the plans in the order of their creation.
    order: BTreeMap<u64, String>,
    created: u64,
    bytes: usize,
}

/// A planned scan whose pages clients may still request: the request, and the state of the table
/// that it scans.
#[derive(Debug)]
struct OpenScan {
    target: ScanTarget,
    /// Id of the table. The name is not sufficient: another table may get it later.
    table_id: String,
    metadata_location: String,
    /// The request as JSON, because a parsed request can use much more memory.
    request: Box<[u8]>,
    number: u64,
    created: Instant,
}

impl ScanCache {
    /// Adds a plan and returns its id.
    fn insert(&self, mut plan: OpenScan) -> String {
        let id = Uuid::new_v4().simple().to_string();
        let mut plans = self.0.lock();
        plans.created += 1;
        plan.number = plans.created;
        plans.bytes += plan.request.len();
        plans.order.insert(plan.number, id.clone());
        plans.by_id.insert(id.clone(), Arc::new(plan));
        while plans.exceeds_limits()
            && let Some((_, oldest)) = plans.order.pop_first()
        {
            plans.remove(&oldest);
        }
        id
    }

    /// Returns a plan if it is for this target and table id, and has not expired.
    fn get(&self, id: &str, target: &ScanTarget, table_id: &str) -> Option<Arc<OpenScan>> {
        let plan = self.0.lock().by_id.get(id).cloned()?;
        let is_same = plan.target == *target && plan.table_id == table_id;
        (is_same && plan.created.elapsed() < LIFETIME).then_some(plan)
    }

    fn remove(&self, id: &str) {
        self.0.lock().remove(id);
    }
}

impl OpenScans {
    fn exceeds_limits(&self) -> bool {
        let oldest = self.order.values().next().and_then(|id| self.by_id.get(id));
        let is_expired = oldest.is_some_and(|plan| plan.created.elapsed() >= LIFETIME);
        self.by_id.len() > PLANS_MAX || self.bytes > BYTES_MAX || is_expired
    }

    fn remove(&mut self, id: &str) {
        if let Some(plan) = self.by_id.remove(id) {
            self.order.remove(&plan.number);
            self.bytes -= plan.request.len();
        }
    }
}

impl Iceberg {
    /// Plans a scan. `request` is the request's JSON.
    pub async fn plan_scan(
        &self,
        principal: &Principal,
        target: ScanTarget,
        request: &[u8],
    ) -> Result<PlannedScan, Problem> {
        let loaded = self.load_table(principal, &target.reference, &target.table).await?;
        let plan = OpenScan {
            target,
            table_id: loaded.table().id(),
            metadata_location: loaded.metadata_location().to_owned(),
            request: request.into(),
            number: 0,
            created: Instant::now(),
        };
        let pages = self.0.first_page(&plan).await?;
        Ok(pages.into_scan(self.0.scans.insert(plan)))
    }

    /// Returns a planned scan. Errors: `route_not_found` if the plan does not exist or has expired.
    pub async fn scan(
        &self,
        principal: &Principal,
        target: &ScanTarget,
        id: &str,
    ) -> Result<PlannedScan, Problem> {
        let plan = self.find_plan(principal, target, id).await?;
        Ok(self.0.first_page(&plan).await?.into_scan(id.to_owned()))
    }

    /// Deletes a plan.
    pub async fn cancel_scan(
        &self,
        principal: &Principal,
        target: &ScanTarget,
        id: &str,
    ) -> Result<(), Problem> {
        self.find_plan(principal, target, id).await?;
        self.0.scans.remove(id);
        Ok(())
    }

    /// Returns a further page of a planned scan. Errors: `route_not_found` if the plan task does
    /// not exist or has expired.
    pub async fn scan_page(
        &self,
        principal: &Principal,
        target: &ScanTarget,
        task: &str,
    ) -> Result<ScanPage, Problem> {
        let expired = || not_found("plan task", task);
        let table_id = self.table_id(principal, &target.reference, &target.table).await?;
        let (id, start) = task.split_once('.').ok_or_else(expired)?;
        let start: usize = start.parse().map_err(|_| expired())?;
        let plan = self.0.scans.get(id, target, &table_id).ok_or_else(expired)?;
        let scan = self.0.scan(&plan).await?;
        if start >= scan.plan.files().len() {
            return Err(expired());
        }
        run_blocking(move || scan.page(start).or_problem()).await
    }

    async fn find_plan(
        &self,
        principal: &Principal,
        target: &ScanTarget,
        id: &str,
    ) -> Result<Arc<OpenScan>, Problem> {
        let table_id = self.table_id(principal, &target.reference, &target.table).await?;
        self.0.scans.get(id, target, &table_id).ok_or_else(|| not_found("plan", id))
    }
}

fn not_found(object: &str, id: &str) -> Problem {
    let message = format!("{object} `{id}` does not exist or has expired");
    Problem::new(ErrorCode::RouteNotFound, message)
}

/// The first page of a scan, and the start positions of the other pages.
struct ScanPages {
    first: ScanPage,
    starts: Vec<usize>,
}

impl ScanPages {
    fn into_scan(self, id: String) -> PlannedScan {
        let tasks = self.starts.iter().map(|start| format!("{id}.{start}")).collect();
        PlannedScan { id, first: self.first, tasks }
    }
}

impl Components {
    /// Returns the files of a scan that may contain matching rows.
    async fn scan(&self, plan: &OpenScan) -> Result<Scan, Problem> {
        let request: ScanRequest = serde_json::from_slice(&plan.request).map_err(|error| {
            let message = format!("the body cannot be read: {error}");
            Problem::new(ErrorCode::InvalidArgument, message)
        })?;
        let tables = self.lake.tables();
        let table = tables.load(&plan.metadata_location).await.or_problem()?;
        let mut scan = RestTables::new(tables).scan(&table, &request).await.or_problem()?;
        let engine = self.engine.clone();
        run_blocking(move || {
            scan.plan = engine.prune(&scan.plan, &scan.filter).or_problem()?;
            Ok(scan)
        })
        .await
    }

    async fn first_page(&self, plan: &OpenScan) -> Result<ScanPages, Problem> {
        let scan = self.scan(plan).await?;
        run_blocking(move || {
            let mut starts = scan.pages().into_iter();
            let start = starts.next().unwrap_or(scan.plan.files().len());
            let first = scan.page(start).or_problem()?;
            Ok(ScanPages { first, starts: starts.collect() })
        })
        .await
    }
}

/// Runs CPU-bound work on a thread of the blocking pool.
async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        let message = format!("the scan was not planned: {error}");
        Err(Problem::new(ErrorCode::Internal, message))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(bytes: usize) -> OpenScan {
        let table = "t".parse().expect("a name");
        OpenScan {
            target: ScanTarget { reference: RefSpec::main(), table },
            table_id: String::new(),
            metadata_location: String::new(),
            request: vec![b' '; bytes].into(),
            number: 0,
            created: Instant::now(),
        }
    }

    #[test]
    fn the_oldest_plans_are_evicted() {
        let cache = ScanCache::default();
        let first = cache.insert(plan(BYTES_MAX / 2));
        let second = cache.insert(plan(BYTES_MAX / 2));
        assert_eq!(cache.0.lock().by_id.len(), 2);
        cache.insert(plan(1));
        assert!(!cache.0.lock().by_id.contains_key(&first));
        cache.remove(&second);
        cache.remove(&second);
        assert_eq!(cache.0.lock().bytes, 1);
        for _ in 0..2 * PLANS_MAX {
            cache.insert(plan(0));
        }
        let plans = cache.0.lock();
        assert_eq!((plans.by_id.len(), plans.order.len(), plans.bytes), (PLANS_MAX, PLANS_MAX, 0));
    }
}
