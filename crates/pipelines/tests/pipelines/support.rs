//! A lake in a temporary folder with everything that a run needs, and projects defined in the
//! tests.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::util::pretty::pretty_format_batches;
use futures::{StreamExt, TryStreamExt};
use headwater_engine::{Engine, EngineOptions, SessionOptions, SessionRights, version_constant};
use headwater_functions::{
    Functions, FunctionsOptions, Isolation, SpawnerCommand, TableQuota, Telemetry, ZygoteOptions,
};
use headwater_jobs::{Jobs, JobsOptions, NewJob};
use headwater_lake::Lake;
use headwater_model::{
    CreateRef, JobEventKind, JobId, JobKind, LogStream, Problem, ProjectFiles, RefSpec, RunReport,
    RunRequest, StepReport, StepStatus, SystemClock, ToProblem,
};
use headwater_pipelines::{Project, Runner};
use headwater_secrets::{KeySource, SecretStore};
use headwater_store::MemoryStore;

use crate::blocking_table::Gate;

/// Returns a project's files: a manifest, and others by path.
pub fn files(manifest: &str, others: &[(&str, &str)]) -> ProjectFiles {
    let manifest = format!("[project]\nname = \"test\"\n{manifest}");
    let others = others.iter().map(|(path, text)| ((*path).to_owned(), (*text).into()));
    others.chain([("headwater.toml".to_owned(), manifest.into())]).collect()
}

/// Returns the files of a project for Bauplan: a manifest, and others by path.
pub fn bauplan_files(manifest: &str, others: &[(&str, &str)]) -> ProjectFiles {
    let project = "project:\n  id: 6f1f0a52-7c2e-4f0e-9a35-0d5f5f2b7c11\n  name: taxis\n";
    let others = others.iter().map(|(path, text)| ((*path).to_owned(), (*text).into()));
    others
        .chain([("bauplan_project.yml".to_owned(), format!("{project}{manifest}").into())])
        .collect()
}

/// Formats an error as the command line shows it.
pub fn shown(problem: &Problem) -> String {
    let mut text = format!("{}: {}", problem.code, problem.message);
    for excerpt in problem.excerpts() {
        text.push_str(&format!("\n{excerpt}"));
    }
    for cause in &problem.causes {
        text.push_str(&format!("\n  caused by: {cause}"));
    }
    if let Some(hint) = &problem.hint {
        text.push_str(&format!("\n  hint: {hint}"));
    }
    text
}

/// Returns the error of parsing a project.
pub fn refusal(files: &ProjectFiles) -> String {
    match Project::parse(files, version_constant) {
        Ok(_) => "nothing is wrong".to_owned(),
        Err(error) => shown(&error.to_problem()),
    }
}

/// A lake with a runner.
pub struct World {
    pub lake: Lake,
    pub engine: Engine,
    pub jobs: Jobs,
    pub runner: Runner,
    pub functions: Functions,
    pub secrets: SecretStore,
    pub table_quota: TableQuota,
    pub folder: tempfile::TempDir,
}

/// The result of a run.
pub struct Ran {
    pub id: JobId,
    pub outcome: Result<RunReport, Problem>,
    pub events: Vec<JobEventKind>,
}

impl World {
    pub async fn new() -> World {
        World::with_memory(1 << 30).await
    }

    /// Creates a lake whose runs may keep this many bytes of rows in memory.
    pub async fn with_memory(memory_bytes: u64) -> World {
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::open_local(folder.path()).await.unwrap();
        World::over(folder, lake, memory_bytes).await
    }

    /// Creates the runner of a lake. The folder contains all files except the files of tables.
    pub async fn over(folder: tempfile::TempDir, lake: Lake, memory_bytes: u64) -> World {
        let options = EngineOptions {
            spill_dir: folder.path().join("spill"),
            threads: 2,
            ..EngineOptions::default()
        };
        let engine = Engine::new(lake.clone(), options).unwrap();
        let store = Arc::new(MemoryStore::new());
        let clock = Arc::new(SystemClock);
        let jobs = Jobs::open(store, clock, JobsOptions::default()).await.unwrap();
        let functions = Functions::start(functions_options()).await.unwrap();
        let table_quota = TableQuota::new(memory_bytes, folder.path().join("rows"), 1 << 30);
        let key = KeySource::File(folder.path().join("secret-key"));
        let secrets = SecretStore::new(Arc::new(MemoryStore::new()), Arc::new(SystemClock), key);
        let runner = Runner::new(
            engine.clone(),
            functions.clone(),
            jobs.clone(),
            secrets.clone(),
            table_quota.clone(),
        );
        World { lake, engine, jobs, runner, functions, secrets, table_quota, folder }
    }

    /// Adds the table `system.gate`. The first `passes` reads return, and the next read blocks.
    /// Planning reads the table once.
    pub fn gate(&self, passes: usize) -> Gate {
        let gate = Gate::new(passes);
        self.engine.add_system_table(Arc::new(gate.clone()));
        gate
    }

    /// Runs statements on a branch and returns the result of the last as text.
    pub async fn sql(&self, branch: &str, statements: &[&str]) -> String {
        self.sql_as(None, branch, statements).await
    }

    /// Does the same as [`World::sql`], with the rights of a user.
    pub async fn sql_as(
        &self,
        access: Option<Arc<dyn SessionRights>>,
        branch: &str,
        statements: &[&str],
    ) -> String {
        let reference = RefSpec::Name(branch.to_owned());
        let options = SessionOptions { reference, access, ..SessionOptions::default() };
        let session = self.engine.session(options).unwrap();
        let mut shown = String::new();
        for statement in statements {
            let answer = match session.execute(*statement).await {
                Ok(answer) => answer,
                Err(error) => return error.to_string(),
            };
            shown = match answer.stream.try_collect::<Vec<_>>().await {
                Ok(batches) => pretty_format_batches(&batches).unwrap().to_string(),
                Err(error) => return error.to_string(),
            };
        }
        shown
    }

    /// Waits until a run has written a table on its branch, and returns the branch.
    pub async fn written(&self, table: &str) -> String {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        loop {
            for (branch, _) in self.branches().await {
                let reference = RefSpec::Name(branch.clone());
                let view = self.lake.view(&reference).await.unwrap();
                if view.find("public", table).await.unwrap().is_some() {
                    return branch;
                }
            }
            assert!(std::time::Instant::now() < deadline, "`{table}` is never written");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    pub async fn branch(&self, name: &str) {
        let from = Some(RefSpec::main());
        let request = CreateRef { name: name.to_owned(), from, if_not_exists: false };
        self.lake.catalog().create_branch(request).await.unwrap();
    }

    /// Returns the branches other than `main`, each with true if the branch is in quarantine.
    pub async fn branches(&self) -> Vec<(String, bool)> {
        let branches = self.lake.catalog().branches(None).await.unwrap();
        let others = branches.into_iter().filter(|branch| branch.name != "main");
        others.map(|branch| (branch.name, branch.quarantine.is_some())).collect()
    }

    pub async fn run(&self, files: &ProjectFiles) -> Ran {
        self.run_with(files, |_| ()).await
    }

    pub async fn run_with(
        &self,
        files: &ProjectFiles,
        change: impl FnOnce(&mut RunRequest),
    ) -> Ran {
        self.start(files, change, None).await
    }

    /// Runs a project and stops it once a step has started.
    pub async fn run_and_stop(&self, files: &ProjectFiles) -> Ran {
        self.start(files, |_| (), Some(|event| matches!(event, JobEventKind::StepStarted { .. })))
            .await
    }

    /// Runs a project and stops it once a function has printed something.
    pub async fn run_and_stop_when_printed(&self, files: &ProjectFiles) -> Ran {
        let printed =
            |event: &JobEventKind| matches!(event, JobEventKind::Log { model: Some(_), .. });
        self.start(files, |_| (), Some(printed)).await
    }

    async fn start(
        &self,
        files: &ProjectFiles,
        change: impl FnOnce(&mut RunRequest),
        stop: Option<fn(&JobEventKind) -> bool>,
    ) -> Ran {
        let mut request = RunRequest { files: files.clone(), ..RunRequest::default() };
        change(&mut request);
        let reference = request.reference.as_ref().map(ToString::to_string);
        let new = NewJob { reference, ..NewJob::new(JobKind::Run, "test", "tester") };
        let (context, guard) = self.jobs.record(new).await.unwrap();
        let id = guard.id();
        if let Some(when) = stop {
            tokio::spawn(stop_when(self.jobs.clone(), id, when));
        }
        let outcome = self.runner.run(request, context).await;
        let outcome = outcome.map_err(|error| error.to_problem());
        guard.finish(outcome.clone().map(|report| serde_json::json!(report)));
        self.jobs.wait(id).await.unwrap();
        let events = self.jobs.events(id, 0).await.unwrap();
        let events = events.into_iter().map(|event| event.event).collect();
        Ran { id, outcome, events }
    }

    /// Returns the plan as `name: reason` lines.
    pub async fn plan(&self, files: &ProjectFiles) -> String {
        let request = RunRequest { files: files.clone(), ..RunRequest::default() };
        match self.runner.plan(&request).await {
            Err(error) => shown(&error.to_problem()),
            Ok(plan) => {
                let steps = plan.steps.into_iter();
                let reason = |reason: Option<String>| reason.unwrap_or("unchanged".to_owned());
                let lines = steps.map(|step| format!("{}: {}", step.name, reason(step.reason)));
                lines.collect::<Vec<_>>().join("\n")
            }
        }
    }
}

impl Ran {
    /// Returns the steps as `name status`, sorted by name.
    pub fn steps(&self) -> String {
        let mut steps: Vec<String> = self
            .events
            .iter()
            .filter_map(|event| match event {
                JobEventKind::StepEnded { report } => {
                    let status = serde_json::json!(report.status);
                    Some(format!("{} {}", report.step, status.as_str().unwrap()))
                }
                _ => None,
            })
            .collect();
        steps.sort();
        steps.join(", ")
    }

    /// Returns the report of a step.
    pub fn step(&self, name: &str) -> &StepReport {
        let reports = self.events.iter().filter_map(|event| match event {
            JobEventKind::StepEnded { report } => Some(&**report),
            _ => None,
        });
        reports.into_iter().find(|report| report.step == name).unwrap()
    }

    /// Returns the lines that steps printed and logged, as `model file:line text`. Excludes system
    /// lines without a file, such as the progress of an installation. All tests share the
    /// environments, so only the first run that needs an environment logs its installation.
    pub fn printed(&self) -> Vec<String> {
        let lines = self.events.iter().filter_map(|event| match event {
            JobEventKind::Log { stream: LogStream::System, file: None, .. } => None,
            JobEventKind::Log { model: Some(model), file, line, text, .. } => {
                let (file, line) = (file.as_deref().unwrap_or("?"), line.unwrap_or_default());
                Some(format!("{model} {file}:{line} {text}"))
            }
            _ => None,
        });
        lines.collect()
    }

    pub fn report(&self) -> &RunReport {
        self.outcome.as_ref().unwrap_or_else(|problem| panic!("{}", shown(problem)))
    }

    pub fn refusal(&self) -> String {
        self.outcome.as_ref().map_or_else(shown, |_| "it went well".to_owned())
    }

    pub fn all(&self, status: StepStatus) -> bool {
        self.report().steps.iter().all(|step| step.status == status)
    }
}

/// Stops a job at an event.
async fn stop_when(jobs: Jobs, id: JobId, when: fn(&JobEventKind) -> bool) {
    let mut events = jobs.follow(id, 0).await.unwrap();
    while let Some(event) = events.next().await {
        if when(&event.unwrap().event) {
            jobs.stop(id).await.unwrap();
        }
    }
}

/// Returns options with a folder of environments that all tests on this machine share, so that
/// packages are downloaded only once.
pub fn functions_options() -> FunctionsOptions {
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("functions");
    let path = std::env::var_os("PATH").unwrap_or_default();
    FunctionsOptions {
        spawner: SpawnerCommand {
            program: PathBuf::from(env!("CARGO_BIN_EXE_headwater-pipelines-spawner")),
            arguments: Vec::new(),
        },
        own_dir: target.join("own"),
        environments_dir: target.join("environments"),
        tools_dir: target.join("tools"),
        cache_dir: target.join("cache"),
        memory_bytes_total: 8 << 30,
        concurrency: 4,
        waiting_max: 1_000,
        python_search: std::env::split_paths(&path).collect(),
        nameservers: None,
        reachable_own: Vec::new(),
        connections_max: None,
        isolation: Isolation::Sandbox,
        zygotes: ZygoteOptions::default(),
        telemetry: Telemetry::default(),
    }
}
