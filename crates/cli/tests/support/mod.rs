//! A temporary folder with a lake, and the built command, for end-to-end tests.

#![expect(dead_code, reason = "each test binary uses only some items")]

pub mod process_tree;
pub mod python;
pub mod terminal;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Timeout of every wait.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Pause between two counts. A count starts processes, which must not take much of the CPU time of
/// the work that is counted.
const COUNT_PAUSE: Duration = Duration::from_millis(200);

/// A model that never finishes.
pub const ENDLESS: &str = "\
WITH d(x) AS (VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9))
SELECT sum(a.x + p.x) AS n
FROM d a, d b, d c, d e, d f, d g, d h, d i, d j, d k, d l, d m, d o, d p
";

/// Returns the full count in a soak test, otherwise the small count.
pub fn count(small: usize, full: usize) -> usize {
    if std::env::var_os("HEADWATER_SOAK").is_some() { full } else { small }
}

/// A temporary folder. The server of its lake is stopped on drop.
pub struct Workspace {
    folder: tempfile::TempDir,
}

/// Exit code and output of a command.
pub struct Answer {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Workspace {
    /// Creates an empty folder.
    pub fn empty() -> Self {
        Workspace { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    /// Creates a folder with a new project and lake.
    pub fn new() -> Self {
        let workspace = Self::empty();
        workspace.ok(&["init", "--name", "test"]);
        workspace
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file below the folder.
    pub fn write(&self, path: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(&path, text).expect("a file");
        path
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_headwater"));
        command
            .args(arguments)
            .current_dir(self.path())
            .env_remove("HEADWATER_LAKE")
            .env_remove("HEADWATER_PROFILE")
            .env("XDG_CONFIG_HOME", self.path().join(".config"))
            .env("XDG_STATE_HOME", self.path().join(".state"))
            .env("HEADWATER_AUTHOR", "eva")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to completion.
    pub fn run(&self, arguments: &[&str]) -> Answer {
        answer(self.command(arguments).output().expect("the command starts"))
    }

    /// Runs a command that must succeed, and returns its standard output.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let answer = self.run(arguments);
        let (out, err) = (&answer.stdout, &answer.stderr);
        assert_eq!(answer.code, 0, "`headwater {}`\n{out}\n{err}", arguments.join(" "));
        answer.stdout
    }

    /// Runs a command that must fail with this exit code. Returns its standard error, with the
    /// folder's path masked.
    pub fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let answer = self.run(arguments);
        let (out, err) = (&answer.stdout, &answer.stderr);
        assert_eq!(answer.code, code, "`headwater {}`\n{out}\n{err}", arguments.join(" "));
        self.plain(&answer.stderr)
    }

    /// Returns the text with the folder's path replaced by `[folder]`.
    pub fn plain(&self, text: &str) -> String {
        let folder = self.path().canonicalize().expect("the folder");
        text.replace(&*folder.to_string_lossy(), "[folder]")
    }

    /// Returns the rows of a query as JSON.
    pub fn rows(&self, sql: &str) -> serde_json::Value {
        self.json(&["query", sql])
    }

    /// Returns the JSON document that a command prints.
    pub fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let text = self.ok(&[arguments, &["--output", "json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in `{text}`"))
    }

    /// Starts a command without waiting for it.
    pub fn start(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the command starts")
    }

    /// Returns the contents of the lake's `server.json`.
    pub fn server(&self) -> Option<serde_json::Value> {
        let text = std::fs::read(self.path().join(".headwater/server.json")).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Kills the lake's server with SIGKILL.
    pub fn kill_server(&self) {
        let server = self.server().expect("a server");
        let pid = server["pid"].as_i64().expect("a process id");
        let socket = server["socket"].as_str().expect("a socket").to_owned();
        let status = Command::new("kill").args(["-9", &pid.to_string()]).status();
        assert!(status.expect("kill runs").success());
        until("the server is gone", || {
            let ended = !Path::new(&format!("/proc/{pid}/cmdline")).exists() || zombie(pid);
            // The socket accepts connections until the server's last thread has ended, or until the
            // next server replaces the socket.
            let is_next = || self.server().is_some_and(|server| server["pid"] != pid);
            ended && (is_next() || std::os::unix::net::UnixStream::connect(&socket).is_err())
        });
    }

    /// Waits until a job of this kind has this status, and returns the job.
    pub fn job_until(&self, kind: &str, status: &str) -> serde_json::Value {
        let mut found = serde_json::Value::Null;
        until(&format!("a {kind} is {status}"), || {
            let jobs = self.json(&["job", "ls", "--kind", kind, "--status", status]);
            found = jobs[0].clone();
            !found.is_null()
        });
        found
    }
}

fn zombie(pid: i64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.contains(") Z ")
}

impl Drop for Workspace {
    fn drop(&mut self) {
        if self.server().is_some() {
            let _ = self.command(&["stop"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
    }
}

/// Converts the output of a finished process.
pub fn answer(output: Output) -> Answer {
    Answer {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Polls a count until it reaches a number. Panics when the count does not grow for a long time.
pub fn until_at_least(what: &str, wanted: i64, mut count: impl FnMut() -> i64) {
    let mut reached = i64::MIN;
    while reached < wanted {
        let last = reached;
        poll(what, COUNT_PAUSE, || {
            reached = count();
            reached > last
        });
    }
}

/// Polls a condition until it is true. Panics at the deadline.
pub fn until(what: &str, done: impl FnMut() -> bool) {
    poll(what, Duration::from_millis(20), done);
}

fn poll(what: &str, pause: Duration, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(pause);
    }
}
