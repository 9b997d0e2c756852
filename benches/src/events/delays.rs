//! Delays without a reference: from a commit to the handler of its trigger, from a scheduled time
//! to its handler, and from a printed line to the client.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use super::objects::{differences, now, wait_for};
use crate::Outcome;
use crate::commands::{headwater, run};
use crate::invoke::Server;
use crate::report::Report;
use crate::sample::wait_until_quiet;

const FUNCTIONS: &str = r#"
[project]
name = "delays"

[functions.committed]
runtime = "python3.11"
handler = "app.committed"
memory = "256MiB"

[functions.fired]
runtime = "python3.11"
handler = "app.fired"
memory = "256MiB"

[functions.prints]
runtime = "python3.11"
handler = "app.prints"
memory = "256MiB"
"#;

const TABLE_TRIGGER: &str = r#"
[[trigger]]
name = "committed"
tables = { names = ["orders"], debounce = "0s", batch = 1, max_events_per_minute = 10000 }
function = "committed"
"#;

const SCHEDULE: &str = r#"
[[trigger]]
name = "fired"
schedule = { cron = "* * * * * *" }
function = "fired"
"#;

/// The functions. `prints` runs for some time after it has printed its line, so that the client
/// receives the line before the end of the call.
const HANDLERS: &str = r#"
import calendar
import time


def committed(event, context):
    return {"started": time.time_ns()}


def fired(event, context):
    started = time.time_ns()
    due = calendar.timegm(time.strptime(event["time"], "%Y-%m-%dT%H:%M:%SZ"))
    return {"late": started - due * 1_000_000_000}


def prints(event, context):
    print("printed at", time.time_ns(), flush=True)
    time.sleep(0.3)
"#;

const COMMITS: usize = 100;
const SCHEDULED: usize = 60;
const LINES: usize = 20;

/// Number of scheduled calls that are not measured, because the first call starts the process.
const UNMEASURED: usize = 5;

/// Measures all delays, and adds them to the report.
pub(super) fn measure(report: &mut Report) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let manifest = format!("{FUNCTIONS}{TABLE_TRIGGER}");
    let files = [("headwater.toml", manifest.as_str()), ("app.py", HANDLERS)];
    let server = Server::create_with(folder, &files, &[])?;
    commits(report, &server, folder)?;
    schedule(report, folder)?;
    lines(report, folder)
}

/// Measures the time from the response of a statement that commits to the first line of the
/// handler.
fn commits(report: &mut Report, server: &Server, folder: &Path) -> Outcome<()> {
    run(headwater(folder).args(["query", "CREATE TABLE orders AS SELECT 1 AS id"]))?;
    // Creating the table also fires the trigger. Wait for this call, which starts the process.
    wait_for(1, || Ok(returned(folder, "started")?.len()))?;
    wait_until_quiet()?;
    let before = returned(folder, "started")?.len();
    let mut connection = server.connect()?;
    let mut committed = Vec::new();
    for id in 0..COMMITS {
        let body = format!("{{\"sql\": \"INSERT INTO orders VALUES ({id})\"}}");
        connection.request("POST", "/v1/query", &body)?;
        committed.push(now()?);
        std::thread::sleep(Duration::from_millis(60));
    }
    wait_for(before + COMMITS, || Ok(returned(folder, "started")?.len()))?;
    let started = returned(folder, "started")?;
    let taken = differences(&committed, &started[before..])?;
    let millis = Duration::from_millis;
    report.spread("commit to the handler of its trigger", &taken, "", (millis(10), millis(50)));
    Ok(())
}

/// Measures the time from a scheduled time to the first line of the handler.
fn schedule(report: &mut Report, folder: &Path) -> Outcome<()> {
    deploy(folder, SCHEDULE)?;
    wait_for(UNMEASURED + SCHEDULED, || Ok(returned(folder, "late")?.len()))?;
    deploy(folder, "")?;
    let late = returned(folder, "late")?.into_iter().skip(UNMEASURED);
    let late: Vec<Duration> = late.map(Duration::from_nanos).collect();
    let bound = Duration::from_millis(20);
    report.spread("scheduled time to its handler", &late, "", (bound, bound));
    Ok(())
}

/// Measures the time from a printed line of a running function to the output of
/// `headwater function logs --follow`.
fn lines(report: &mut Report, folder: &Path) -> Outcome<()> {
    let mut follow = headwater(folder);
    follow.args(["function", "logs", "prints", "--follow"]);
    follow.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut follow = follow.spawn()?;
    let Some(output) = follow.stdout.take() else { return Err("no output".into()) };
    let mut output = BufReader::new(output).lines();
    // The first call starts the process.
    let delays = (0..=LINES).map(|_| printed_line(folder, &mut output));
    let delays = delays.collect::<Outcome<Vec<_>>>();
    follow.kill()?;
    follow.wait()?;
    let millis = Duration::from_millis;
    let bounds = (millis(50), millis(100));
    report.spread("printed line to the client", &delays?[1..], "", bounds);
    Ok(())
}

/// Calls the function that prints a line, and returns the delay of the line.
fn printed_line(
    folder: &Path,
    output: &mut impl Iterator<Item = std::io::Result<String>>,
) -> Outcome<Duration> {
    let mut call = headwater(folder);
    call.args(["function", "invoke", "prints", "--arg", "event=1"]);
    call.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut call = call.spawn()?;
    let mut delay = None;
    while delay.is_none() {
        let (line, read) = (output.next().ok_or("the output ended")??, now()?);
        if let Some((_, time)) = line.split_once("printed at ") {
            delay = Some(read.saturating_sub(time.trim().parse()?));
        }
    }
    call.wait()?;
    Ok(Duration::from_nanos(delay.ok_or("the line of the function is missing")?))
}

fn deploy(folder: &Path, triggers: &str) -> Outcome<()> {
    std::fs::write(folder.join("headwater.toml"), format!("{FUNCTIONS}{triggers}"))?;
    run(headwater(folder).arg("deploy"))
}

/// Returns the numbers that the calls of a function returned under a key, oldest first.
fn returned(folder: &Path, key: &str) -> Outcome<Vec<u64>> {
    let mut command = headwater(folder);
    command.args(["job", "ls", "--kind", "function", "--status", "succeeded"]);
    command.args(["--limit", "1000", "--output", "json"]);
    let output = command.stdin(Stdio::null()).output()?;
    let jobs: Vec<Value> = serde_json::from_slice(&output.stdout)?;
    Ok(jobs.iter().rev().filter_map(|job| job["result"]["function"][key].as_u64()).collect())
}
