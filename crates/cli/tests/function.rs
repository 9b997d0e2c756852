//! Results of function calls: returned values, printed lines and the job's details.

mod support;

use std::io::{BufRead, BufReader};
use std::sync::mpsc;

use serde_json::json;
use support::{Workspace, until};

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
    let said = "the call needs more memory than its limit of 256 MiB and is retried with 512 MiB";
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
        assert!(workspace.ok(&["job", "logs", id]).contains(said));
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

#[test]
fn the_output_of_calls_is_followed_while_they_run() {
    let workspace = Workspace::new();
    let text = "import time\n\n\ndef handler(event, context):\n    \
                print('first', event, flush=True)\n    time.sleep(event)\n    return event\n";
    workspace.write("slow/app.py", text);
    let arguments = ["function", "deploy", "slow", "slow", "--runtime", "python3.11"];
    workspace.ok(&[&arguments[..], &["--handler", "app.handler"]].concat());
    workspace.ok(&["function", "invoke", "slow", "--arg", "event=0"]);
    let mut follower = workspace.start(&["function", "logs", "slow", "--follow"]);
    let output = BufReader::new(follower.stdout.take().expect("the output"));
    let (sender, lines) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    let calls = ["60", "61"].map(|seconds| {
        let argument = format!("event={seconds}");
        let call = workspace.start(&["function", "invoke", "slow", "--arg", &argument]);
        let said = format!("first {seconds}");
        until("the line is shown", || lines.try_iter().any(|line| line.contains(&said)));
        call
    });
    let running = workspace.json(&["job", "ls", "--kind", "function", "--status", "running"]);
    assert_eq!(running.as_array().map(Vec::len), Some(2), "{running}");
    for job in running.as_array().expect("jobs") {
        workspace.ok(&["job", "stop", job["id"].as_str().expect("an id")]);
    }
    for mut call in calls {
        call.wait().expect("the call ends");
    }
    follower.kill().expect("a signal");
    follower.wait().expect("the command ends");
    reader.join().expect("the thread ends").expect("all lines are received");
}

#[test]
fn a_call_shows_printed_lines_while_the_function_runs() {
    let workspace = Workspace::new();
    let text = "import threading\n\n\ndef handler(event, context):\n    \
                print('first', event, flush=True)\n    threading.Event().wait()\n";
    workspace.write("waits/app.py", text);
    let arguments = ["function", "deploy", "waits", "waits", "--runtime", "python3.11"];
    workspace.ok(&[&arguments[..], &["--handler", "app.handler"]].concat());
    let mut call = workspace.start(&["function", "invoke", "waits", "--arg", "event=1"]);
    let errors = BufReader::new(call.stderr.take().expect("the standard error"));
    let mut lines = errors.lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("first 1")), "the call printed no line");
    // The function waits until its job is stopped, so the command has shown the line before the end
    // of the call.
    let job = workspace.job_until("function", "running");
    workspace.ok(&["job", "stop", job["id"].as_str().expect("an id")]);
    let rest: Vec<String> = lines.collect();
    assert!(rest.iter().any(|line| line.contains("stopped")), "{rest:?}");
    assert!(!rest.iter().any(|line| line.contains("first 1")), "{rest:?}");
    assert_eq!(call.wait().expect("the call ends").code(), Some(130));
}

const REUSED: &str = "\
import headwater


@headwater.function(reuse=True, memory=\"256MiB\")
@headwater.python(\"3.11\", pip={})
def called():
    return 1


@headwater.function(reuse=True, memory=\"256MiB\")
@headwater.python(\"3.11\", pip={})
def fired(event):
    return 2
";

#[test]
fn an_environment_shows_why_an_instance_waits() {
    let workspace = Workspace::new();
    workspace.write("functions/reused.py", REUSED);
    workspace.write("headwater.toml", "[project]\nname = \"test\"\n");
    workspace.ok(&["deploy"]);
    workspace.ok(&["function", "invoke", "called"]);
    let environments = workspace.json(&["environment", "ls"]);
    let id = environments[0]["id"].as_str().expect("an id");
    let explained = || workspace.ok(&["environment", "explain", id]);
    let shown = explained();
    assert!(shown.contains("  1 warm instance of `called` until "), "{shown}");
    assert!(shown.contains(": kept after its last call\n"), "{shown}");
    // An instance is started ahead of the first scheduled call, and serves this call.
    let soon = chrono::Utc::now() + chrono::TimeDelta::seconds(15);
    let soon = soon.format("%Y-%m-%dT%H:%M:%S").to_string();
    let trigger = format!(
        "[[trigger]]\nname = \"once\"\nschedule = {{ cron = \"at({soon})\" }}\n\
         function = \"fired\"\n"
    );
    workspace.write("headwater.toml", format!("[project]\nname = \"test\"\n\n{trigger}"));
    workspace.ok(&["deploy"]);
    let reason = format!(": started ahead of the schedule `at({soon})` at ");
    until("an instance is started ahead of the schedule", || {
        let shown = explained();
        shown.contains("  1 warm instance of `fired` until ") && shown.contains(&reason)
    });
    until("the schedule has fired", || {
        workspace.json(&["event", "ls", "--trigger", "once", "--status", "done"]) != json!([])
    });
    let jobs = workspace.ok(&["job", "ls", "--kind", "function"]);
    let row = jobs.lines().find(|row| row.contains("once: ")).expect("a call");
    assert!(row.contains(" warm "), "{jobs}");
}

/// A project file with functions in other languages than Python.
const COMMANDS: &str = "\
[project]
name = \"test\"

[functions.upper]
command = [\"./bin/upper.sh\", \"!\"]
files = [\"bin/lib\"]
env = { MODE = \"loud\" }
timeout = \"30s\"
memory = \"256MiB\"

[functions.reads-nothing]
command = [\"printf\", \"{\\\"n\\\": 7}\"]

[functions.fails]
command = [\"sh\", \"-c\", \"echo step one >&2; echo it is broken >&2; exit 3\"]

[functions.dies]
command = [\"sh\", \"-c\", \"kill -9 $$\"]

[functions.endless]
command = [\"yes\"]

[functions.binary]
command = [\"printf\", \"\\\\377\"]

[functions.plain]
command = [\"./bin/plain.txt\"]

[functions.writes]
command = [\"sh\", \"-c\", \"echo x > /project/new\"]

[functions.slow]
command = [\"sleep\", \"60\"]
timeout = \"1s\"

[functions.leaves-a-child]
command = [\"sh\", \"-c\", \"sleep 60 & echo 1\"]
";

#[test]
fn a_function_is_a_program_in_any_language() {
    let workspace = Workspace::new();
    workspace.write("headwater.toml", COMMANDS);
    let script = "#!/bin/sh\n. bin/lib/text.sh\necho \"$MODE $0\" >&2\nshout \"$1\"\n";
    workspace.write("bin/upper.sh", script);
    workspace.write("bin/lib/text.sh", "shout() { tr a-z A-Z; printf %s \"$1\"; }\n");
    workspace.write("bin/plain.txt", "no program\n");
    let absent = "\n[functions.absent]\ncommand = [\"no-such-program\"]\n";
    workspace.write("headwater.toml", format!("{COMMANDS}{absent}"));
    let text = workspace.fails(5, &["deploy"]);
    assert!(text.contains("the program `no-such-program` is not on this machine"), "{text}");
    workspace.write("headwater.toml", COMMANDS);
    workspace.ok(&["deploy"]);
    // The result is the same for the function in the working folder and the deployed function, and
    // for cold and warm starts.
    for options in [&["--working-folder"][..], &[], &[]] {
        let call = [&["function", "invoke", "upper", "--arg", "event={\"a\": \"b\"}"], options];
        let told = workspace.run(&call.concat());
        assert_eq!(told.code, 0, "{}", told.stderr);
        assert_eq!(told.stdout.trim().trim_matches('"').replace('\\', ""), "{\"A\": \"B\"}!");
        assert!(told.stderr.contains("loud ./bin/upper.sh"), "{}", told.stderr);
    }
    let found = workspace.json(&["function", "invoke", "reads-nothing", "--arg", "event=1"]);
    assert_eq!(found, json!({"n": 7}));
    assert_eq!(workspace.ok(&["function", "invoke", "leaves-a-child"]).trim(), "1");
    for (name, expected) in [
        ("fails", "exited with status 3"),
        ("fails", "it is broken"),
        ("dies", "was ended by signal 9"),
        ("endless", "`yes` returned more than 64 MiB"),
        ("binary", "returned bytes that are not UTF-8 text"),
        ("plain", "the program is not executable: begin a script with `#!` and its interpreter"),
        ("writes", "Read-only file system"),
        ("slow", "ran longer than its limit of 1 s"),
    ] {
        let told = workspace.run(&["function", "invoke", name]);
        assert!(told.code != 0 && told.stderr.contains(expected), "{name}: {}", told.stderr);
    }
}

#[test]
fn a_program_must_be_declared_with_a_file_of_the_project() {
    let workspace = Workspace::new();
    for (declaration, expected) in [
        ("command = []", "`command` is empty"),
        ("command = [\"./run.sh\"]", "the project has no file `./run.sh`"),
        ("command = [\"../run.sh\"]", "the project has no file `../run.sh`"),
        ("command = [\"ls\"]\nmemory = \"much\"", "`much` is not a size"),
        ("command = [\"ls\"]\nnetwork = [\"a b\"]", "`a b` is not a valid host"),
        ("command = [\"ls\"]\nfiles = [\"lib\"]", "the project has no file or folder `lib`"),
        ("program = [\"ls\"]", "unknown key `program`"),
    ] {
        let text = format!("[project]\nname = \"test\"\n[functions.f]\n{declaration}\n");
        workspace.write("headwater.toml", &text);
        let told = workspace.run(&["deploy", "--dry-run"]);
        assert!(told.code != 0 && told.stderr.contains(expected), "{declaration}: {}", told.stderr);
    }
}

/// A program that returns its event in upper case and the content of a file.
const PROGRAM: &str = r#"
#include <ctype.h>
#include <stdio.h>

int main(void) {
    int c;
    while ((c = getchar()) != EOF) putchar(toupper(c));
    FILE *data = fopen("data.bin", "rb");
    while ((c = getc(data)) != EOF) printf(" %d", c);
    return 0;
}
"#;

#[test]
fn a_compiled_program_and_binary_files_are_part_of_the_project() {
    let workspace = Workspace::new();
    let declared = "[project]\nname = \"test\"\n\
                    [functions.upper]\ncommand = [\"./bin/upper\"]\nfiles = [\"data.bin\"]\n\
                    [functions.plain]\ncommand = [\"./data.bin\"]\n";
    workspace.write("headwater.toml", declared);
    workspace.write("data.bin", [255, 0, 254]);
    let source = workspace.write("upper.c", PROGRAM);
    std::fs::create_dir(workspace.path().join("bin")).expect("a folder");
    let mut compiler = std::process::Command::new("cc");
    let compiled = compiler.arg("-o").arg(workspace.path().join("bin/upper")).arg(source).status();
    assert!(compiled.expect("a C compiler").success());
    workspace.ok(&["deploy"]);
    for options in [&["--working-folder"][..], &[]] {
        let call = [&["function", "invoke", "upper", "--arg", "event=\"ab\""], options].concat();
        let found = workspace.ok(&call);
        assert!(found.contains("AB") && found.contains(" 255 0 254"), "{found}");
    }
    let told = workspace.run(&["function", "invoke", "plain"]);
    assert!(
        told.code != 0 && told.stderr.contains("the program is not executable"),
        "{}",
        told.stderr
    );
    // The server keeps deployed versions. Deploying unchanged files creates no new version.
    let first = workspace.json(&["deployment", "get"]);
    workspace.ok(&["deploy"]);
    assert_eq!(workspace.json(&["deployment", "get"])["version"], first["version"]);
    workspace.write("data.bin", vec![255; 33 << 20]);
    let told = workspace.run(&["deploy"]);
    assert!(told.code != 0 && told.stderr.contains("more than 32 MiB of files"), "{}", told.stderr);
    workspace.write("bad.py", [255, 254]);
    workspace.write("data.bin", [255]);
    let told = workspace.run(&["deploy"]);
    assert!(told.code != 0 && told.stderr.contains("bad.py` is not UTF-8"), "{}", told.stderr);
}
