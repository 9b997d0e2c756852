//! Scans that are planned here for clients that ask for it: which files to read for a filter, which delete
//! files concern each, and what is left of the filter in it.
//!
//! A plan is there at once, with its first page; its other pages are its plan tasks. What is kept of a plan
//! is only what was asked, as it was written, of which state of the table, so that a page is planned when it
//! is fetched. Plans are forgotten an hour after they were made, or earlier where many others follow; a
//! client plans anew.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use headwater_model::{ErrorCode, Problem, TableName};
use headwater_tables::{Scan, ScanPage, ScanRequest};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Refusal;
use super::access::Access;
use super::body;
use super::error::Answer;
use super::place::Place;
use super::table;
use super::write::Write;
use crate::http::App;

/// For how long a plan is kept, how many are at once, and how many bytes their requests have together.
const KEPT: Duration = Duration::from_hours(1);
const PLANS_MAX: usize = 1_000;
const BYTES_MAX: usize = 32 << 20;

/// The longest request for a plan, in bytes.
pub const BODY_BYTES_MAX: usize = 4 << 20;

/// The plans that clients may still ask for.
#[derive(Debug, Default)]
pub struct Plans(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    plans: HashMap<String, Arc<Plan>>,
    /// Their ids, oldest first.
    order: BTreeMap<u64, String>,
    made: u64,
    bytes: usize,
}

/// What was asked of which state of which table.
#[derive(Debug)]
struct Plan {
    reference: String,
    table: TableName,
    /// Which table that was; another may have its name since.
    table_id: String,
    metadata_location: String,
    /// Read anew for each page: as it is read, a request may take many times the memory, and as it came, lie
    /// in a larger buffer.
    request: Box<[u8]>,
    number: u64,
    since: Instant,
}

impl Plans {
    /// Keeps a plan; its id.
    fn keep(&self, mut plan: Plan) -> String {
        let id = Uuid::new_v4().simple().to_string();
        let mut kept = self.0.lock();
        kept.made += 1;
        plan.number = kept.made;
        kept.bytes += plan.request.len();
        kept.order.insert(plan.number, id.clone());
        kept.plans.insert(id.clone(), Arc::new(plan));
        while kept.is_too_much()
            && let Some((_, oldest)) = kept.order.pop_first()
        {
            kept.forget(&oldest);
        }
        id
    }

    /// A plan of the table in the address, which is the one with this id.
    fn find(&self, id: &str, place: &Place, table_id: &str) -> Option<Arc<Plan>> {
        let plan = self.0.lock().plans.get(id).cloned()?;
        let is_here = plan.reference == place.reference.to_string()
            && place.table().is_ok_and(|name| name == plan.table)
            && plan.table_id == table_id;
        (is_here && plan.since.elapsed() < KEPT).then_some(plan)
    }

    fn forget(&self, id: &str) {
        self.0.lock().forget(id);
    }
}

impl Plan {
    /// What was asked.
    fn asked(&self) -> Answer<ScanRequest> {
        body::parse(&self.request)
    }
}

impl Kept {
    fn is_too_much(&self) -> bool {
        let oldest = self.order.values().next().and_then(|id| self.plans.get(id));
        let is_old = oldest.is_some_and(|plan| plan.since.elapsed() >= KEPT);
        self.plans.len() > PLANS_MAX || self.bytes > BYTES_MAX || is_old
    }

    fn forget(&mut self, id: &str) {
        if let Some(plan) = self.plans.remove(id) {
            self.order.remove(&plan.number);
            self.bytes -= plan.request.len();
        }
    }
}

/// Plans a scan.
pub async fn plan(State(app): State<App>, headers: HeaderMap, write: Write) -> Answer<Response> {
    let asked: ScanRequest = write.read()?;
    let name = write.place.table()?;
    let found = table::load(&app, &write.place, &name).await?;
    let plan = Plan {
        reference: write.place.reference.to_string(),
        table: name,
        table_id: found.id(),
        metadata_location: found.metadata_location().to_owned(),
        request: write.body.to_vec().into(),
        number: 0,
        since: Instant::now(),
    };
    let (first, pages) = begin(&app, &plan, asked).await?;
    let id = app.scans.keep(plan);
    Ok(completed(&id, &first, &pages, &Access::asked(&app, &headers).storage_credentials(&app)))
}

/// Answers a plan again.
pub async fn show(State(app): State<App>, headers: HeaderMap, place: Place) -> Answer<Response> {
    let id = place.name("plan");
    let plan = find(&app, &place, id).await?;
    let (first, pages) = begin(&app, &plan, plan.asked()?).await?;
    Ok(completed(id, &first, &pages, &Access::asked(&app, &headers).storage_credentials(&app)))
}

/// Forgets a plan.
pub async fn cancel(State(app): State<App>, place: Place) -> Answer<StatusCode> {
    let id = place.name("plan");
    find(&app, &place, id).await?;
    app.scans.forget(id);
    Ok(StatusCode::NO_CONTENT)
}

/// A page that is wanted.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Wanted {
    plan_task: String,
}

/// Answers a further page of a plan.
pub async fn tasks(State(app): State<App>, write: Write) -> Answer<Response> {
    let Wanted { plan_task } = write.read()?;
    let lost = || missing("plan task", &plan_task, "NoSuchPlanTaskException");
    let table_id = table::id(&app, &write.place).await?;
    let (id, start) = plan_task.split_once('.').ok_or_else(lost)?;
    let start: usize = start.parse().map_err(|_| lost())?;
    let plan = app.scans.find(id, &write.place, &table_id).ok_or_else(lost)?;
    let scan = planned(&app, &plan, plan.asked()?).await?;
    if start >= scan.plan.files().len() {
        return Err(lost());
    }
    let page = off_thread(move || Ok(scan.page(start)?)).await?;
    Ok(written(format!("{{{}}}", listed(&page))))
}

async fn find(app: &App, place: &Place, id: &str) -> Answer<Arc<Plan>> {
    let table_id = table::id(app, place).await?;
    let found = app.scans.find(id, place, &table_id);
    found.ok_or_else(|| missing("plan", id, "NoSuchPlanIdException"))
}

fn missing(what: &str, id: &str, kind: &'static str) -> Refusal {
    let message = format!("there is no {what} `{id}`, or there is none any more");
    Refusal::from(Problem::new(ErrorCode::RouteNotFound, message)).named(kind)
}

/// The files of a scan, without those that cannot hold a row for it.
async fn planned(app: &App, plan: &Plan, asked: ScanRequest) -> Answer<Scan> {
    let tables = app.service.components().lake.tables();
    let scan = async {
        let table = tables.load(&plan.metadata_location).await?;
        tables.scan(&table, &asked).await
    };
    let mut scan = scan.await.map_err(|error| Refusal::from(error).of_scan())?;
    let engine = app.service.components().engine.clone();
    off_thread(move || {
        scan.plan = engine.prune(&scan.plan, &scan.filter)?;
        Ok(scan)
    })
    .await
}

/// The first page of a plan, and where the others begin.
async fn begin(app: &App, plan: &Plan, asked: ScanRequest) -> Answer<(ScanPage, Vec<usize>)> {
    let scan = planned(app, plan, asked).await?;
    off_thread(move || {
        let mut pages = scan.pages().into_iter();
        let first = scan.page(pages.next().unwrap_or(scan.plan.files().len()))?;
        Ok((first, pages.collect()))
    })
    .await
}

async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Answer<T> + Send + 'static,
) -> Answer<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| {
        let message = format!("the scan was not planned: {error}");
        Err(Problem::new(ErrorCode::Internal, message).into())
    })
}

/// The answer to who planned.
fn completed(id: &str, first: &ScanPage, pages: &[usize], credentials: &Value) -> Response {
    let mut rest = String::new();
    if !pages.is_empty() {
        let tasks: Value = pages.iter().map(|start| format!("{id}.{start}")).collect();
        rest.push_str(&format!(",\"plan-tasks\":{tasks}"));
    }
    if credentials.as_array().is_some_and(|credentials| !credentials.is_empty()) {
        rest.push_str(&format!(",\"storage-credentials\":{credentials}"));
    }
    let id = json!(id);
    written(format!("{{\"status\":\"completed\",\"plan-id\":{id},{}{rest}}}", listed(first)))
}

/// Delete files are sent only beside what names them.
fn listed(page: &ScanPage) -> String {
    format!("\"delete-files\":{},\"file-scan-tasks\":{}", page.delete_files, page.tasks)
}

fn written(text: String) -> Response {
    ([(CONTENT_TYPE, "application/json")], text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(bytes: usize) -> Plan {
        Plan {
            reference: "main".to_owned(),
            table: "t".parse().expect("a name"),
            table_id: String::new(),
            metadata_location: String::new(),
            request: vec![b' '; bytes].into(),
            number: 0,
            since: Instant::now(),
        }
    }

    #[test]
    fn the_oldest_plans_make_room_for_new_ones() {
        let plans = Plans::default();
        let first = plans.keep(plan(BYTES_MAX / 2));
        let second = plans.keep(plan(BYTES_MAX / 2));
        assert_eq!(plans.0.lock().plans.len(), 2);
        plans.keep(plan(1));
        assert!(!plans.0.lock().plans.contains_key(&first));
        plans.forget(&second);
        plans.forget(&second);
        assert_eq!(plans.0.lock().bytes, 1);
        for _ in 0..2 * PLANS_MAX {
            plans.keep(plan(0));
        }
        let kept = plans.0.lock();
        assert_eq!((kept.plans.len(), kept.order.len(), kept.bytes), (PLANS_MAX, PLANS_MAX, 0));
    }
}
