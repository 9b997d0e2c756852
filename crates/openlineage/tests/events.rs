//! Events of a run with a stored, an intermediate, a failed and an unchanged model.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use headwater_model::{JobEvent, JobId};
use headwater_openlineage::{ColumnLineage, RunIdentity, events};
use serde_json::{Value, json};

const JOB: &str = "01945f7e-9c00-7000-8000-000000000000";

fn job_events() -> Vec<JobEvent> {
    let step = |name: &str, materialization: Value, parents: Value| {
        json!({
            "name": name, "kind": "sql", "file": format!("models/{name}.sql"), "line": 1,
            "parents": parents, "tables": [], "materialization": materialization,
            "environment": null, "reason": "first run",
        })
    };
    let ended = |name: &str, status: &str, error: Value| {
        json!({
            "type": "step_ended", "step": name, "kind": "sql", "status": status, "rows": 3,
            "usage": headwater_model::Usage::default(), "error": error,
        })
    };
    let failure = json!({"code": "internal", "message": "division by zero"});
    let kinds = [
        json!({"type": "started"}),
        json!({"type": "planned", "steps": [
            step("recent", json!("none"), json!(["raw.orders"])),
            step("daily", json!("replace"), json!(["recent", "public.days"])),
            step("bad", json!("append"), json!([])),
            step("old", json!("replace"), json!([])),
        ]}),
        json!({"type": "step_started", "step": "recent"}),
        ended("recent", "succeeded", Value::Null),
        ended("old", "unchanged", Value::Null),
        json!({"type": "step_started", "step": "daily"}),
        ended("daily", "succeeded", Value::Null),
        json!({"type": "step_started", "step": "bad"}),
        ended("bad", "failed", failure),
        json!({"type": "ended", "status": "failed"}),
    ];
    let event = |(at, mut event): (usize, Value)| -> JobEvent {
        event["sequence"] = json!(at + 1);
        event["time"] = json!(format!("2026-01-01T00:00:{at:02}Z"));
        serde_json::from_value(event).unwrap()
    };
    kinds.into_iter().enumerate().map(event).collect()
}

fn converted() -> Vec<Value> {
    let job: JobId = JOB.parse().unwrap();
    let [namespace, project, branch] = ["lake", "shop", "main"].map(str::to_owned);
    let row = |column: &str, input: [&str; 2], input_column: &str, exact: bool| {
        json!({
            "namespace": "public", "name": "daily", "column": column, "input_namespace": input[0],
            "input_name": input[1], "input_ref": null, "input_column": input_column, "exact": exact,
        })
    };
    let rows = [
        row("total", ["public", "recent"], "amount", true),
        row("day", ["public", "days"], "day", false),
        row("day", ["public", "recent"], "amount", false),
    ];
    let columns: Vec<_> = rows.iter().filter_map(ColumnLineage::from_row).collect();
    events(&RunIdentity { job, namespace, project, branch }, &job_events(), &columns)
}

#[test]
fn each_model_that_ran_starts_and_ends() {
    let events = converted();
    let kinds: Vec<String> = events
        .iter()
        .map(|event| format!("{} {}", event["job"]["name"], event["eventType"]).replace('"', ""))
        .collect();
    assert_eq!(
        kinds,
        [
            "shop.recent START",
            "shop.recent COMPLETE",
            "shop.daily START",
            "shop.daily COMPLETE",
            "shop.bad START",
            "shop.bad FAIL",
        ]
    );
    assert_eq!(events[2]["run"]["runId"], events[3]["run"]["runId"]);
    assert_ne!(events[1]["run"]["runId"], events[2]["run"]["runId"]);
    assert_eq!(events[3]["run"]["facets"]["parent"]["run"]["runId"], JOB);
    assert_eq!(events[3]["eventTime"], "2026-01-01T00:00:06.000000Z");
}

#[test]
fn inputs_and_outputs_are_tables_at_the_branch() {
    let events = converted();
    let names = |event: &Value, side: &str| -> Vec<String> {
        let tables = event[side].as_array().unwrap().iter();
        tables.map(|table| table["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&events[1], "inputs"), ["raw.orders@main"]);
    assert_eq!(names(&events[1], "outputs"), [""; 0], "an intermediate model writes no table");
    assert_eq!(names(&events[3], "inputs"), ["public.recent@main", "public.days@main"]);
    assert_eq!(names(&events[3], "outputs"), ["public.daily@main"]);
    let rows = &events[3]["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"];
    assert_eq!(rows, 3);
    let error = &events[5]["run"]["facets"]["errorMessage"];
    assert_eq!(
        (&error["message"], &error["programmingLanguage"]),
        (&json!("division by zero"), &json!("SQL"))
    );
}

#[test]
fn the_output_of_an_ended_model_has_the_sources_of_its_columns() {
    let events = converted();
    let fields = |event: &Value| event["outputs"][0]["facets"]["columnLineage"]["fields"].clone();
    let source = |table: &str, field: &str| {
        let name = format!("public.{table}@main");
        json!({"namespace": "lake", "name": name, "field": field})
    };
    let mut exact = source("recent", "amount");
    exact["transformations"] = json!([{"type": "DIRECT"}]);
    let day = [source("days", "day"), source("recent", "amount")];
    let expected = json!({"total": {"inputFields": [exact]}, "day": {"inputFields": day}});
    assert_eq!(fields(&events[3]), expected);
    assert_eq!(fields(&events[2]), Value::Null, "an earlier run wrote the sources");
    assert_eq!(fields(&events[5]), Value::Null);
    let of_input = json!({"namespace": "public", "name": "daily", "input_name": "recent"});
    assert_eq!(ColumnLineage::from_row(&of_input), None);
}
