//! `system.profiles`: statistics of the rows that models wrote, and their expected values.

use std::sync::Arc;

use headwater_model::{AccessObject, StepStatus, TableName};
use headwater_pipelines::register_system_tables;

use crate::reuse::User;
use crate::support::{World, files};

const PROFILES: &str = "SELECT name, \"column\", is_current, rows, nulls, null_fraction, \
                        approx_distinct, min, max, avg FROM system.profiles \
                        ORDER BY name, made, \"column\"";

async fn world() -> World {
    let world = World::new().await;
    register_system_tables(&world.engine);
    let values = "VALUES (1, 'a'), (2, NULL), (3, 'b'), (4, 'b')";
    world
        .sql("main", &[&format!("CREATE TABLE source AS SELECT * FROM ({values}) AS t(id, kind)")])
        .await;
    world
}

async fn profiles(world: &World, name: &str) -> Vec<String> {
    let shown = world.sql("main", &[PROFILES]).await;
    let rows = shown.lines().filter(|line| line.starts_with('|')).skip(1);
    let rows = rows
        .map(|row| row.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join(","));
    rows.filter(|row| row.starts_with(&format!("{name},"))).collect()
}

#[tokio::test]
async fn each_run_keeps_a_profile_of_the_rows_that_it_wrote() {
    let world = world().await;
    let project = files(
        "",
        &[
            ("total.sql", "-- headwater: materialization = replace\nSELECT id, kind FROM source"),
            (
                "grown.sql",
                "-- headwater: materialization = append\n-- headwater: incremental = source\n\
                 SELECT id FROM source",
            ),
            (
                "latest.sql",
                "-- headwater: materialization = merge\n-- headwater: keys = kind\n\
                 SELECT kind, max(id) AS id FROM source WHERE kind IS NOT NULL GROUP BY kind",
            ),
            (
                "checked.sql",
                "-- headwater: materialization = replace\n\
                 -- headwater: expect_or_quarantine = kind IS NOT NULL\nSELECT kind FROM source",
            ),
        ],
    );
    world.run(&project).await.report();
    world.sql("main", &["INSERT INTO source VALUES (10, NULL)"]).await;
    world.run(&project).await.report();
    let expected = [
        "total,id,false,4,0,0.0,4,1,4,2.5",
        "total,kind,false,4,1,0.25,2,a,b,",
        "total,id,true,5,0,0.0,5,1,10,4.0",
        "total,kind,true,5,2,0.4,2,a,b,",
    ];
    assert_eq!(profiles(&world, "total").await, expected);
    let expected = ["grown,id,false,4,0,0.0,4,1,4,2.5", "grown,id,true,1,0,0.0,1,10,10,10.0"];
    assert_eq!(profiles(&world, "grown").await, expected, "only the new rows");
    let expected = [
        "latest,id,false,2,0,0.0,2,1,4,2.5",
        "latest,kind,false,2,0,0.0,2,a,b,",
        "latest,id,true,2,0,0.0,2,1,4,2.5",
        "latest,kind,true,2,0,0.0,2,a,b,",
    ];
    assert_eq!(profiles(&world, "latest").await, expected);
    let checked = ["checked,kind,false,3,0,0.0,2,a,b,", "checked,kind,true,3,0,0.0,2,a,b,"];
    assert_eq!(profiles(&world, "checked").await, checked, "without the quarantine");
    assert!(profiles(&world, "checked_quarantine").await.is_empty());
}

#[tokio::test]
async fn a_user_sees_profiles_only_of_tables_that_it_may_read_completely() {
    let world = world().await;
    let kept = "-- headwater: materialization = replace\nSELECT id AS n FROM source";
    let project = files("", &[("total.sql", kept), ("other.sql", kept), ("open.sql", kept)]);
    world.run(&project).await.report();
    let other = AccessObject::table(&TableName::parse_in("public", "other").unwrap());
    let user = User { hidden: vec![other], ..User::with_row_filter() };
    let query = "SELECT DISTINCT name FROM system.profiles";
    let shown = world.sql_as(Some(Arc::new(user)), "main", &[query]).await;
    assert!(shown.contains("| open |") && !shown.contains("other"), "{shown}");
    assert!(!shown.contains("total"), "a row filter hides rows: {shown}");
}

const STABLE: &str = r#"
import headwater

@headwater.expectation()
def average_is_stable(
    total=headwater.Model("total", columns=["id"]),
    profiles=headwater.Model("system.profiles", filter="name = 'total' AND \"column\" = 'id'"),
):
    averages = [row["avg"] for row in profiles.sort_by("made").to_pylist()][-2:]
    if None in averages:
        return False
    return len(averages) < 2 or abs(averages[1] - averages[0]) <= 0.5 * abs(averages[0])
"#;

#[tokio::test]
async fn an_expectation_compares_the_profile_of_a_run_with_the_one_before() {
    let world = world().await;
    let project = files(
        "[defaults]\npython = '3.11'\n",
        &[
            ("total.sql", "-- headwater: materialization = replace\nSELECT id FROM source"),
            ("stable.py", STABLE),
        ],
    );
    assert!(world.run(&project).await.all(StepStatus::Succeeded));
    world.sql("main", &["INSERT INTO source VALUES (5, NULL)"]).await;
    let ran = world.run(&project).await;
    assert!(ran.all(StepStatus::Succeeded), "2.5 -> 3: {}", ran.steps());
    world.sql("main", &["INSERT INTO source VALUES (1000, NULL)"]).await;
    let ran = world.run(&project).await;
    let problem = ran.outcome.expect_err("the average is far from the average before");
    assert!(problem.to_string().contains("average_is_stable"), "{problem}");
    assert_eq!(profiles(&world, "total").await.len(), 2, "the target is unchanged");
}
