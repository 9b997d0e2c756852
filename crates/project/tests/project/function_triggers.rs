//! Triggers that functions declare: `@headwater.function(on=[…])`.

use std::time::Duration;

use headwater_project::Project;
use serde_json::json;

use crate::support::{self, files, refusal};

/// Returns a file with the function `clean` below its decorator, whose arguments begin on line 4.
fn function(arguments: &str) -> String {
    format!(
        "import headwater\n\n@headwater.function(\n{arguments})\ndef clean(event):\n    return event\n"
    )
}

fn parse(manifest: &str, arguments: &str) -> Project {
    support::parse(&files(manifest, &[("functions/clean.py", &function(arguments))])).unwrap()
}

/// Returns the error for an item of `on`, which is on line 5.
fn refused(item: &str) -> String {
    refused_in("", &format!("on=[\n{item},\n]\n"))
}

fn refused_in(manifest: &str, arguments: &str) -> String {
    refusal(&files(manifest, &[("functions/clean.py", &function(arguments))]))
}

fn names(project: &Project) -> Vec<&str> {
    project.triggers.iter().map(|trigger| trigger.name.as_str()).collect()
}

const EVERY_SOURCE: &str = r#"
    name="tidy",
    on=(
        {"schedule": {"cron": "0 6 * * *", "timezone": "Europe/Berlin"}},
        {"schedule": "rate(5 minutes)", "retries": 2, "max_age": "6h"},
        {"bucket": {"name": "landing", "prefix": "in/", "events": ["created", "removed"]},
         "filter": {"data": {"object": {"size": [{"numeric": [">", 1024, "<=", 1048576]}]}}}},
        {"files": {"folder": "in", "debounce": "20ms"}, "order_by": "subject"},
        {"tables": {"names": ["shop.orders"], "batch": 1}, "branch": "dev", "concurrency": 4},
        {"merges": {"into": ["main"]}, "name": "merged"},
        {"jobs": {"kinds": ["run"], "statuses": ["failed"]}},
        {"queue": "orders", "branch": None},
        {"postgres": {"url": "postgres://headwater@db.example.com/shop", "channel": "orders"}},
        {"nats": {"url": "nats://nats.example.com:4222", "stream": "S", "subject": "s.*"}},
        {"kafka": {"servers": "kafka.example.com:9092", "topic": "clicks"}},
    ),
"#;

#[test]
fn every_source_and_option_of_the_project_file_is_read() {
    let project = parse("", EVERY_SOURCE);
    assert_eq!(
        names(&project),
        [
            "tidy", "tidy-2", "tidy-3", "tidy-4", "tidy-5", "merged", "tidy-7", "tidy-8", "tidy-9",
            "tidy-10", "tidy-11"
        ]
    );
    assert!(project.triggers.iter().all(|one| one.function.as_deref() == Some("tidy")));
    let [first, second, third, fourth, fifth, ..] = &project.triggers[..] else {
        panic!("{:?}", project.triggers)
    };
    assert_eq!(first.source(), "0 6 * * * Europe/Berlin");
    assert_eq!(first.defined_at, "functions/clean.py:7");
    assert_eq!((second.retries, second.max_age), (2, Duration::from_hours(6)));
    assert_eq!(third.source(), "created, removed in s3://landing/in/*");
    let size = json!([{"numeric": [">", 1024, "<=", 1_048_576]}]);
    assert_eq!(third.filter, Some(json!({"data": {"object": {"size": size}}})));
    assert_eq!(fourth.order_by.as_deref(), Some("subject"));
    assert_eq!((fifth.branch.as_deref(), fifth.concurrency), (Some("dev"), Some(4)));
}

#[test]
fn triggers_of_both_kinds_are_equal_except_for_their_location() {
    let manifest = "\n[[trigger]]\nname = \"files\"\nfunction = \"clean\"\n\
                    files = { folder = \"in\", batch = 3 }\n\
                    filter.subject = [{ suffix = \".csv\" }]\n";
    let item = "on=[{'files': {'folder': 'in', 'batch': 3},\n\
                'filter': {'subject': [{'suffix': '.csv'}]}}]\n";
    let project = parse(manifest, item);
    assert_eq!(names(&project), ["files", "clean"]);
    let [declared, of_function] = &project.triggers[..] else { panic!("{:?}", project.triggers) };
    assert_eq!(declared.defined_at, "headwater.toml:4");
    assert_eq!(of_function.defined_at, "functions/clean.py:4");
    let mut same = declared.clone();
    same.name.clone_from(&of_function.name);
    same.defined_at.clone_from(&of_function.defined_at);
    assert_eq!(same, *of_function);
    assert!(parse("", "on=None\n").triggers.is_empty());
    assert!(parse("", "on=[]\n").triggers.is_empty());
}

#[test]
fn items_that_are_not_triggers_are_rejected_with_their_line() {
    insta::assert_snapshot!(refused_in("", "on={'queue': 'orders'}"), @r#"
    invalid_project: `on` of `function` does not accept the value `{'queue': 'orders'}` (functions/clean.py:4)
      hint: Write the value as `on=[{"schedule": "0 6 * * *"}]`.
    "#);
    insta::assert_snapshot!(refused("'0 6 * * *'"), @r#"
    invalid_project: `'0 6 * * *'` in `on` is not a trigger (functions/clean.py:5)
      hint: Write `on=[{"schedule": "0 6 * * *"}]`.
    "#);
    insta::assert_snapshot!(refused("{'queue': 'orders'},\n{'schedule': EVERY_DAY}"), @r"
    invalid_project: `on` of `function` is not a literal (functions/clean.py:6)
      hint: Write the value itself: files are read without being run.
    ");
    insta::assert_snapshot!(refused("{**DEFAULTS, 'queue': 'orders'}"), @r"
    invalid_project: `on` of `function` is not a literal (functions/clean.py:5)
      hint: Write the value itself: files are read without being run.
    ");
    insta::assert_snapshot!(refused("{}"), @r"
    invalid_project: trigger `clean` cannot be used: it needs exactly one of `files`, `bucket`, `schedule`, `tables`, `merges`, `jobs`, `queue`, `postgres`, `nats` and `kafka` (functions/clean.py:5)
      hint: Give the trigger one source, such as `files` or `schedule`.
    ");
    insta::assert_snapshot!(refused("{'queue': 'orders',\n'run': True}"), @r"
    invalid_project: a trigger in `on` always calls `clean`; the key `run` is not supported (functions/clean.py:6)
      hint: Remove the key, or declare the trigger in headwater.toml.
    ");
}

#[test]
fn invalid_keys_and_values_are_rejected_with_their_line() {
    insta::assert_snapshot!(refused("{\n'shedule': 'rate(5 minutes)'}"), @r"
    invalid_project: unknown key `shedule` (functions/clean.py:6)
      hint: Did you mean `schedule`?
    ");
    insta::assert_snapshot!(refused("{'bucket': {\n'name': 'landing',\n'prefx': 'in/'}}"), @r"
    invalid_project: unknown key `prefx` (functions/clean.py:7)
      hint: Did you mean `prefix`?
    ");
    insta::assert_snapshot!(refused("{'bucket': {'prefix': 'in/'}}"), @r#"
    invalid_project: the key `name` is missing (functions/clean.py:5)
      hint: Add `"name": "…"`.
    "#);
    insta::assert_snapshot!(refused("{'schedule': {'cron': '* * * * *', 'catchup': 'onse'}}"), @r"
    invalid_project: the value of a key is invalid: `onse` is not one of `skip`, `once`, `all` (functions/clean.py:5)
      hint: Did you mean `once`?
    ");
    insta::assert_snapshot!(refused("{'queue': 'orders', 'name': 3}"), @r#"
    invalid_project: the value `3` is not text (functions/clean.py:5)
      hint: Write `"3"`.
    "#);
    insta::assert_snapshot!(refused("{'queue': 'orders', 'name': ['a']}"), @r"
    invalid_project: the value has the wrong type: sequence, expected a string (functions/clean.py:5)
      hint: Correct the value; docs/triggers.md shows the keys.
    ");
    insta::assert_snapshot!(refused("{'queue': 'orders', 'max_age': 'long'}"), @r"
    invalid_project: `long` is not a duration such as `500ms` or `2s` (functions/clean.py:5)
      hint: Correct the value; docs/triggers.md shows the keys.
    ");
}

#[test]
fn names_of_triggers_are_unique() {
    let manifest = "\n[[trigger]]\nname = \"clean\"\nrun = true\n\
                    schedule = \"rate(5 minutes)\"\n";
    insta::assert_snapshot!(refused_in(manifest, "on=[{'queue': 'orders'}]\n"), @r#"
    invalid_project: trigger `clean` is also declared in headwater.toml:4 (functions/clean.py:4)
      hint: Rename one of the two triggers. For a trigger in `on`, set the name with the key `"name"`.
    "#);
    let twice = "on=[\n{'queue': 'a', 'name': 'clean-2'},\n{'queue': 'b'},\n]\n";
    insta::assert_snapshot!(refused_in("", twice), @r#"
    invalid_project: trigger `clean-2` is also declared in functions/clean.py:5 (functions/clean.py:6)
      hint: Rename one of the two triggers. For a trigger in `on`, set the name with the key `"name"`.
    "#);
    let named = "on=[{'queue': 'orders', 'name': 'orders'}]\n";
    assert_eq!(names(&parse(manifest, named)), ["clean", "orders"]);
}

#[test]
fn a_function_with_triggers_takes_the_event() {
    let code = function("on=[{'queue': 'orders'}]\n").replace("(event):", "(event, limit):");
    insta::assert_snapshot!(refusal(&files("", &[("functions/clean.py", &code)])), @r"
    invalid_project: trigger `clean`: function `clean` must take exactly one argument, the event, but takes 2 (functions/clean.py:6) (functions/clean.py:4)
      hint: Declare the function as `def clean(event):`.
    ");
}
