//! Results of function calls: returned values, printed lines and the job's details.

mod support;

use serde_json::json;
use support::Workspace;

/// A function and a model that need more memory than they request.
const NEEDY: &str = "\
import headwater


def eat():
    return len(bytearray(b\"x\") * (300 << 20))


@headwater.function(memory=\"256MiB\")
@headwater.python(\"3.11\", pip={})
def needy():
    return eat()


@headwater.model(memory=\"256MiB\", materialization=\"replace\")
@headwater.python(\"3.11\", pip={})
def eaten():
    return [{\"bytes\": eat()}]


@headwater.function()
@headwater.python(\"3.11\", pip={})
def fails():
    print(\"trying\")
    raise ValueError(\"not today\")
";

fn workspace() -> Workspace {
    let workspace = Workspace::new();
    workspace.write("models/needy.py", NEEDY);
    workspace.ok(&["deploy"]);
    workspace
}

#[test]
fn a_retry_with_more_memory_is_reported_by_the_call_the_run_and_the_job() {
    let workspace = workspace();
    let said = "it needs more memory than its limit of 256 MiB: it runs once more, with 512 MiB";
    for (kind, command) in [("function", &["function", "invoke", "needy"][..]), ("run", &["run"])] {
        let told = workspace.run(command);
        assert!(told.code == 0 && told.stderr.contains(said), "{}", told.stderr);
        assert_eq!(told.stderr.matches(said).count(), 1, "{}", told.stderr);
        let job = &workspace.json(&["job", "ls", "--kind", kind])[0];
        let usage = &job["usage"];
        assert_eq!((&usage["calls"], &usage["retries"]), (&json!(2), &json!(1)), "{job}");
        let id = job["id"].as_str().expect("an id");
        let shown = workspace.ok(&["job", "get", id]);
        assert!(
            shown.contains("2 calls, ") && shown.contains("1 retried with more memory"),
            "{shown}"
        );
        assert!(workspace.run(&["job", "logs", id]).stderr.contains(said));
    }
    let rows = workspace.rows("SELECT kind FROM system.jobs WHERE retries > 0 ORDER BY kind");
    assert_eq!(rows, json!([{"kind": "function"}, {"kind": "run"}]));
}

#[test]
fn a_call_shows_printed_lines_and_its_job_the_wait_times() {
    let workspace = workspace();
    let told = workspace.fails(5, &["function", "invoke", "fails"]);
    let (printed, error) = (told.find("trying"), told.find("not today"));
    assert!(printed.is_some() && printed < error, "{told}");
    let jobs = workspace.ok(&["job", "ls", "--kind", "function"]);
    let (head, row) = jobs.split_once('\n').expect("a row");
    assert!(head.contains("WAITED") && head.contains("START") && row.contains(" cold "), "{jobs}");
    let id = row.split_whitespace().next().expect("an id");
    let shown = workspace.ok(&["job", "get", id]);
    for part in [" ms queue, ", " environment, ", " start\n", "functions  cold\n"] {
        assert!(shown.contains(part), "no `{part}` in:\n{shown}");
    }
    workspace.run(&["function", "invoke", "fails"]);
    let jobs = workspace.ok(&["job", "ls", "--kind", "function"]);
    assert!(jobs.lines().nth(1).is_some_and(|row| row.contains(" warm ")), "{jobs}");
}
