//! Reuse of tables that earlier runs have computed: by branch, by rights, and after maintenance.

use std::sync::Arc;

use headwater_engine::SessionRights;
use headwater_model::{
    AccessObject, Action, ErrorCode, JobKind, Limits, MaintainRequest, Problem, ProjectFiles,
    RefSpec, Restriction, Restrictions, RunReport, RunRequest, StepStatus, TableName,
};

use crate::support::{World, files};

const MODELS: &[(&str, &str)] = &[
    ("daily.sql", "-- headwater: materialization = replace\nSELECT id * 10 AS n FROM source"),
    ("total.sql", "-- headwater: materialization = replace\nSELECT sum(n) AS n FROM daily"),
];

/// Creates a lake with a table, and two branches of `main`.
async fn world() -> World {
    let world = World::new().await;
    world.sql("main", &["CREATE TABLE source AS SELECT * FROM (VALUES (1), (2)) AS t(id)"]).await;
    world.branch("one").await;
    world.branch("two").await;
    world
}

fn on(branch: &str) -> impl FnOnce(&mut RunRequest) {
    let reference = branch.to_owned();
    move |request| request.reference = Some(RefSpec::Name(reference))
}

async fn location(world: &World, branch: &str, table: &str) -> String {
    let view = world.lake.view(&RefSpec::Name(branch.to_owned())).await.unwrap();
    let (_, table) = view.find("public", table).await.unwrap().expect("a table");
    table.metadata_location().to_owned()
}

#[tokio::test]
async fn a_table_that_another_branch_computed_is_reused() {
    let (world, project) = (world().await, files("", MODELS));
    assert!(world.run_with(&project, on("one")).await.all(StepStatus::Succeeded));
    let mut request = RunRequest { files: project.clone(), ..RunRequest::default() };
    on("two")(&mut request);
    let plan = world.runner.plan(&request).await.unwrap();
    let reuses: Vec<_> = plan.steps.iter().map(|step| (&step.reason, &step.reuses)).collect();
    assert_eq!(reuses, [(&None, &Some("one".to_owned())); 2]);
    assert_eq!(plan.rows_read, 0);

    let ran = world.run_with(&project, on("two")).await;
    assert!(ran.all(StepStatus::Reused), "{}", ran.steps());
    let daily = ran.step("daily");
    assert_eq!((daily.reuses.as_deref(), daily.rows), (Some("one"), Some(2)));
    assert!(ran.report().commit.is_some() && ran.report().tables.len() == 2);
    for table in ["daily", "total"] {
        assert_eq!(location(&world, "one", table).await, location(&world, "two", table).await);
    }
    assert!(world.sql("two", &["SELECT n FROM total"]).await.contains("| 30 |"));
    assert!(world.run_with(&project, on("two")).await.all(StepStatus::Unchanged));
    assert_eq!(world.branches().await.len(), 2, "no run branch is left");

    // `main` reuses the table after the branches have been merged and deleted.
    let lake = world.lake.catalog();
    lake.delete_branch("one").await.unwrap();
    let ran = world.run(&project).await;
    assert_eq!(ran.step("total").reuses.as_deref(), Some("two"));
}

#[tokio::test]
async fn a_model_runs_if_its_code_inputs_or_parents_differ_or_if_that_is_requested() {
    let (world, project) = (world().await, files("", MODELS));
    world.run_with(&project, on("one")).await.report();
    for change in [
        |request: &mut RunRequest| request.no_reuse = true,
        |request: &mut RunRequest| request.no_cache = true,
    ] {
        world.branch("new").await;
        let ran = world
            .run_with(&project, |request| {
                on("new")(request);
                change(request);
            })
            .await;
        assert!(ran.all(StepStatus::Succeeded), "{}", ran.steps());
        world.lake.catalog().delete_branch("new").await.unwrap();
    }
    // No table is reused if the parent's code or the rows of the source have changed.
    let edited = MODELS[0].1.replace("10", "100");
    let edited = files("", &[("daily.sql", edited.as_str()), MODELS[1]]);
    let ran = world.run_with(&edited, on("two")).await;
    assert!(ran.all(StepStatus::Succeeded), "{}", ran.steps());
    world.branch("three").await;
    world.sql("three", &["INSERT INTO source VALUES (3)"]).await;
    let ran = world.run_with(&project, on("three")).await;
    assert!(ran.all(StepStatus::Succeeded), "{}", ran.steps());

    // If another writer has changed a table, other branches reuse its state before the change.
    world.sql("one", &["DELETE FROM total"]).await;
    world.branch("four").await;
    let ran = world.run_with(&project, on("four")).await;
    assert_eq!(ran.steps(), "daily reused, total reused");
    assert!(world.sql("four", &["SELECT n FROM total"]).await.contains("| 30 |"));
}

/// Returns the project with another query in `daily`.
fn edited() -> ProjectFiles {
    let daily = MODELS[0].1.replace("10", "100");
    files("", &[("daily.sql", daily.as_str()), MODELS[1]])
}

#[tokio::test]
async fn a_reverted_edit_reuses_the_tables_of_an_earlier_run() {
    let (world, project) = (world().await, files("", MODELS));
    world.run_with(&project, on("one")).await.report();
    let first = location(&world, "one", "total").await;
    assert!(world.run_with(&edited(), on("one")).await.all(StepStatus::Succeeded));

    let ran = world.run_with(&project, on("one")).await;
    assert!(ran.all(StepStatus::Reused), "{}", ran.steps());
    assert_eq!(ran.step("total").reuses.as_deref(), Some("one"));
    assert_eq!(location(&world, "one", "total").await, first);
    assert!(world.sql("one", &["SELECT n FROM total"]).await.contains("| 30 |"));
    assert!(world.run_with(&project, on("one")).await.all(StepStatus::Unchanged));

    // Another branch reuses a result that is only in the history of the first branch.
    let ran = world.run_with(&edited(), on("two")).await;
    assert!(ran.all(StepStatus::Reused), "{}", ran.steps());
    assert!(world.sql("two", &["SELECT n FROM total"]).await.contains("| 300 |"));

    // After a change of the inputs, no earlier result is valid.
    world.sql("one", &["INSERT INTO source VALUES (3)"]).await;
    let ran = world.run_with(&edited(), on("one")).await;
    assert!(ran.all(StepStatus::Succeeded), "{}", ran.steps());
    assert!(world.sql("one", &["SELECT n FROM total"]).await.contains("| 600 |"));
}

#[tokio::test]
async fn a_table_of_the_history_is_not_reused_after_a_change_of_its_properties() {
    let (world, project) = (world().await, files("", MODELS));
    world.run_with(&project, on("one")).await.report();
    let name = "public.daily".parse().unwrap();
    let mut transaction = world.lake.transaction("one", "tester").await.unwrap();
    let properties = [("team".to_owned(), "sales".to_owned())].into();
    transaction.set_properties(&name, properties).await.unwrap();
    transaction.commit("properties").await.unwrap();
    world.run_with(&edited(), on("one")).await.report();
    let ran = world.run_with(&project, on("one")).await;
    assert!(ran.all(StepStatus::Succeeded), "{}", ran.steps());
    let view = world.lake.view(&RefSpec::Name("one".to_owned())).await.unwrap();
    let (_, table) = view.find("public", "daily").await.unwrap().expect("a table");
    assert_eq!(table.properties()["team"], "sales");
}

#[tokio::test]
async fn a_table_of_the_history_is_reused_only_by_users_that_may_read_its_branch() {
    let (world, project) = (world().await, files("", MODELS));
    run_as(&world, User::default(), &project, "one").await;
    run_as(&world, User::default(), &edited(), "one").await;
    let no_branch = User { hidden: vec![AccessObject::branch("one")], ..User::default() };
    let report = run_as(&world, no_branch, &project, "two").await;
    assert_eq!(statuses(&report), [StepStatus::Succeeded; 2]);
    world.branch("three").await;
    let report = run_as(&world, User::with_row_filter(), &project, "three").await;
    assert_eq!(statuses(&report), [StepStatus::Reused, StepStatus::Succeeded]);

    // A new branch with the name of a deleted branch does not have the history of that branch.
    for name in ["one", "two", "three"] {
        world.lake.catalog().delete_branch(name).await.unwrap();
    }
    world.branch("one").await;
    world.branch("two").await;
    let report = run_as(&world, User::default(), &project, "two").await;
    assert_eq!(statuses(&report), [StepStatus::Succeeded; 2]);
}

#[tokio::test]
async fn a_run_after_an_expiry_of_snapshots_refers_only_to_existing_files() {
    let (world, project) = (world().await, files("", MODELS));
    let expire = MaintainRequest {
        expire_before_seconds: Some(0),
        keep: Some(1),
        orphans: true,
        orphans_older_than_seconds: Some(3600),
        force: true,
        ..MaintainRequest::default()
    };
    let progress: headwater_lake::MaintenanceProgress = Arc::new(|_, _| {});
    let edited = edited();
    for (files, expected) in
        [(&project, "| 30 |"), (&edited, "| 300 |"), (&project, "| 30 |"), (&edited, "| 300 |")]
    {
        // A run reuses a table only if snapshot expiry kept the table's files.
        world.run_with(files, on("one")).await.report();
        let stop = tokio_util::sync::CancellationToken::new();
        let maintenance = world.lake.maintenance();
        maintenance.run("one", None, &expire, progress.clone(), stop).await.unwrap();
        assert!(world.sql("one", &["SELECT n FROM total"]).await.contains(expected));
        let count = world.sql("one", &["SELECT count(*) AS n FROM daily"]).await;
        assert!(count.contains("| 2 |"), "{count}");
    }
}

/// Models that keep the rows of earlier runs; `fresh` and `latest` read only new rows of `source`.
const GROWING: &[(&str, &str)] = &[
    ("grown.sql", "-- headwater: materialization = append\nSELECT id FROM source"),
    (
        "fresh.sql",
        "-- headwater: materialization = append\n-- headwater: incremental = source\n\
         SELECT id FROM source",
    ),
    (
        "latest.sql",
        "-- headwater: materialization = merge\n-- headwater: keys = id\n\
         -- headwater: incremental = source\nSELECT id, id * 10 AS n FROM source",
    ),
    (
        "parts.sql",
        "-- headwater: materialization = overwrite_partitions\n\
         -- headwater: partition_by = id\nSELECT id, id + 1 AS n FROM source",
    ),
];

#[tokio::test]
async fn a_table_that_keeps_rows_is_reused_only_on_the_same_table_before_the_run() {
    let (world, project) = (world().await, files("", GROWING));
    // All models run on the first branch, because no branch has their tables yet.
    assert!(world.run_with(&project, on("one")).await.all(StepStatus::Succeeded));
    let ran = world.run_with(&project, on("two")).await;
    assert!(ran.all(StepStatus::Reused), "{}", ran.steps());

    // Both branches start with the tables and the new rows of `main`.
    assert!(world.run(&project).await.all(StepStatus::Reused));
    world.sql("main", &["INSERT INTO source VALUES (3)"]).await;
    world.branch("three").await;
    world.branch("four").await;
    assert!(world.run_with(&project, on("three")).await.all(StepStatus::Succeeded));
    let ran = world.run_with(&project, on("four")).await;
    assert!(ran.all(StepStatus::Reused), "{}", ran.steps());
    for (table, _) in GROWING {
        let table = table.trim_end_matches(".sql");
        assert_eq!(location(&world, "three", table).await, location(&world, "four", table).await);
    }
    let count = "SELECT count(*) AS n FROM fresh";
    assert!(world.sql("four", &[count]).await.contains("| 3 |"), "each row once");
    // The read position is part of the reused table, so the next run reads only newer rows.
    world.sql("four", &["INSERT INTO source VALUES (4)"]).await;
    assert!(world.run_with(&project, on("four")).await.all(StepStatus::Succeeded));
    assert!(world.sql("four", &[count]).await.contains("| 4 |"), "each row once");

    // With other rows before the run, the same code and inputs compute another table.
    world.branch("five").await;
    let change = |table: &str| format!("DELETE FROM {table} WHERE id = 1");
    for (table, _) in GROWING {
        world.sql("five", &[&change(table.trim_end_matches(".sql"))]).await;
    }
    let ran = world.run_with(&project, on("five")).await;
    assert!(ran.all(StepStatus::Succeeded), "{}", ran.steps());
    assert!(world.sql("five", &[count]).await.contains("| 2 |"), "the deleted row is not back");
}

#[tokio::test]
async fn a_rebuild_of_an_incremental_model_is_not_reused() {
    let (world, project) = (world().await, files("", &GROWING[1..2]));
    world.run(&project).await.report();
    world.sql("main", &["DELETE FROM fresh", "INSERT INTO source VALUES (3)"]).await;
    world.branch("three").await;
    world.branch("four").await;
    let ran = world
        .run_with(&project, |request| {
            on("three")(request);
            request.no_cache = true;
        })
        .await;
    assert!(ran.all(StepStatus::Succeeded), "{}", ran.steps());
    let ran = world.run_with(&project, on("four")).await;
    assert!(ran.all(StepStatus::Succeeded), "{}", ran.steps());
    assert!(world.sql("four", &["SELECT count(*) AS n FROM fresh"]).await.contains("| 1 |"));
}

#[tokio::test]
async fn models_that_depend_on_more_than_code_and_inputs_are_not_reused() {
    let world = world().await;
    let checked = "-- headwater: materialization = replace\n\
                   -- headwater: expect_or_quarantine = id > 1\nSELECT id FROM source";
    let system = "-- headwater: materialization = replace\nSELECT count(*) AS n FROM system.tables";
    let shared = "import headwater\n\n@headwater.model(materialization='replace', reuse=True)\n\
                  def shared(source=headwater.Model('source')):\n    return source\n";
    let models = [("checked.sql", checked), ("seen.sql", system), ("shared.py", shared)];
    let project = files("[defaults]\npython = '3.11'\n", &models);
    world.run_with(&project, on("one")).await.report();
    let ran = world.run_with(&project, on("two")).await;
    assert!(ran.all(StepStatus::Succeeded), "{}", ran.steps());
}

#[tokio::test]
async fn maintenance_and_the_deletion_of_a_branch_keep_the_files_that_another_branch_reuses() {
    let (world, project) = (world().await, files("", MODELS));
    world.run_with(&project, on("one")).await.report();
    assert!(world.run_with(&project, on("two")).await.all(StepStatus::Reused));
    let edited = MODELS[0].1.replace("10", "100");
    let edited = files("", &[("daily.sql", edited.as_str()), MODELS[1]]);
    world.run_with(&edited, on("one")).await.report();
    let expire = MaintainRequest {
        expire_before_seconds: Some(0),
        keep: Some(1),
        orphans: true,
        orphans_older_than_seconds: Some(3600),
        force: true,
        ..MaintainRequest::default()
    };
    let progress: headwater_lake::MaintenanceProgress = Arc::new(|_, _| {});
    let maintain = async |branch: &str| {
        let stop = tokio_util::sync::CancellationToken::new();
        let maintenance = world.lake.maintenance();
        maintenance.run(branch, None, &expire, progress.clone(), stop).await.unwrap()
    };
    maintain("one").await;
    assert!(world.sql("two", &["SELECT n FROM daily ORDER BY n"]).await.contains("| 20 |"));
    world.lake.catalog().delete_branch("one").await.unwrap();
    maintain("two").await;
    maintain("main").await;
    assert!(world.sql("two", &["SELECT n FROM total"]).await.contains("| 30 |"));
}

/// The rights of a user: all rights, except to read or use the objects in `hidden`, and with a
/// restriction on one table.
#[derive(Debug, Default)]
pub struct User {
    pub hidden: Vec<AccessObject>,
    pub restricted: Option<(TableName, Restrictions)>,
    pub digest: Option<String>,
    pub limits: Limits,
}

impl User {
    /// Returns a user with a row filter on the table `total`.
    pub fn with_row_filter() -> User {
        let total = TableName::parse_in("public", "total").unwrap();
        let filter: Restriction = serde_json::from_value(serde_json::json!({
            "name": "small", "table": "total", "table_id": "", "using": "n < 5", "columns": {},
            "created": "2026-01-01T00:00:00Z", "by": "owner",
        }))
        .unwrap();
        let restrictions = Restrictions { all: vec![filter], ..Restrictions::default() };
        User { restricted: Some((total, restrictions)), ..User::default() }
    }
}

impl SessionRights for User {
    fn check(&self, action: Action, object: &AccessObject) -> Result<(), Problem> {
        let denied = || Problem::new(ErrorCode::Forbidden, format!("may not {action} {object}"));
        self.allows(action, object).then_some(()).ok_or_else(denied)
    }

    fn allows(&self, action: Action, object: &AccessObject) -> bool {
        // Compare the names, because the objects of stored tables also contain their owners.
        let is_hidden = self.hidden.iter().any(|it| it.to_string() == object.to_string());
        !(matches!(action, Action::Read | Action::Select | Action::Use) && is_hidden)
    }

    fn is_limited(&self) -> bool {
        true
    }

    fn restrictions(&self, table: &TableName, _: Option<&str>) -> Option<Restrictions> {
        let (name, restrictions) = self.restricted.as_ref()?;
        (name == table).then(|| restrictions.clone())
    }

    fn restriction_by_name(&self, _: &TableName, _: &str) -> Option<Restriction> {
        None
    }

    fn restriction_digest(&self) -> Option<String> {
        self.digest.clone()
    }

    fn limits(&self) -> Limits {
        self.limits
    }
}

/// Returns the report of a run by a user.
async fn run_as(world: &World, user: User, project: &ProjectFiles, branch: &str) -> RunReport {
    let runner = world.runner.with_access(Some(Arc::new(user)));
    let mut request = RunRequest { files: project.clone(), ..RunRequest::default() };
    on(branch)(&mut request);
    let new = headwater_jobs::NewJob::new(JobKind::Run, "test", "ana");
    let (context, guard) = world.jobs.record(new).await.unwrap();
    let report = runner.run(request, context).await.unwrap();
    guard.finish(Ok(serde_json::json!(report)));
    report
}

fn statuses(report: &RunReport) -> Vec<StepStatus> {
    report.steps.iter().map(|step| step.status).collect()
}

#[tokio::test]
async fn a_user_reuses_only_tables_that_it_may_read() {
    let (world, project) = (world().await, files("", MODELS));
    run_as(&world, User::default(), &project, "one").await;

    let no_branch = User { hidden: vec![AccessObject::branch("one")], ..User::default() };
    let report = run_as(&world, no_branch, &project, "two").await;
    assert_eq!(statuses(&report), [StepStatus::Succeeded; 2], "it may not read the branch");

    world.branch("three").await;
    let report = run_as(&world, User::default(), &project, "three").await;
    assert_eq!(statuses(&report), [StepStatus::Reused; 2], "another user's table");

    // A row filter on the table: nothing is reused, although the table existed before the row
    // filter.
    world.branch("four").await;
    let report = run_as(&world, User::with_row_filter(), &project, "four").await;
    assert_eq!(statuses(&report), [StepStatus::Reused, StepStatus::Succeeded]);

    // A row filter on an input: another user reads other rows, so the table that another user
    // computed is not reused.
    world.branch("five").await;
    let filtered = User { digest: Some("a".to_owned()), ..User::default() };
    let report = run_as(&world, filtered, &project, "five").await;
    assert_eq!(statuses(&report), [StepStatus::Succeeded; 2]);
}
