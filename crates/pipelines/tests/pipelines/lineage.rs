//! `system.models` and `system.lineage`: the inputs of the models at their last run.

use headwater_pipelines::register_system_tables;

use crate::support::{World, files};

pub async fn rows(world: &World, branch: &str, query: &str) -> Vec<String> {
    let shown = world.sql(branch, &[query]).await;
    let rows = shown.lines().filter(|line| line.starts_with('|')).skip(1);
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join(","))
        .collect()
}

/// Lists the columns of models with their sources.
pub const COLUMNS: &str = "SELECT name, \"column\", input_name, input_column, exact \
                           FROM system.lineage WHERE \"column\" IS NOT NULL \
                           ORDER BY name, \"column\", input_name, input_column";

#[tokio::test]
async fn models_and_lineage_are_those_of_the_last_runs_on_the_branch() {
    let world = World::new().await;
    register_system_tables(&world.engine);
    let kept = "-- headwater: materialization = replace\n";
    world.sql("main", &["CREATE TABLE events AS SELECT 1 AS id, 10 AS amount, 'x' AS kind"]).await;
    world.sql("main", &["CREATE SCHEMA raw", "CREATE TABLE raw.kinds AS SELECT 'x' AS kind"]).await;
    let python = "import headwater\n@headwater.model(materialization='replace', tags=['a'])\n\
                  def copied(t=headwater.Model('daily')):\n    \"\"\"A copy.\n\n    Whole.\"\"\"\n    \
                  return t\n";
    let recent =
        "-- Recent events.\nSELECT id, amount * 2 AS twice, kind FROM events WHERE kind <> ''";
    let daily = format!(
        "{kept}-- headwater: expect_or_quarantine = total > 100\n\
         SELECT r.kind, sum(r.twice) AS total, count(*) AS n FROM recent AS r \
         JOIN raw.kinds AS k ON r.kind = k.kind GROUP BY r.kind"
    );
    let project = files(
        "[defaults]\npython = '3.11'\n",
        &[("recent.sql", recent), ("daily.sql", &daily), ("copied.py", python)],
    );
    world.run(&project).await.report();
    let models = "SELECT namespace, name, project, kind, materialization, file, line, tags, \
                  updated IS NOT NULL FROM system.models ORDER BY name";
    assert_eq!(
        rows(&world, "main", models).await,
        [
            "public,copied,test,python,replace,copied.py,3,a,true",
            "public,daily,test,sql,replace,daily.sql,1,,true",
            "public,recent,test,sql,none,recent.sql,1,,false",
        ]
    );
    let described =
        "SELECT name, replace(description, chr(10), '/') FROM system.models ORDER BY name";
    let expected = ["copied,A copy.//Whole.", "daily,", "recent,Recent events."];
    assert_eq!(rows(&world, "main", described).await, expected);
    let lineage = "SELECT name, \"column\", input_namespace, input_name, input_column \
                   FROM system.lineage ORDER BY name, \"column\" NULLS FIRST, input_name";
    let expected = [
        "copied,,public,daily,",
        "daily,,raw,kinds,",
        "daily,,public,recent,",
        "daily,kind,public,recent,kind",
        "daily,total,public,recent,twice",
        "recent,,public,events,",
        "recent,id,public,events,id",
        "recent,kind,public,events,kind",
        "recent,twice,public,events,amount",
    ];
    assert_eq!(rows(&world, "main", lineage).await, expected);

    // Each branch has the models of its own last run. Writes of other clients do not change the
    // models.
    world.branch("dev").await;
    let edited = daily.replace("sum(r.twice)", "sum(r.id)");
    let project = files(
        "[defaults]\npython = '3.11'\n",
        &[("recent.sql", recent), ("daily.sql", &edited), ("copied.py", python)],
    );
    let on_dev = |request: &mut headwater_model::RunRequest| {
        request.reference = Some(headwater_model::RefSpec::Name("dev".to_owned()));
    };
    world.run_with(&project, on_dev).await.report();
    world.sql("main", &["INSERT INTO daily VALUES ('y', 1, 1)"]).await;
    assert_eq!(rows(&world, "main", lineage).await, expected);
    let total = "SELECT input_column FROM system.lineage WHERE \"column\" = 'total'";
    assert_eq!(rows(&world, "dev", total).await, ["id"]);
}

#[tokio::test]
async fn declared_columns_of_python_models_may_depend_on_all_columns_that_they_read() {
    let world = World::new().await;
    register_system_tables(&world.engine);
    world.sql("main", &["CREATE TABLE events AS SELECT 1 AS id, 10 AS amount, 'x' AS kind"]).await;
    let python = "import headwater\n@headwater.model(materialization='replace', columns=['id', 'kind'])\n\
                  def copied(t=headwater.Model('events', columns=['id', 'kind'])):\n    \
                  return t\n";
    let kinds = "-- headwater: materialization = replace\nSELECT kind FROM copied";
    let project =
        files("[defaults]\npython = '3.11'\n", &[("copied.py", python), ("kinds.sql", kinds)]);
    world.run(&project).await.report();
    let expected = [
        "copied,id,events,id,false",
        "copied,id,events,kind,false",
        "copied,kind,events,id,false",
        "copied,kind,events,kind,false",
        "kinds,kind,copied,kind,true",
    ];
    assert_eq!(rows(&world, "main", COLUMNS).await, expected);
}

#[tokio::test]
async fn declared_sources_are_exact_and_checked_before_the_run() {
    let world = World::new().await;
    register_system_tables(&world.engine);
    world.sql("main", &["CREATE TABLE events AS SELECT 1 AS id, 'x' AS kind"]).await;
    let project = |source: &str| {
        let python = format!(
            "import headwater\n@headwater.model(materialization='replace', columns=['id', 'kind'], \
             lineage={{'kind': ['events.{source}']}})\n\
             def copied(t=headwater.Model('events')):\n    return t\n"
        );
        files("[defaults]\npython = '3.11'\n", &[("copied.py", &python)])
    };
    let refused = world.plan(&project("knd")).await;
    assert!(refused.contains("`knd`") && refused.contains("Did you mean `kind`?"), "{refused}");
    world.run(&project("kind")).await.report();
    let expected = [
        "copied,id,events,id,false",
        "copied,id,events,kind,false",
        "copied,kind,events,kind,true",
    ];
    assert_eq!(rows(&world, "main", COLUMNS).await, expected);
}
