//! A server in a separate process, and plain HTTP over its Unix socket.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::support::{Workspace, until};

/// Maximum resident memory of a server with a limit of 1 GiB, in bytes. Includes a margin for
/// delayed accounting.
pub const MEMORY_BYTES_MAX: u64 = (1 << 30) + (512 << 20);

/// Timeout of each read of a response.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Json,
    Ndjson,
    Csv,
    Arrow,
}

impl Format {
    pub const ALL: [Format; 4] = [Format::Json, Format::Ndjson, Format::Csv, Format::Arrow];

    fn media_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Ndjson => "application/x-ndjson",
            Format::Csv => "text/csv",
            Format::Arrow => "application/vnd.apache.arrow.stream",
        }
    }
}

pub struct Server {
    child: Child,
    socket: PathBuf,
}

/// A response, read until the server closed the connection.
pub struct Reply {
    status: u16,
    complete: bool,
    pub body: String,
}

impl Server {
    pub fn start(workspace: &Workspace, memory: &str) -> Self {
        // Discard the log, because a pipe that the test does not read would block the server.
        let mut command =
            workspace.command(&["serve", "--http", "127.0.0.1:0", "--memory", memory]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.expect("the command starts");
        let pid = i64::from(child.id());
        let mut socket = None;
        until("the server listens", || {
            let server = workspace.server().filter(|server| server["pid"] == pid);
            socket = server.and_then(|it| Some(PathBuf::from(it["socket"].as_str()?)));
            socket.as_ref().is_some_and(|path| UnixStream::connect(path).is_ok())
        });
        Server { child, socket: socket.expect("a socket") }
    }

    /// Returns the server's peak resident memory in bytes.
    pub fn peak_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("the server is alive");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let line = line.expect("the server is alive").trim_end_matches("kB").trim();
        line.parse::<u64>().expect("a number") << 10
    }

    pub fn ok(&self, sql: &str) {
        let reply = self.query(sql, Format::Json);
        assert_eq!(reply.code(), None, "{sql}\n{}", reply.shown());
    }

    pub fn query(&self, sql: &str, format: Format) -> Reply {
        let body = serde_json::json!({ "sql": sql }).to_string();
        let head = format!(
            "POST /v1/query HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Type: application/json\r\nAccept: {}\r\nContent-Length: {}\r\n\r\n",
            format.media_type(),
            body.len()
        );
        let stream = UnixStream::connect(&self.socket);
        let mut stream =
            stream.unwrap_or_else(|error| panic!("the server is gone: {error}\n{sql}"));
        stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        stream.write_all((head + &body).as_bytes()).expect("a request");
        let mut answer = Vec::new();
        if let Err(error) = stream.read_to_end(&mut answer) {
            panic!("no answer: {error}\n{sql}");
        }
        Reply::read(&answer)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Reply {
    fn read(answer: &[u8]) -> Self {
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(answer.len());
        let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
        let body = answer.get(end + 4..).unwrap_or_default();
        let status = head.get(9..12).and_then(|text| text.parse().ok()).unwrap_or(0);
        let (complete, body) = if head.contains("transfer-encoding: chunked") {
            decode_chunked(body)
        } else {
            (status != 0, body.to_vec())
        };
        Reply { status, complete, body: String::from_utf8_lossy(&body).into_owned() }
    }

    /// Returns the error code.
    pub fn code(&self) -> Option<&str> {
        if self.status == 200 {
            return None;
        }
        let (_, rest) = self.body.split_once("\"code\":\"").unwrap_or(("", "none\""));
        rest.split_once('"').map(|(code, _)| code)
    }

    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Returns the status and the start of the body.
    pub fn shown(&self) -> String {
        let body: String = self.body.chars().take(2_000).collect();
        format!("{} {body}", self.status)
    }
}

/// Decodes a chunked body. Returns two values: true if the last chunk is present, and the bytes.
fn decode_chunked(mut body: &[u8]) -> (bool, Vec<u8>) {
    let mut bytes = Vec::new();
    while let Some(end) = body.windows(2).position(|two| two == b"\r\n") {
        let length = std::str::from_utf8(&body[..end]).ok();
        let length = length.and_then(|text| usize::from_str_radix(text.trim(), 16).ok());
        let Some(length) = length else { break };
        if length == 0 {
            return (true, bytes);
        }
        let Some(chunk) = body.get(end + 2..end + 2 + length) else { break };
        bytes.extend_from_slice(chunk);
        body = body.get(end + 4 + length..).unwrap_or_default();
    }
    (false, bytes)
}
