//! Imports: plan, or start as a job. `executors.rs` executes the jobs.

use std::sync::Arc;

use headwater_ingest::Importer;
use headwater_jobs::NewJob;
use headwater_model::{ImportPlan, ImportRequest, Job, JobKind, OrProblem, Principal, Problem};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::service::Components;

/// Operations on imports.
#[derive(Clone)]
pub struct Imports(pub(crate) Arc<Components>);

impl Imports {
    /// Returns the files and columns that an import would add; writes nothing. Every row is read
    /// and checked. The threads that read stop when the future is dropped.
    pub async fn plan(
        &self,
        principal: &Principal,
        request: &ImportRequest,
    ) -> Result<ImportPlan, Problem> {
        self.0.administer(principal)?;
        let cancelled = CancellationToken::new();
        let _guard = cancelled.clone().drop_guard();
        let importer = Importer::new(self.0.lake.clone());
        importer.plan(request, Arc::new(|_| {}), cancelled).await.or_problem()
    }

    /// Starts an import. Returns its job.
    pub async fn start(
        &self,
        principal: &Principal,
        mut request: ImportRequest,
    ) -> Result<Job, Problem> {
        self.0.administer(principal)?;
        let author = principal.author().to_owned();
        let branch = self.0.branch_to_write(request.reference.as_ref()).await?;
        request.author = Some(author.clone());
        let new = NewJob {
            reference: Some(branch),
            event: request.event.clone(),
            payload: json!(request),
            ..NewJob::new(JobKind::Import, summary(&request), author)
        };
        let id = self.0.jobs.submit(new).await.or_problem()?;
        self.0.jobs.job(id).await.or_problem()
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
