//! Previews: rows of every model's result, and nothing is merged.

use headwater_model::{PreviewOptions, RunRequest, StepStatus};
use serde_json::json;

use crate::support::{Ran, World, files};

fn preview(rows: u32, tail: bool) -> impl FnOnce(&mut RunRequest) {
    move |request| request.preview = Some(PreviewOptions { rows, tail })
}

/// Returns the previewed rows of a step as JSON.
fn shown(ran: &Ran, step: &str) -> String {
    let preview = ran.step(step).preview.as_ref();
    preview.map_or_else(String::new, |preview| json!(preview.rows).to_string())
}

#[tokio::test]
async fn a_preview_shows_rows_of_every_model_and_merges_nothing() {
    let world = World::new().await;
    let rows = "CREATE TABLE events AS SELECT value AS id FROM generate_series(1, 50) AS t(value)";
    world.sql("main", &[rows]).await;
    let python = "import headwater\n@headwater.model(materialization='replace')\n\
                  def doubled(t=headwater.Model('recent')):\n    \
                  return [{'twice': 2 * id, 'text': str(id)} for id in t['id'].to_pylist()]\n";
    let project = files(
        "[defaults]\npython = '3.11'\n",
        &[
            ("recent.sql", "SELECT id FROM events WHERE id > 40 ORDER BY id"),
            ("doubled.py", python),
            (
                "total.sql",
                "-- headwater: materialization = replace\nSELECT sum(twice) AS n FROM doubled",
            ),
        ],
    );
    let before = world.sql("main", &["SELECT * FROM system.log"]).await;
    let ran = world.run_with(&project, preview(2, false)).await;
    assert_eq!((ran.report().commit, ran.report().tables.len()), (None, 0));
    assert_eq!(shown(&ran, "recent"), "[[41],[42]]");
    assert_eq!(shown(&ran, "doubled"), r#"[[82,"41"],[84,"42"]]"#);
    assert_eq!(shown(&ran, "total"), "[[910]]");
    let columns = json!(ran.step("doubled").preview.as_ref().unwrap().columns);
    let expected = json!([{"name": "twice", "type": "Int64"}, {"name": "text", "type": "Utf8"}]);
    assert_eq!(columns, expected);
    let ran = world.run_with(&project, preview(3, true)).await;
    assert_eq!(shown(&ran, "recent"), "[[48],[49],[50]]");
    assert_eq!(world.branches().await, [], "the run's branch is removed");
    assert_eq!(world.sql("main", &["SELECT * FROM system.log"]).await, before);

    // A preview reads the rows of unchanged models from their tables, and runs the models without a
    // table.
    world.run(&project).await.report();
    let ran = world.run_with(&project, preview(1, false)).await;
    assert_eq!(ran.steps(), "doubled unchanged, recent succeeded, total unchanged");
    assert_eq!((shown(&ran, "recent"), shown(&ran, "total")), ("[[41]]".into(), "[[910]]".into()));
    assert_eq!(shown(&ran, "doubled"), r#"[[82,"41"]]"#);
    assert!(world.run(&project).await.all(StepStatus::Unchanged));
}

#[tokio::test]
async fn a_failed_preview_leaves_no_branch() {
    let world = World::new().await;
    let project = files(
        "",
        &[
            ("a.sql", "-- headwater: materialization = replace\nSELECT 1 AS n"),
            ("b.sql", "-- headwater: materialization = replace\nSELECT 1 / (n - 1) AS n FROM a"),
        ],
    );
    let ran = world.run_with(&project, preview(1, false)).await;
    assert!(ran.outcome.is_err());
    assert_eq!(shown(&ran, "a"), "[[1]]");
    assert_eq!(world.branches().await, []);
    let retried = |request: &mut RunRequest| {
        request.preview = Some(PreviewOptions { rows: 1, tail: false });
        request.retry = Some(ran.id.to_string());
    };
    let refused = world.run_with(&project, retried).await.refusal();
    assert!(refused.contains("`preview` cannot be combined with `merge` or `retry`"), "{refused}");
}

#[test]
fn the_number_of_rows_is_limited() {
    for rows in [json!(0), json!(1001), json!(-1), json!("x")] {
        let request = serde_json::from_value::<RunRequest>(json!({"preview": {"rows": rows}}));
        assert!(request.is_err(), "{rows}");
    }
    let request: RunRequest = serde_json::from_value(json!({"preview": {}})).unwrap();
    assert_eq!(request.preview, Some(PreviewOptions { rows: 10, tail: false }));
}
