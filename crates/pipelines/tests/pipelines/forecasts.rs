//! Plans of runs: the changes, the tables that are read, the costs, the environments to install,
//! and the affected models.

use headwater_model::{PlannedStep, ProjectFiles, RunPlan, RunRequest};

use crate::support::{World, files};

const KEPT: &str = "-- headwater: materialization = replace\n";

async fn world() -> World {
    let world = World::new().await;
    let tables = ["CREATE TABLE orders AS SELECT 1 AS id, 20 AS amount UNION ALL SELECT 2, 30"];
    world.sql("main", &tables).await;
    world
}

fn shop(daily: &str, clean: &str) -> ProjectFiles {
    let daily = format!("{KEPT}{daily}");
    let weekly = format!("{KEPT}SELECT sum(amount) AS amount FROM daily");
    let manifest = "[parameters.least]\ntype = \"int\"\ndefault = 0\n";
    files(manifest, &[("clean.sql", clean), ("daily.sql", &daily), ("weekly.sql", &weekly)])
}

const DAILY: &str = "SELECT id, sum(amount) AS amount FROM clean GROUP BY id";
const CLEAN: &str = "SELECT id, amount FROM orders WHERE amount > $least";

async fn plan(
    world: &World,
    files: &ProjectFiles,
    change: impl FnOnce(&mut RunRequest),
) -> RunPlan {
    let mut request = RunRequest { files: files.clone(), ..RunRequest::default() };
    change(&mut request);
    world.runner.plan(&request).await.unwrap()
}

fn step<'a>(plan: &'a RunPlan, name: &str) -> &'a PlannedStep {
    plan.steps.iter().find(|step| step.name == name).unwrap()
}

/// Returns the details of a step's reason, with `N` for snapshot ids.
fn why(plan: &RunPlan, name: &str) -> String {
    let why = step(plan, name).why.join("; ");
    let word =
        |word: &str| if word.parse::<u64>().is_ok() { "N".to_owned() } else { word.to_owned() };
    why.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn a_plan_names_the_file_table_or_parameter_that_changed() {
    let world = world().await;
    let project = shop(DAILY, CLEAN);
    let first = plan(&world, &project, |_| ()).await;
    assert_eq!(step(&first, "daily").reason.as_deref(), Some("first run"));
    assert_eq!(step(&first, "daily").why, [""; 0]);
    world.run(&project).await.report();
    let same = plan(&world, &project, |_| ()).await;
    assert!(same.steps.iter().all(|step| step.reason.is_none() && step.why.is_empty()));

    let edited = shop("SELECT id, max(amount) AS amount FROM clean GROUP BY id", CLEAN);
    let edited = plan(&world, &edited, |_| ()).await;
    assert_eq!(step(&edited, "weekly").rows_read, Some(2), "the current rows of `daily`");
    assert_eq!(why(&edited, "daily"), "file `daily.sql` changed");
    assert_eq!(why(&edited, "weekly"), "table `daily` changed");

    let edited = shop(DAILY, &format!("{CLEAN} AND id > 0"));
    let edited = plan(&world, &edited, |_| ()).await;
    assert_eq!(why(&edited, "daily"), "intermediate model `clean` changed");

    let least = |request: &mut RunRequest| {
        request.parameters.insert("least".to_owned(), "5".to_owned());
    };
    let changed = plan(&world, &project, least).await;
    assert_eq!(why(&changed, "daily"), "intermediate model `clean` changed");

    world.sql("main", &["INSERT INTO orders VALUES (3, 40)"]).await;
    let changed = plan(&world, &project, |_| ()).await;
    assert_eq!(why(&changed, "daily"), "table `orders` changed: snapshot N -> N");
    assert_eq!(why(&changed, "weekly"), "table `daily` changed");
}

#[tokio::test]
async fn a_plan_names_changed_modules_and_environments_of_functions() {
    let world = world().await;
    let project = |helper: &str, packages: &str| {
        let model = format!(
            "import headwater\nimport helper\n\n\n@headwater.model(materialization=\"replace\")\n\
             @headwater.python(pip={{{packages}}})\n\
             def m(orders=headwater.Model(\"orders\"), least=headwater.Parameter(\"least\")):\n    \
             return helper.same(orders)\n"
        );
        let manifest = "[parameters.least]\ntype = \"int\"\ndefault = 0\n";
        files(manifest, &[("m.py", &model), ("helper.py", helper)])
    };
    let helper = "def same(table):\n    return table\n";
    let first = plan(&world, &project(helper, "\"six\": \"0.0.1\""), |_| ()).await;
    assert_eq!(first.installs.len(), 1);
    assert_eq!(first.installs[0].environment, "python, six 0.0.1");
    assert_eq!(first.installs[0].steps, ["m"]);

    world.run(&project(helper, "")).await.report();
    let edited = "def same(table):\n    return table.slice(0)\n";
    let changed = plan(&world, &project(edited, ""), |_| ()).await;
    assert_eq!(why(&changed, "m"), "file `helper.py` changed");
    assert_eq!(changed.installs, []);
    let changed = plan(&world, &project(helper, "\"six\": \"1.17.0\""), |_| ()).await;
    assert!(why(&changed, "m").contains("environment changed: python -> python, six 1.17.0"));
    let least = |request: &mut RunRequest| {
        request.parameters.insert("least".to_owned(), "5".to_owned());
    };
    assert_eq!(
        why(&plan(&world, &project(helper, ""), least).await, "m"),
        "parameter `least` changed"
    );
}

#[tokio::test]
async fn a_plan_forecasts_reads_and_costs_and_writes_nothing() {
    let world = world().await;
    let project = shop(DAILY, CLEAN);
    let head = world.lake.catalog().branch("main").await.unwrap().commit;
    let first = plan(&world, &project, |_| ()).await;
    assert_eq!((first.rows_read, step(&first, "clean").rows_read), (2, Some(2)));
    assert_eq!(step(&first, "daily").rows_read, Some(0), "it reads a model of the same run");
    assert!(first.bytes_read > 0 && first.cost > 0.0);
    assert_eq!(first.currency, "USD");
    assert_eq!(world.lake.catalog().branch("main").await.unwrap().commit, head);
    assert_eq!(world.branches().await, []);

    // After a run, the forecast is the cost of the last run instead of the price of the bytes to
    // read.
    let ran = world.run(&project).await;
    let again = plan(&world, &project, |request| request.no_cache = true).await;
    assert_eq!(step(&again, "weekly").cost, Some(ran.step("weekly").cost));
    let nothing = plan(&world, &project, |_| ()).await;
    assert_eq!((nothing.rows_read, nothing.cost), (0, 0.0));
    let weekly = |request: &mut RunRequest| {
        request.select = vec!["weekly".to_owned()];
        request.no_cache = true;
    };
    assert_eq!(plan(&world, &project, weekly).await.rows_read, 2, "the stored table is read");
}

#[tokio::test]
async fn a_plan_names_readers_of_changed_tables_and_breaking_changes() {
    let world = world().await;
    let project = shop(DAILY, CLEAN);
    world.run(&project).await.report();
    world.sql("main", &["CREATE VIEW best AS SELECT max(amount) AS amount FROM daily"]).await;
    let only = |request: &mut RunRequest| request.select = vec!["daily".to_owned()];

    let added = shop("SELECT id, sum(amount) AS amount, 1 AS n FROM clean GROUP BY id", CLEAN);
    let added = plan(&world, &added, only).await;
    let columns = step(&added, "daily").columns.clone().unwrap();
    assert_eq!(
        (columns.added, columns.removed, columns.retyped.len()),
        (vec!["n".into()], vec![], 0)
    );
    let affected: Vec<_> =
        added.affected.iter().map(|it| (&*it.name, &*it.kind, it.breaking)).collect();
    assert_eq!(affected, [("weekly", "sql", Some(false)), ("best", "view", Some(false))]);

    let removed = shop("SELECT id, max(amount) AS most FROM clean GROUP BY id", CLEAN);
    let removed = plan(&world, &removed, only).await;
    assert_eq!(step(&removed, "daily").columns.clone().unwrap().removed, ["amount"]);
    assert!(removed.affected.iter().all(|it| it.breaking == Some(true) && it.reads == ["daily"]));

    let retyped = shop("SELECT id, 'x' AS amount FROM clean GROUP BY id", CLEAN);
    let retyped = plan(&world, &retyped, only).await;
    assert_eq!(step(&retyped, "daily").columns.clone().unwrap().retyped, ["amount: Int64 -> Utf8"]);
}
