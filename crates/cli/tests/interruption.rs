//! Ctrl-C, `kill -9` and a full disk: afterwards the lake opens, and `main` is unchanged.

mod support;

use std::process::Command;

use serde_json::json;
use support::{Workspace, python, until};

/// Creates a project whose run prints a line and then never ends.
fn endless() -> Workspace {
    let workspace = Workspace::new();
    workspace.write("data.csv", "x\n1\n2\n");
    workspace.ok(&["table", "import", "numbers", "data.csv"]);
    workspace.write(
        "models/endless.py",
        "import headwater\n\n\n@headwater.model(materialization=\"replace\")\n\
         @headwater.python(\"3.11\", pip={})\n\
         def endless(numbers=headwater.Model(\"numbers\")):\n    \
             print(\"begun\", flush=True)\n    \
             while True:\n        pass\n",
    );
    workspace
}

/// Starts the run and waits until the function has started.
fn start_run(workspace: &Workspace) -> (std::process::Child, String) {
    let run = workspace.start(&["run"]);
    let job = workspace.job_until("run", "running");
    let id = job["id"].as_str().expect("an id").to_owned();
    until("the function has begun", || {
        let events = workspace.json(&["job", "logs", &id]);
        events.as_array().is_some_and(|events| events.iter().any(|e| e["text"] == "begun"))
    });
    (run, id)
}

fn assert_main_unchanged(workspace: &Workspace) {
    let tables = workspace.json(&["table", "ls", "--ref", "main"]);
    let names: Vec<_> = tables.as_array().expect("tables").iter().map(|t| &t["name"]).collect();
    assert_eq!(names, [&json!("numbers")]);
    assert_eq!(workspace.rows("SELECT sum(x) AS x FROM numbers"), json!([{"x": 3}]));
}

#[test]
fn ctrl_c_stops_the_run_and_reports_it() {
    let workspace = endless();
    let (run, id) = start_run(&workspace);
    let signal = Command::new("kill").args(["-INT", &run.id().to_string()]).status();
    assert!(signal.expect("kill runs").success());
    let answer = support::answer(run.wait_with_output().expect("the command ends"));
    assert_eq!(answer.code, 130, "{}", answer.stderr);
    assert_eq!(workspace.json(&["job", "get", &id])["status"], "cancelled");
    assert_main_unchanged(&workspace);
}

#[test]
fn a_killed_server_leaves_main_unchanged_and_the_run_interrupted() {
    let workspace = endless();
    let (run, id) = start_run(&workspace);
    workspace.kill_server();
    // The command connects to the next server, which has recorded the end of the run.
    let answer = support::answer(run.wait_with_output().expect("the command ends"));
    assert_eq!(answer.code, 5, "{}", answer.stderr);
    let says = "the server stopped unexpectedly while the job ran";
    assert!(answer.stderr.contains(says), "{}", answer.stderr);
    let job = workspace.json(&["job", "get", &id]);
    assert_eq!(job["status"], "interrupted", "{job}");
    assert_main_unchanged(&workspace);
}

#[test]
fn a_queued_run_is_followed_to_its_end_although_the_server_is_killed() {
    let workspace = endless();
    let (first, _) = start_run(&workspace);
    let brief = "-- headwater: materialization = replace\nSELECT sum(x) AS s FROM numbers\n";
    std::fs::remove_file(workspace.path().join("models/endless.py")).expect("a file");
    workspace.write("models/brief.sql", brief);
    let queued = workspace.start(&["run"]);
    let id = workspace.job_until("run", "queued")["id"].as_str().expect("an id").to_owned();
    workspace.kill_server();
    let answer = support::answer(queued.wait_with_output().expect("the command ends"));
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    let says = format!("the server stopped; connecting again to follow job {id}");
    assert!(answer.stderr.contains(&says), "{}", answer.stderr);
    assert_eq!(answer.stderr.matches("brief").count(), 1, "{}", answer.stderr);
    assert_eq!(workspace.rows("SELECT s FROM brief"), json!([{"s": 3}]));
    first.wait_with_output().expect("the first command ends");
}

#[test]
fn commands_that_start_at_once_after_a_kill_share_the_next_server() {
    let workspace = Workspace::new();
    workspace.ok(&["query", "CREATE TABLE t AS SELECT 1 AS x"]);
    for _ in 0..3 {
        workspace.kill_server();
        let commands: Vec<_> =
            (0..8).map(|_| workspace.start(&["query", "SELECT x FROM t"])).collect();
        for command in commands {
            let answer = support::answer(command.wait_with_output().expect("the command ends"));
            assert_eq!(answer.code, 0, "{}", answer.stderr);
        }
    }
}

/// Runs a script in a new lake on a temporary file system of this size.
fn on_disk_of(megabytes: u32, workspace: &Workspace, script: &str) -> support::Answer {
    let made = format!(
        "mkdir lake && mount -t tmpfs -o size={megabytes}m tmpfs lake && cd lake
        \"$HEADWATER\" init --name full >/dev/null 2>&1
        {script}"
    );
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &made])
        .env("HEADWATER", env!("CARGO_BIN_EXE_headwater"))
        .env("NO_COLOR", "1")
        .env_remove("HEADWATER_LAKE")
        .current_dir(workspace.path())
        .output();
    support::answer(output.expect("unshare runs"))
}

#[test]
fn a_lake_on_a_full_disk_is_readable_and_otherwise_the_error_names_the_cause() {
    let workspace = Workspace::empty();
    let script = "
        \"$HEADWATER\" query 'CREATE TABLE t AS SELECT 1 AS x' >/dev/null 2>&1
        \"$HEADWATER\" stop >/dev/null 2>&1
        dd if=/dev/zero of=fill bs=4096 2>/dev/null
        \"$HEADWATER\" query 'SELECT x FROM t' --output json
        echo \"read $?\"
        \"$HEADWATER\" stop >/dev/null 2>&1
        rm .headwater/server.json.new
        dd if=/dev/zero of=more bs=4096 2>/dev/null
        \"$HEADWATER\" query 'SELECT x FROM t' >/dev/null
        echo \"refused $?\"
        \"$HEADWATER\" stop >/dev/null 2>&1
    ";
    let answer = on_disk_of(6, &workspace, script);
    let told = format!("{}\n{}", answer.stdout, answer.stderr);
    assert!(answer.stdout.contains("read 0") && answer.stdout.contains("\"x\""), "{told}");
    assert!(answer.stdout.contains("refused 6"), "{told}");
    assert!(answer.stderr.contains("no space is left in"), "{told}");
}

#[test]
fn a_full_disk_loses_no_data_and_is_reported() {
    let workspace = Workspace::empty();
    let rows: Vec<_> = (0..2_000_000_i64).map(|n| format!("{n},{}", n * 7919)).collect();
    workspace.write("big.csv", format!("a,b\n{}\n", rows.join("\n")));
    workspace.write("small.csv", "x\n1\n");
    let script = "
        \"$HEADWATER\" table import small ../small.csv 2>/dev/null
        \"$HEADWATER\" table import big ../big.csv
        echo \"exit $?\"
        \"$HEADWATER\" query 'SELECT x FROM small' --output json
        \"$HEADWATER\" table ls --output json
        \"$HEADWATER\" stop >/dev/null 2>&1
    ";
    let answer = on_disk_of(6, &workspace, script);
    assert!(answer.stdout.contains("exit 6"), "{}\n{}", answer.stdout, answer.stderr);
    assert!(answer.stderr.contains("no space is left"), "{}", answer.stderr);
    assert!(
        answer.stdout.contains("\"x\": 1") || answer.stdout.contains("\"x\":1"),
        "{}",
        answer.stdout
    );
    assert!(!answer.stdout.contains("\"big\""), "{}", answer.stdout);
}

#[test]
fn an_insert_on_a_full_disk_fails_completely_and_succeeds_once_space_is_free() {
    let workspace = Workspace::empty();
    let script = "
        \"$HEADWATER\" query 'CREATE TABLE t AS SELECT 1 AS a, 1 AS b' >/dev/null 2>&1
        insert='INSERT INTO t SELECT value, (value * 7919) % 1000003 FROM generate_series(1, 500000)'
        dd if=/dev/zero of=fill bs=65536 2>/dev/null; truncate -s -1M fill
        \"$HEADWATER\" query \"$insert\" >/dev/null
        echo \"insert $?\"
        \"$HEADWATER\" query 'SELECT count(*) AS before FROM t' --output json
        find .headwater/warehouse -name '*.parquet' | sed 's/^/file /'
        rm fill
        \"$HEADWATER\" query \"$insert\" >/dev/null
        echo \"again $?\"
        \"$HEADWATER\" query 'SELECT count(*) AS after FROM t' --output json
        \"$HEADWATER\" stop >/dev/null 2>&1
    ";
    let answer = on_disk_of(24, &workspace, script);
    let told = format!("{}\n{}", answer.stdout, answer.stderr);
    let compact = answer.stdout.replace(' ', "");
    assert!(answer.stdout.contains("insert 6"), "{told}");
    assert!(answer.stderr.contains("no space is left"), "{told}");
    assert!(compact.contains("\"before\":1}"), "{told}");
    assert_eq!(answer.stdout.matches("file ").count(), 1, "no partly written file remains: {told}");
    assert!(answer.stdout.contains("again 0"), "{told}");
    assert!(compact.contains("\"after\":500001"), "{told}");
}

#[test]
fn calls_on_a_full_disk_are_refused_and_accepted_ones_are_executed_once_space_is_free() {
    let workspace = Workspace::empty();
    workspace.write("app/app.py", "def handler(event, context):\n    return len(event)\n");
    // The script writes ids and errors to `..`, which is on another disk. The calls are large, so
    // that they do not fit into free pages of the database. Functions run as plain processes,
    // because the user namespace with the small disk may not permit sandboxes.
    let script = "
        call() { \"$HEADWATER\" function invoke size \"$@\"; }
        \"$HEADWATER\" stop >/dev/null 2>&1
        \"$HEADWATER\" serve --http 127.0.0.1:0 --isolation process >/dev/null 2>&1 &
        for n in $(seq 300); do
            grep -q pid .headwater/server.json 2>/dev/null && break
            sleep 0.1
        done
        \"$HEADWATER\" function deploy size ../app --runtime python3.11 --handler app.handler
        call --arg event=abc >/dev/null 2>&1; echo \"before $?\"
        dd if=/dev/zero of=fill bs=65536 2>/dev/null; dd if=/dev/zero of=more bs=4096 2>/dev/null
        large=$(head -c 60000 /dev/zero | tr '\\0' x)
        for n in $(seq 300); do
            call --async --arg \"event=$large\" >>../ids 2>../error && continue
            echo \"refused $?\"; break
        done
        call --arg \"event=$large\" >/dev/null 2>../error_of_call; echo \"meanwhile $?\"
        rm fill more
        call --arg event=abcd --output json; echo \"after $?\"
        for n in $(seq 600); do
            \"$HEADWATER\" event ls --status pending,running -o json >../open 2>/dev/null \\
                && ! grep -q '\"id\"' ../open && break
            sleep 0.2
        done
        \"$HEADWATER\" event ls --status done --limit 1000 -o json >../done
        \"$HEADWATER\" event ls --status failed -o json >../failed
        \"$HEADWATER\" stop >/dev/null 2>&1
        kill $! 2>/dev/null; wait
    ";
    let answer = on_disk_of(32, &workspace, script);
    let read = |name: &str| std::fs::read_to_string(workspace.path().join(name));
    let (error, error_of_call) = (read("error").expect("a file"), read("error_of_call"));
    let told = format!("{}\n{}\n{error}", answer.stdout, answer.stderr);
    assert!(answer.stdout.contains("before 0"), "{told}");
    assert!(answer.stdout.contains("refused 6"), "{told}");
    assert!(error.contains("no space left"), "{told}");
    // A synchronous call succeeds if its record still fits on the disk.
    let error_of_call = error_of_call.expect("a file");
    let is_clear =
        answer.stdout.contains("meanwhile 0") || error_of_call.to_lowercase().contains("no space");
    assert!(is_clear, "{told}\n{error_of_call}");
    assert!(answer.stdout.contains("4\nafter 0"), "{told}");
    let (ids, done) = (read("ids").expect("ids"), read("done").expect("events"));
    let failed = read("failed").expect("events");
    // A refused call prints no id.
    for id in ids.lines().map(str::trim).filter(|id| !id.is_empty()) {
        assert!(done.contains(id), "the accepted call {id} was not executed: {told}\n{failed}");
    }
}

#[test]
fn objects_put_on_a_full_disk_are_refused_and_accepted_ones_are_imported_once_space_is_free() {
    let workspace = Workspace::empty();
    let python = python::with_packages("s3-boto3-1.44.5", &["boto3==1.44.5", "requests==2.34.2"]);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/clients/full_disk.py");
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount"])
        .arg(python)
        .args([script, env!("CARGO_BIN_EXE_headwater")])
        .env("NO_COLOR", "1")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env_remove("HEADWATER_LAKE")
        .current_dir(workspace.path())
        .output();
    let answer = support::answer(output.expect("unshare runs"));
    assert_eq!(answer.stdout.trim(), "ok", "{}", answer.stderr);
}
