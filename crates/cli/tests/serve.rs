//! `headwater serve`: the server runs until it is stopped, and requires a token over HTTP.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command};

use serde_json::json;
use support::{Workspace, until};

/// A server in the foreground, stopped when dropped.
struct Serving {
    child: Child,
    address: String,
}

impl Serving {
    fn start(workspace: &Workspace, arguments: &[&str]) -> Self {
        let child = workspace.start(&[&["serve", "--http", "127.0.0.1:0"], arguments].concat());
        let mut address = None;
        until("the server listens", || {
            address = workspace.server().and_then(|it| Some(it["http"].as_str()?.to_owned()));
            address.is_some()
        });
        Serving { child, address: address.expect("an address") }
    }

    /// Returns the status of a request with this header.
    fn status(&self, header: &str) -> u16 {
        let mut stream = TcpStream::connect(&self.address).expect("a connection");
        let (address, end) = (&self.address, "Connection: close\r\n\r\n");
        let head = format!("GET /v1/branches HTTP/1.1\r\nHost: {address}\r\n{header}{end}");
        stream.write_all(head.as_bytes()).expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer[9..12].parse().expect("a status")
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn no_more_runs_than_configured_run_at_the_same_time() {
    let workspace = Workspace::new();
    let endless = "SELECT count(*) AS n FROM generate_series(1, 3000000) AS a(x), \
                   generate_series(1, 3000000) AS b(y) WHERE (x * y) % 7 = 3";
    workspace.write("models/endless.sql", endless);
    let _serving = Serving::start(&workspace, &["--runs", "1"]);
    workspace.ok(&["branch", "create", "other"]);
    let start = |branch: &str| {
        let job = workspace.json(&["run", "--detach", "--ref", branch]);
        job["id"].as_str().expect("an id").to_owned()
    };
    let status = |id: &str| workspace.json(&["job", "get", id])["status"].clone();
    let first = start("main");
    until("the first run starts", || status(&first) == "running");
    let second = start("other");
    assert_eq!((status(&second), status(&first)), (json!("queued"), json!("running")));
    workspace.ok(&["job", "stop", &first]);
    until("the second run starts", || status(&second) == "running");
    workspace.ok(&["job", "stop", &second]);

    let refusal = workspace.fails(2, &["serve", "--runs", "0"]);
    assert!(refusal.contains("--runs"), "{refusal}");
}

#[test]
fn a_foreground_server_is_not_stopped_by_another_serve() {
    let workspace = Workspace::new();
    // The background server of `init` stops for the foreground server.
    let serving = Serving::start(&workspace, &[]);
    let pid = serving.child.id().to_string();
    let text = workspace.fails(4, &["serve", "--http", "127.0.0.1:0"]);
    for part in ["already has a server", &pid, &serving.address, "`headwater stop`"] {
        assert!(text.contains(part), "no {part} in:\n{text}");
    }
    let server = workspace.server().expect("the first server");
    assert_eq!(server["pid"].to_string(), pid);
    assert_eq!(workspace.rows("SELECT 1 AS one"), json!([{"one": 1}]));
    workspace.ok(&["stop"]);
    until("the server is gone", || workspace.server().is_none());
}

#[test]
fn an_unavailable_address_keeps_the_background_server_running() {
    let workspace = Workspace::new();
    let pid = || workspace.server().expect("the background server")["pid"].clone();
    let before = pid();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let text = workspace.fails(7, &["serve", "--http", &address]);
    assert!(text.contains("cannot listen on") && !text.contains("end its work"), "{text}");
    let text = workspace.fails(2, &["serve", "--http", "0.0.0.0:0"]);
    assert!(text.contains("not a loopback address") && !text.contains("end its work"), "{text}");
    workspace.fails(2, &["serve", "--http", "127.0.0.1:0", "--memory", "much"]);
    let text = workspace.fails(2, &["serve", "--http", "127.0.0.1:0", "--otlp", "127.0.0.1:4318"]);
    assert!(text.contains("not an HTTP URL of an OpenTelemetry collector"), "{text}");
    let headers = ["--otlp", "http://127.0.0.1:4318", "--otlp-headers", "hush"];
    let text =
        workspace.fails(2, &[["serve", "--http", "127.0.0.1:0"].as_slice(), &headers].concat());
    assert!(text.contains("the headers of the trace export") && !text.contains("hush"), "{text}");
    assert_eq!(pid(), before);
}

#[test]
fn http_requires_the_token_of_the_lake() {
    let workspace = Workspace::new();
    let serving = Serving::start(&workspace, &[]);
    let file = workspace.path().join(".headwater/server.token");
    let token = std::fs::read_to_string(file).expect("a token");
    assert_eq!(serving.status(""), 401);
    assert_eq!(serving.status("Authorization: Bearer guess\r\n"), 401);
    assert_eq!(serving.status(&format!("Authorization: Bearer {}\r\n", token.trim())), 200);
    let open = Workspace::new();
    assert_eq!(Serving::start(&open, &["--no-auth"]).status(""), 200);
}

#[test]
fn the_python_client_reads_the_token_and_sends_it() {
    let workspace = Workspace::new();
    let serving = Serving::start(&workspace, &[]);
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../python");
    let ask = |folder: &Path| {
        let program = format!(
            "import headwater\nprint(headwater.Client(url='http://{}').query_rows('SELECT 1 AS n'))",
            serving.address
        );
        let mut command = Command::new("python3");
        command.args(["-c", &program]).env("PYTHONPATH", &sdk).current_dir(folder);
        support::answer(command.output().expect("python3 runs"))
    };
    let inside = ask(workspace.path());
    assert_eq!(inside.stdout.trim(), "[{'n': 1}]", "{}", inside.stderr);
    let elsewhere = tempfile::tempdir().expect("a folder");
    let text = ask(elsewhere.path()).stderr;
    assert!(text.contains("UnauthenticatedError") && text.contains("server.token"), "{text}");
}

#[test]
fn an_address_of_other_machines_is_refused_without_tls() {
    let workspace = Workspace::new();
    let text = workspace.fails(2, &["serve", "--listen", "0.0.0.0:0"]);
    for part in ["`0.0.0.0:0`", "must be encrypted", "--tls-self-signed", "--behind-proxy"] {
        assert!(text.contains(part), "no {part} in:\n{text}");
    }
    let text =
        workspace.fails(2, &["serve", "--listen", "0.0.0.0:0", "--behind-proxy", "--no-auth"]);
    assert!(text.contains("Remove `--no-auth`"), "{text}");
    for wrong in [
        &["--tls-certificate", "a.crt"][..],
        &["--tls-self-signed", "--behind-proxy"],
        &["--host", "https://lake.example"],
        &["--allow-origin", "*"],
        &["--allow-origin", "http://app.example"],
    ] {
        workspace.fails(2, &[&["serve", "--http", "127.0.0.1:0"], wrong].concat());
    }
    let files = ["--tls-certificate", "a.crt", "--tls-key", "a.key"];
    let text = workspace.fails(2, &[&["serve", "--http", "127.0.0.1:0"][..], &files].concat());
    assert!(text.contains("a.crt"), "{text}");
    assert!(workspace.server().is_some(), "the background server was not stopped");
}

#[test]
fn an_address_of_other_machines_is_refused_without_a_user() {
    let workspace = Workspace::new();
    let serve = ["serve", "--listen", "0.0.0.0:0", "--tls-self-signed"];
    let text = workspace.fails(2, &serve);
    assert!(text.contains("the lake must have a user"), "{text}");
    assert!(text.contains("headwater user create NAME"), "{text}");
    // This command, which the hint suggests, starts the background server again.
    workspace.ok(&["user", "create", "ana"]);
}

#[test]
fn the_python_client_trusts_the_self_signed_certificate_of_its_lake() {
    let workspace = Workspace::new();
    let serving = Serving::start(&workspace, &["--tls-self-signed"]);
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../python");
    let ask = |folder: &Path, scheme: &str, options: &str| {
        let program = format!(
            "import headwater\nclient = headwater.Client(url='{scheme}://{}'{options})\n\
             print(client.query_rows('SELECT 1 AS n'))",
            serving.address
        );
        let mut command = Command::new("python3");
        command.args(["-c", &program]).env("PYTHONPATH", &sdk).current_dir(folder);
        support::answer(command.output().expect("python3 runs"))
    };
    let inside = ask(workspace.path(), "https", "");
    assert_eq!(inside.stdout.trim(), "[{'n': 1}]", "{}", inside.stderr);
    let elsewhere = tempfile::tempdir().expect("a folder");
    let text = ask(elsewhere.path(), "https", "").stderr;
    assert!(text.contains("is not trusted") && text.contains("certificate="), "{text}");
    let lake = workspace.path().join(".headwater");
    let token = std::fs::read_to_string(lake.join("server.token")).expect("a token");
    let certificate = lake.join("self-signed.crt");
    let options = format!(", token='{}', certificate='{}'", token.trim(), certificate.display());
    let named = ask(elsewhere.path(), "https", &options);
    assert_eq!(named.stdout.trim(), "[{'n': 1}]", "{}", named.stderr);
    let text = ask(elsewhere.path(), "http", &options).stderr;
    assert!(text.contains("accepts only HTTPS") && text.contains("https://"), "{text}");
    // Commands use the Unix socket.
    assert!(workspace.ok(&["status"]).contains("https://"));
}

const PROBE: &str = r#"import os
import urllib.request

import headwater


@headwater.model(materialization="replace", network=True)
@headwater.python("3.11", pip={})
def probe(address=headwater.Parameter("address"), lake=headwater.Parameter("lake")):
    statuses = {}
    for path in ("health", "v1/branches"):
        try:
            statuses[path] = urllib.request.urlopen(f"http://{address}/{path}", timeout=30).status
        except OSError:
            statuses[path] = 0
    seen = any(os.path.exists(os.path.join(lake, name)) for name in ("server.token", "lake.db"))
    return [{"health": statuses["health"], "branches": statuses["v1/branches"], "seen": seen}]
"#;

#[test]
fn a_function_with_network_cannot_reach_the_server_or_read_its_token() {
    let workspace = Workspace::new();
    workspace.write("models/probe.py", PROBE);
    workspace.write(
        "headwater.toml",
        "[project]\nname = \"test\"\n[parameters.address]\ntype = \"str\"\n\
         [parameters.lake]\ntype = \"str\"\n",
    );
    let serving = Serving::start(&workspace, &[]);
    let address = format!("address={}", serving.address);
    let lake = format!("lake={}", workspace.path().join(".headwater").display());
    workspace.ok(&["run", "--param", &address, "--param", &lake]);
    let rows = workspace.rows("SELECT * FROM probe");
    assert_eq!(rows, json!([{"health": 0, "branches": 0, "seen": false}]));
}

/// The warning that a server with `isolation = process` logs at every start.
const WEAK: &str = "warning: functions run as plain processes: they can read what you can read, reach the \
                    network, and see each other";

#[test]
fn weaker_isolation_is_logged_at_every_start() {
    let workspace = Workspace::new();
    workspace.ok(&["stop"]);
    for arguments in [&["--isolation", "process"][..], &["--isolation", "process"], &[]] {
        let serving = workspace.start(&[&["serve", "--http", "127.0.0.1:0"], arguments].concat());
        let pid = i64::from(serving.id());
        until("the server listens", || {
            workspace
                .server()
                .is_some_and(|server| server["pid"] == pid && server["http"].is_string())
        });
        workspace.ok(&["stop"]);
        let said =
            String::from_utf8(serving.wait_with_output().expect("it ends").stderr).expect("text");
        let told =
            [said.matches(WEAK).count(), said.matches("functions run without isolation").count()];
        let expected = usize::from(!arguments.is_empty());
        assert_eq!(told, [expected, expected], "{arguments:?}:\n{said}");
    }
}

const SEVEN: &str = "\
import headwater


@headwater.function()
@headwater.python(pip={})
def seven():
    return 7
";

/// Runs in a container without support for user namespaces.
#[test]
fn a_host_that_forbids_sandboxes_gets_an_error_with_the_fix() {
    let workspace = Workspace::new();
    workspace.write("models/seven.py", SEVEN);
    workspace.ok(&["deploy"]);
    workspace.ok(&["stop"]);
    let within = |arguments: &[&str]| {
        let forbid = "echo 0 > /proc/sys/user/max_user_namespaces && \\
                      exec setpriv --inh-caps=-all --ambient-caps=-all \"$0\" \"$@\"";
        let inside = workspace.command(arguments);
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-user=1000", "--keep-caps", "/bin/sh", "-c", forbid]);
        command.arg(inside.get_program()).args(inside.get_args()).current_dir(workspace.path());
        for (name, value) in inside.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let output = command.stdin(std::process::Stdio::null()).output().expect("unshare runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, _, told) = within(&["function", "invoke", "seven"]);
    assert_eq!(code, Some(7), "{told}");
    for part in [
        "error: this host does not let Headwater isolate functions",
        "hint: Allow user namespaces (`sysctl user.max_user_namespaces=",
        "`--privileged`",
        "`--isolation process`",
    ] {
        assert!(told.contains(part), "no {part} in:\n{told}");
    }
    assert!(
        told.contains("the limit of Linux namespaces") && !told.contains("No space left"),
        "{told}"
    );
    // All operations except functions succeed.
    let (code, said, told) = within(&["query", "SELECT 1 AS one", "--output", "json"]);
    assert_eq!((code, said.contains("\"one\"")), (Some(0), true), "{said}{told}");
    workspace.ok(&["stop"]);
    // The option in the hint is accepted.
    let serving = Serving::start(&workspace, &["--isolation", "process"]);
    assert_eq!(workspace.ok(&["function", "invoke", "seven"]).trim(), "7");
    drop(serving);
}

#[test]
fn a_server_in_the_foreground_logs_jobs_failures_and_trigger_events() {
    let workspace = Workspace::new();
    workspace.write("models/one.sql", "-- headwater: materialization = replace\nSELECT 1 AS n\n");
    workspace.write("landing/a.csv", "n\n1\n");
    workspace.write(
        "headwater.toml",
        "[project]\nname = \"test\"\n[[trigger]]\nname = \"landed\"\n\
         files = { folder = \"landing\", pattern = \"*.csv\" }\nimport = { table = \"events\" }\n",
    );
    workspace.ok(&["stop"]);
    let serving = workspace.start(&["serve", "--http", "127.0.0.1:0"]);
    until("the server listens", || workspace.server().is_some_and(|it| it["http"].is_string()));
    workspace.ok(&["deploy"]);
    workspace.ok(&["run"]);
    workspace.ok(&["query", "SELECT 1 AS good"]);
    workspace.run(&["query", "SELECT 1 / (n - 1) AS bad FROM one"]);
    // Files are imported after the debounce interval.
    until("the trigger has fired", || {
        let done = workspace.json(&["event", "ls", "--status", "done"]);
        done.as_array().is_some_and(|events| !events.is_empty())
    });
    workspace.ok(&["stop"]);
    let output = serving.wait_with_output().expect("it ends");
    let said = String::from_utf8(output.stderr).expect("text");
    for part in [
        "INFO run ",
        " began: ",
        " succeeded after ",
        "SELECT 1 AS good",
        "WARN query ",
        " failed after ",
        "zero",
        "trigger landed recorded event ",
        "INFO trigger ",
    ] {
        assert!(said.contains(part), "no `{part}` in:\n{said}");
    }
    workspace.ok(&["query", "SELECT 2 AS quiet"]);
    let log = workspace.path().join(".headwater/server.log");
    let quiet = std::fs::read_to_string(log).unwrap_or_default();
    assert!(!quiet.contains("quiet"), "{quiet}");
}
