//! Backfills: starts the job that runs a project for each value of a parameter.
//! [`BackfillExecutor`](headwater_executors::BackfillExecutor) does the work.

use headwater_backfill::{BackfillReport, check_values, partition_values};
use headwater_executors::{JobPayload, check_backfill, check_backfill_parameters};
use headwater_jobs::NewJob;
use headwater_model::{
    AccessObject, Action, Actor, BackfillRequest, ErrorCode, Job, JobEventKind, JobKind, Principal,
    Problem, RefSpec, ResultExt, TableName,
};
use serde_json::json;

use crate::job::Jobs;
use crate::run::{Runs, project_name, project_object, reference_of};

impl Runs {
    /// Starts a backfill and returns its job. The job waits for earlier backfills of the project on
    /// the branch.
    pub async fn backfill(
        &self,
        principal: &Principal,
        mut request: BackfillRequest,
    ) -> Result<Job, Problem> {
        self.0.authorize(principal, Action::Run, &project_object(&request.run.files))?;
        check_backfill(&request)?;
        self.0.settings.refresh().await;
        self.0.check_ref(principal, &reference_of(&request.run)).await?;
        let branch = self.0.branch_to_write(request.run.reference.as_ref()).await;
        let branch = branch.map_err(|problem| self.0.conceal(principal, problem))?;
        self.0.authorize(principal, Action::Write, &AccessObject::branch(&branch))?;
        if let Some(table) = request.partitions_of.take() {
            request.values = self.partitions(principal, &branch, &table).await?;
        }
        check_values(&request.parameter, &request.values)?;
        // Parsing a large project takes time, so use a thread of the blocking pool.
        let checked = move || check_backfill_parameters(&request).map(|()| request);
        let checked = tokio::task::spawn_blocking(checked).await;
        let mut request =
            checked.map_err(|error| Problem::new(ErrorCode::Internal, error.to_string()))??;
        request.run.reference = Some(RefSpec::Name(branch.clone()));
        request.run.author = Some(principal.author().to_owned());
        // The changes for a trigger's event are merged at most once. If all runs had the event of
        // the request, only the run of the first value would be merged.
        request.run.event = None;
        let project = project_name(&request.run);
        let count = request.values.len();
        let summary = format!("{project}, {count} values of {}", request.parameter);
        let new = NewJob::of(JobKind::Backfill, summary, principal).named(&project);
        let actor = Actor::of(principal).without_token();
        let new = NewJob {
            // The user's limit on concurrent jobs counts only the runs of the backfill. If the
            // backfill counted, too, a limit of one job would block its runs.
            user: None,
            queue: Some(format!("backfill of {project} on {branch}")),
            reference: Some(branch),
            payload: json!(JobPayload::new(request, actor)),
            ..new
        };
        let id = self.0.jobs.submit(new).await.or_problem()?;
        self.0.jobs.job(id).await.or_problem()
    }

    /// Returns the values of a table's partitions at the head of a branch. The principal needs the
    /// right to read all rows of the table.
    async fn partitions(
        &self,
        principal: &Principal,
        branch: &str,
        table: &str,
    ) -> Result<Vec<String>, Problem> {
        let name = table.parse::<TableName>().or_problem()?;
        let view = self.0.lake.view(&RefSpec::Name(branch.to_owned())).await.or_problem()?;
        // The error has the spelling of the request, so that it does not show if the table exists.
        self.0.entry_rights(principal).check_named(&view, Action::Select, &name).await?;
        let found = view.state().find_table(&name.namespace, &name.name).await.or_problem()?;
        let Some((stored, entry)) = &found else {
            let missing = view.table(&name).await.map(|_| Vec::new()).or_problem();
            return missing.map_err(|problem| self.0.conceal(principal, problem));
        };
        let access = self.0.table_access(principal);
        if access
            .is_some_and(|access| access.restrictions(stored, Some(entry.id.as_str())).is_some())
        {
            let message = format!("`{stored}` has a row filter or column mask for this user");
            let problem = Problem::new(ErrorCode::Forbidden, message);
            return Err(problem.with_hint("List the values instead of the table's partitions."));
        }
        let table = view.load(entry).await.or_problem()?;
        let files = self.0.lake.tables().list_files(&table).await.or_problem()?;
        let data = files.into_iter().filter(|file| file.content == "data");
        let partitions = data.map(|file| file.partition);
        partition_values(&stored.to_string(), table.partition().len(), partitions)
    }
}

impl Jobs {
    /// Sets the result of a running or failed backfill to the report of all values. A failed job's
    /// error contains this report; each event of a running job contains the report of one value.
    pub(crate) async fn with_values(&self, mut job: Job) -> Result<Job, Problem> {
        if job.kind != JobKind::Backfill || !job.result.is_null() {
            return Ok(job);
        }
        let reported = job.error.as_ref().and_then(|error| error.context.get("report")).cloned();
        let reported = reported.and_then(|it| serde_json::from_value::<BackfillReport>(it).ok());
        if let Some(report) = reported {
            job.result = json!(report);
            return Ok(job);
        }
        let payload = self.0.jobs.payload(job.id).await.or_problem()?;
        let request = payload.and_then(|it| serde_json::from_value::<BackfillRequest>(it).ok());
        let Some(request) = request else { return Ok(job) };
        let events = self.0.jobs.events(job.id, 0).await.or_problem()?;
        let ended = events.into_iter().filter_map(|event| match event.event {
            JobEventKind::ValueEnded { report } => serde_json::from_value(report).ok(),
            _ => None,
        });
        let branch = job.reference.as_deref().unwrap_or_default();
        let report = BackfillReport::new(&request.parameter, branch, &request.values, ended);
        job.result = json!(report);
        Ok(job)
    }
}
