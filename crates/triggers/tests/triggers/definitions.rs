//! Triggers that are rejected when they are defined.

use headwater_model::{ToProblem, Trigger};
use headwater_triggers::{Result, check_trigger};
use serde_json::{Value, json};

/// Checks that a trigger is rejected with a reason and a hint.
fn check(definition: Value, expected: &str) {
    let trigger: Trigger = serde_json::from_value(definition).expect("a trigger");
    let error = check_trigger(&trigger).expect_err("an error");
    assert!(error.to_string().contains(expected), "{error}");
    assert!(error.hint().is_some());
}

#[test]
fn invalid_triggers_are_errors_with_a_hint() {
    let files = json!({"folder": "in"});
    check(json!({"name": "a", "files": files}), "no target");
    check(json!({"name": "a", "run": true}), "exactly one of");
    let function = json!({"name": "a", "function": "f", "files": files});
    let with = |key: &str, value: Value| {
        let mut definition = function.clone();
        definition[key] = value;
        definition
    };
    check(with("run", json!(true)), "cannot also import files or start a run");
    check(with("import", json!({"table": "t"})), "cannot also import files or start a run");
    check(with("parameters", json!({"a": "b"})), "only for triggers that start a run");
    check(with("concurrency", json!(0)), "between 1 and 1000, not 0");
    check(with("order_by", json!("subjekt")), "no field `subjekt`");
    let ordered = json!({"name": "a", "run": true, "files": files, "order_by": "subject"});
    check(ordered, "only for functions");
    let divided = json!({"name": "a", "run": true, "files": files, "bisect": true});
    check(divided, "`report_failures` and `bisect` are only for functions");
    let schedule = json!({"name": "a", "function": "f", "schedule": "rate(1 hours)",
        "report_failures": true});
    check(schedule, "need a source whose events can contain several items");
    check(json!({"name": "", "run": true, "files": files}), "name is empty");
    for (bucket, expected) in [
        (json!({"name": ""}), "not a valid bucket"),
        (json!({"name": "Landing"}), "not a valid bucket"),
        (json!({"name": "landing", "poll": "5s"}), "only for buckets of other object stores"),
        (json!({"name": "s3://"}), "is not the URL of a bucket"),
        (json!({"name": "s3://partner/in"}), "is not the URL of a bucket"),
        (json!({"name": "s3a://partner"}), "is not the URL of a bucket"),
        (json!({"name": "https://partner"}), "is not the URL of a bucket"),
        (json!({"name": "s3://partner", "events": ["removed"]}), "only the event `created`"),
        (json!({"name": "s3://partner", "poll": "10ms"}), "shorter than one second"),
        (json!({"name": "landing", "events": []}), "`events` is empty"),
        (json!({"name": "landing", "prefix": "k".repeat(1_025)}), "longer than 1024 bytes"),
    ] {
        check(json!({"name": "a", "function": "f", "bucket": bucket}), expected);
    }
    let removed = json!({"name": "landing", "events": ["created", "removed"]});
    let import = json!({"name": "a", "import": {"table": "t"}, "bucket": removed});
    check(import, "objects that were removed cannot be imported");
    let pattern = json!({"folder": "in", "pattern": "*.{csv"});
    check(json!({"name": "a", "run": true, "files": pattern}), "pattern");
    for (names, expected) in [
        (json!([]), "list of tables is empty"),
        (json!(["a/b"]), "`a/b`"),
        (json!(["raw.{a"]), "`raw.{a` is not a pattern"),
        (json!([""]), "not a table name"),
    ] {
        check(json!({"name": "a", "run": true, "tables": {"names": names}}), expected);
    }
    let never = json!({"names": ["t"], "max_events_per_minute": 0});
    check(json!({"name": "a", "run": true, "tables": never}), "`max_events_per_minute` is 0");
    let both = json!({"cron": "* * * * *"});
    let tables = json!({"names": ["t"]});
    check(json!({"name": "a", "run": true, "tables": tables, "schedule": both}), "exactly one");
    let cron = |cron: &str, zone: &str| {
        let schedule = json!({"cron": cron, "timezone": zone});
        json!({"name": "a", "run": true, "schedule": schedule})
    };
    check(cron("61 * * * *", "UTC"), "`61 * * * *`");
    check(cron("0 0 0 1 1 * 2027", "UTC"), "five or six");
    check(cron("* * * * *", "Europe/Berlim"), "`Europe/Berlim`");
    check(cron("0 0 30 2 *", "UTC"), "never fires");
    check(cron("at(noon)", "UTC"), "`at(noon)` is not a time");
}

#[test]
fn an_import_needs_files() {
    for source in [
        json!({"schedule": {"cron": "* * * * *"}}),
        json!({"tables": {"names": ["t"]}}),
        json!({"merges": {}}),
        json!({"jobs": {"kinds": ["run"]}}),
        json!({"queue": {"name": "orders"}}),
        json!({"postgres": {"url": "postgres://u@127.0.0.1:1/d", "channel": "c"}}),
    ] {
        let mut trigger = source.clone();
        (trigger["name"], trigger["import"]) = (json!("a"), json!({"table": "t"}));
        check(trigger.clone(), "its events contain no files to import");
        trigger["import"]["sources"] = json!(["in/*.csv"]);
        check_trigger(&serde_json::from_value(trigger).expect("a trigger")).expect("a trigger");
    }
    for source in [json!({"files": {"folder": "in"}}), json!({"bucket": {"name": "landing"}})] {
        let mut trigger = source.clone();
        (trigger["name"], trigger["import"]) = (json!("a"), json!({"table": "t"}));
        check_trigger(&serde_json::from_value(trigger).expect("a trigger")).expect("a trigger");
    }
}

#[test]
fn invalid_triggers_on_jobs_and_merges_are_errors_with_a_hint() {
    for (jobs, expected) in [
        (json!({"kinds": []}), "`kinds` is empty"),
        (json!({"kinds": ["run"], "statuses": ["running"]}), "never ends as"),
        (json!({"kinds": ["run"], "names": ["a{"]}), "`a{` is not a pattern"),
        (json!({"kinds": ["run"], "names": [""]}), "a name is empty"),
    ] {
        check(json!({"name": "a", "run": true, "jobs": jobs}), expected);
    }
    check(json!({"name": "a", "run": true, "merges": {"into": ["["]}}), "`[` is not a pattern");
    let several = json!({"name": "a", "run": true, "merges": {}, "jobs": {"kinds": ["run"]}});
    check(several, "exactly one");
}

/// Checks a trigger with a source and a filter.
fn parse(source: &Value, filter: &Value) -> Result<()> {
    let mut trigger = json!({"name": "t", "function": "f", "filter": filter});
    for (key, value) in source.as_object().expect("a source") {
        trigger[key] = value.clone();
    }
    check_trigger(&serde_json::from_value(trigger).expect("a trigger"))
}

#[test]
fn a_filter_that_cannot_match_is_rejected() {
    let bucket = json!({"bucket": {"name": "landing"}});
    let files = json!({"files": {"folder": "in"}});
    let tables = json!({"tables": {"names": ["t"]}, "branch": "dev"});
    let schedule = json!({"schedule": {"cron": "* * * * *"}});
    let merges = json!({"merges": {}});
    let jobs = json!({"jobs": {"kinds": ["run"], "statuses": ["failed"]}});
    for (source, filter, expected) in [
        (&bucket, json!({}), "without fields"),
        (&bucket, json!({"subject": "x"}), "`subject` is neither array nor object"),
        (&bucket, json!({"subjekt": ["x"]}), "`subjekt` is not a field"),
        (&bucket, json!({"source": ["s3://other"]}), "never `s3://other`"),
        (&bucket, json!({"type": ["headwater.object.removed"]}), "`type` is never"),
        (&bucket, json!({"data": {"object": {"operation": ["delete"]}}}), "never `delete`"),
        (&files, json!({"data": {"files": {"size": ["1"]}}}), "never `1`"),
        (&files, json!({"data": {"files": ["a"]}}), "`data.files` is an object"),
        (&tables, json!({"data": {"branch": ["main"]}}), "never `main`"),
        (&schedule, json!({"subject": ["x"]}), "`subject` is not a field"),
        (&merges, json!({"source": ["/branches/dev"]}), "never `/branches/dev`"),
        (&merges, json!({"data": {"target": ["dev"]}}), "`data.target` is not a field"),
        (&jobs, json!({"data": {"job": {"kind": ["query"]}}}), "never `query`"),
        (&jobs, json!({"data": {"job": {"status": ["succeeded"]}}}), "never `succeeded`"),
    ] {
        let error = parse(source, &filter).expect_err(expected);
        assert!(error.to_string().contains(expected), "{filter}: {error}");
        assert!(error.hint().is_some());
    }
    parse(&tables, &json!({"data": {"tables": [{"prefix": "raw."}]}})).expect("a filter");
    parse(&merges, &json!({"data": {"source": [{"prefix": "dev"}]}})).expect("a filter");
    parse(&jobs, &json!({"data": {"job": {"error": {"code": ["storage"]}}}})).expect("a filter");
    parse(&schedule, &json!({"time": [{"prefix": "2026-12"}]})).expect("a filter");
}
