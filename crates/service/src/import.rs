//! Imports: plan, or start as a job. The crate `headwater-executors` executes the jobs.

use std::sync::Arc;

use headwater_executors::JobPayload;
use headwater_ingest::{BucketStores, Importer};
use headwater_jobs::NewJob;
use headwater_model::{
    Action, Actor, ImportPlan, ImportRequest, Job, JobKind, NameError, Principal, Problem, RefSpec,
    ResultExt, TableName, ToProblem,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::service::Components;

/// Operations on imports.
#[derive(Clone)]
pub struct Imports(pub(crate) Arc<Components>);

impl Imports {
    /// Returns the files and columns that an import would add, without writing anything. Reads and
    /// checks every row. The reading threads stop when the future is dropped.
    pub async fn plan(
        &self,
        principal: &Principal,
        request: &ImportRequest,
    ) -> Result<ImportPlan, Problem> {
        let buckets = self.check(principal, request).await?;
        let cancelled = CancellationToken::new();
        let _guard = cancelled.clone().drop_guard();
        let check = self.0.import_rights.table_check(principal, None);
        let private = self.0.import_rights.private_files(principal, &request.sources);
        let importer = Importer::new(self.0.lake.clone()).with_check(check).with_buckets(buckets);
        let importer = importer.without(private);
        let plan = importer.plan(request, Arc::new(|_| {}), cancelled).await;
        plan.map_err(|error| self.0.import_rights.to_problem(principal, None, &error))
    }

    /// Starts an import and returns its job.
    pub async fn start(
        &self,
        principal: &Principal,
        mut request: ImportRequest,
    ) -> Result<Job, Problem> {
        self.check(principal, &request).await?;
        let branch = self.0.branch_to_write(request.reference.as_ref()).await?;
        request.author = Some(principal.author().to_owned());
        let new = NewJob::of(JobKind::Import, summary(&request), principal).named(&request.table);
        let new = NewJob {
            reference: Some(branch),
            event: request.event.clone(),
            payload: json!(JobPayload::new(request, Actor::of(principal))),
            ..new
        };
        let id = self.0.jobs.submit(new).await.or_problem()?;
        self.0.jobs.job(id).await.or_problem()
    }

    /// Checks that a principal may read the sources, write to the branch and add rows to the table.
    /// Returns the lake's buckets that the import reads. The job repeats these checks, and also
    /// checks the right to add columns.
    async fn check(
        &self,
        principal: &Principal,
        request: &ImportRequest,
    ) -> Result<BucketStores, Problem> {
        let buckets = self.0.import_rights.check(principal, request).await?;
        if self.0.is_unlimited(principal) {
            return Ok(buckets);
        }
        let table: TableName =
            request.table.parse().map_err(|error: NameError| error.to_problem())?;
        let main = RefSpec::main();
        let reference = request.reference.as_ref().unwrap_or(&main);
        if !self.0.check_named(principal, reference, Action::Insert, &table).await?.exists {
            self.0.check_named(principal, reference, Action::Create, &table).await?;
        }
        Ok(buckets)
    }
}

fn summary(request: &ImportRequest) -> String {
    let more = match request.sources.len() {
        0 | 1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    let first = request.sources.first().map_or("", String::as_str);
    format!("{} from {first}{more}", request.table)
}
