//! The server of the suite, and the requests to it.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::Outcome;
use crate::commands::headwater;
use crate::invoke::{Connection, Server};
use crate::report::Report;

use super::ministack::MiniStack;
use super::signing::{Key, UnsignedRequest};
use super::{accepted, calls, delays, objects};

/// A project with two functions in the form of Lambda, one of which is called for each object.
const PROJECT: &str = r#"
[project]
name = "events"

[functions.nothing]
runtime = "python3.11"
handler = "app.nothing"
memory = "256MiB"

[functions.clean]
runtime = "python3.11"
handler = "app.clean"
memory = "256MiB"

[[trigger]]
name = "clean"
bucket = { name = "landing", suffix = ".csv" }
function = "clean"
"#;

const HANDLERS: &str = r#"
import csv
import io
import time
from urllib.parse import unquote_plus

from headwater import lake


def nothing(event, context):
    return True


def clean(event, context):
    started = time.time_ns()
    s3 = event["Records"][0]["s3"]
    key = unquote_plus(s3["object"]["key"])
    text = lake.read_object(s3["bucket"]["name"], key).decode()
    rows = [
        {"key": key, "value": int(row["value"]), "started": started}
        for row in csv.DictReader(io.StringIO(text))
        if row["value"]
    ]
    return lake.append("readings", rows)
"#;

pub(super) const BUCKET: &str = "landing";

/// Measures the requested parts with a burst of `files` files, and adds the results to the report.
pub fn measure(report: &mut Report, files: usize, wanted: impl Fn(&str) -> bool) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let stack_folder = tempfile::tempdir()?;
    let stack = MiniStack::start(stack_folder.path())?;
    let lake = LakeServer::create(folder.path())?;
    // The first call creates the environment.
    lake.warm_up()?;
    if wanted("invoke") {
        calls::latency(report, &lake, &stack)?;
    }
    if wanted("callers") {
        calls::rates(report, &lake, &stack)?;
    }
    if wanted("put") {
        objects::latency(report, &lake, &stack)?;
    }
    if wanted("burst") {
        objects::burst(report, &lake, &stack, files)?;
    }
    if wanted("delays") {
        delays::measure(report)?;
    }
    // Measure this part last, because it leaves calls in the queue.
    if wanted("accept") {
        accepted::rate(report, &lake, &stack)?;
    }
    Ok(())
}

/// A server with the project, and an access key.
pub(super) struct LakeServer<'a> {
    pub(super) server: Server,
    pub(super) folder: &'a Path,
    pub(super) key: Key,
    pub(super) s3: String,
}

impl<'a> LakeServer<'a> {
    fn create(folder: &'a Path) -> Outcome<Self> {
        let files = [("headwater.toml", PROJECT), ("app.py", HANDLERS)];
        let server = Server::create_with(folder, &files, &["--s3", "127.0.0.1:0"])?;
        let s3 = server.s3().ok_or("the server has no S3 endpoint")?.to_owned();
        let key = create_key(folder)?;
        let lake = LakeServer { server, folder, key, s3 };
        let bucket = UnsignedRequest {
            service: "s3",
            method: "PUT",
            path: &format!("/{BUCKET}"),
            headers: "",
            body: "",
        };
        let mut connection = Connection::open(&lake.s3, "")?;
        expect(200, &mut connection, &lake.key.sign(&lake.s3, &bucket))?;
        Ok(lake)
    }

    /// Calls the function once, and puts one object.
    fn warm_up(&self) -> Outcome<()> {
        expect(200, &mut self.server.connect()?, &self.invoke("nothing", ""))?;
        objects::put_and_wait(self, "warm-up")
    }

    /// Returns a request that calls a function through Lambda's API.
    pub(super) fn invoke(&self, function: &str, headers: &str) -> Vec<u8> {
        self.key.sign(self.server.address(), &invoke(function, headers))
    }

    /// Runs a query, and returns its rows.
    pub(super) fn query(&self, sql: &str) -> Outcome<serde_json::Value> {
        let mut command = headwater(self.folder);
        command.args(["query", sql, "--output", "json"]).stdin(Stdio::null());
        let output = command.output()?;
        // Until the first rows are appended, the table does not exist and the query fails. Return
        // null in this case.
        let rows = serde_json::from_slice(&output.stdout);
        Ok(rows.unwrap_or_default())
    }
}

/// Returns a call of a function through Lambda's API, with the same path for both servers.
pub(super) fn invoke<'a>(function: &str, headers: &'a str) -> UnsignedRequest<'a> {
    let path = match function {
        "clean" => "/2015-03-31/functions/clean/invocations",
        _ => "/2015-03-31/functions/nothing/invocations",
    };
    UnsignedRequest { service: "lambda", method: "POST", path, headers, body: "{}" }
}

/// A key that the emulator accepts.
pub(super) fn any_key() -> Key {
    Key { id: "test".to_owned(), secret: "test".to_owned() }
}

fn create_key(folder: &Path) -> Outcome<Key> {
    let output = headwater(folder).args(["key", "create"]).stdin(Stdio::null()).output()?;
    let printed = String::from_utf8(output.stdout)?;
    let value = |name: &str| {
        let found = printed.lines().find_map(|line| line.trim().strip_prefix(name));
        found.map(str::to_owned).ok_or("`headwater key create` printed no key")
    };
    Ok(Key { id: value("AWS_ACCESS_KEY_ID=")?, secret: value("AWS_SECRET_ACCESS_KEY=")? })
}

/// Sends a request. A response with another status is an error.
pub(super) fn expect(
    wanted: u16,
    connection: &mut Connection,
    request: &[u8],
) -> Outcome<Duration> {
    let (status, answer, taken) = connection.exchange(request)?;
    if status == wanted {
        return Ok(taken);
    }
    Err(format!("status {status}: {}", String::from_utf8_lossy(&answer)).into())
}
