//! Commands on a lake of another machine: login, profiles, file uploads, logout.

mod support;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use serde_json::json;
use support::{Answer, Workspace, answer, until};

/// A server with TLS, and the folder of a user without a lake.
struct Team {
    lake: Workspace,
    server: std::process::Child,
    user: Workspace,
    url: String,
    certificate: String,
}

impl Team {
    fn new() -> Self {
        let lake = Workspace::new();
        let server = lake.start(&["serve", "--http", "127.0.0.1:0", "--tls-self-signed"]);
        until("the server answers", || lake.server().is_some_and(|it| it["http"].is_string()));
        let record = lake.server().expect("a server");
        let url = format!("https://{}", record["http"].as_str().expect("an address"));
        let certificate = record["certificate_file"].as_str().expect("a certificate").to_owned();
        Team { lake, server, user: Workspace::empty(), url, certificate }
    }

    /// Creates a user with grants and returns a token.
    fn token(&self, name: &str, grants: &[(&str, &str)]) -> String {
        self.lake.ok(&["user", "create", name]);
        for (actions, object) in grants {
            self.lake.ok(&["grant", actions, "--on", object, "--to", name]);
        }
        let token = self.lake.json(&["token", "create", "--user", name]);
        token["secret"].as_str().expect("a secret").to_owned()
    }

    fn login(&self, token: &str, arguments: &[&str]) -> Answer {
        let arguments = [&["login", self.url.as_str()], arguments].concat();
        let mut command = self.user.command(&arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command starts");
        let mut input = child.stdin.take().expect("standard input");
        // A command that fails early does not read its input.
        let _ = writeln!(input, "{token}");
        drop(input);
        answer(child.wait_with_output().expect("the command ends"))
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[test]
fn commands_use_the_server_of_the_last_login() {
    let team = Team::new();
    team.lake.ok(&["query", "CREATE TABLE t AS SELECT 1 AS id"]);
    let grants = [("select,insert,create", "namespace:public"), ("read,write,create", "branch:*")];
    let token = team.token("ana", &grants);
    let said = team.login(&token, &["--certificate", &team.certificate, "--name", "lab"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(said.stderr.contains("as ana; profile lab"), "{}", said.stderr);
    assert!(!format!("{}{}", said.stdout, said.stderr).contains(&token));
    let user = &team.user;
    let file = user.path().join(".config/headwater/profiles.json");
    let mode = std::fs::metadata(&file).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(user.rows("SELECT id FROM t"), json!([{"id": 1}]));
    assert_eq!(user.json(&["whoami"])["name"], "ana");
    let status = user.json(&["status"]);
    assert_eq!((&status["profile"], &status["branch"]), (&json!("lab"), &json!("main")));
    // The active branch is stored in the profile.
    user.ok(&["checkout", "-b", "dev"]);
    user.ok(&["query", "INSERT INTO t VALUES (2)"]);
    assert_eq!(user.rows("SELECT count(*) AS n FROM t"), json!([{"n": 2}]));
    assert_eq!(team.lake.rows("SELECT count(*) AS n FROM t"), json!([{"n": 1}]));
    let program =
        "import headwater; print(headwater.Client().query_rows('SELECT max(id) AS id FROM t'))";
    let mut python = std::process::Command::new("python3");
    python.args(["-c", program]).current_dir(user.path());
    python.env("PYTHONPATH", concat!(env!("CARGO_MANIFEST_DIR"), "/../../python"));
    python.env("XDG_CONFIG_HOME", user.path().join(".config")).env_remove("HEADWATER_PROFILE");
    let said = answer(python.output().expect("python3 runs"));
    assert_eq!(said.stdout.trim(), "[{'id': 2}]", "{}", said.stderr);
    // Files of this machine are uploaded.
    user.write("data.csv", "a,b\n1,x\n2,y\n");
    user.ok(&["table", "import", "sent", "data.csv"]);
    assert_eq!(user.rows("SELECT sum(a) AS a FROM sent"), json!([{"a": 3}]));
    let text = user.fails(2, &["table", "import", "sent", "data.csv", "missing.csv"]);
    assert!(text.contains("is not a file on this machine"), "{text}");
    user.write("bad.csv", "a,b\nx,y\n");
    assert_ne!(user.run(&["table", "import", "sent", "bad.csv"]).code, 0);
    let uploads = std::fs::read_dir(team.lake.path().join(".headwater/uploads"));
    assert_eq!(uploads.expect("a folder").count(), 0, "ended imports keep no upload");
    // A disabled user gets a hint to log in again. A command that needs the lake's files fails with
    // a message.
    team.lake.ok(&["user", "disable", "ana"]);
    let text = user.fails(8, &["query", "SELECT 1"]);
    assert!(text.contains(&format!("Run `headwater login {}`", team.url)), "{text}");
    assert!(text.contains("the user may be disabled") && !text.contains("header"), "{text}");
    team.lake.ok(&["user", "enable", "ana"]);
    let text = user.fails(2, &["serve"]);
    assert!(text.contains("needs a lake's folder"), "{text}");
    // A lake in the folder takes precedence, unless an option selects a profile.
    user.ok(&["init", "--name", "own"]);
    assert_eq!(user.json(&["table", "ls"]), json!([]));
    assert_eq!(user.json(&["table", "ls", "--profile", "lab"])[0]["rows"], 2);
    user.ok(&["logout"]);
    let text = user.fails(3, &["table", "ls", "--profile", "lab"]);
    assert!(text.contains("there is no profile `lab`"), "{text}");
    assert!(!std::fs::read_to_string(file).expect("a file").contains(&token));
}

#[test]
fn a_login_that_fails_stores_nothing() {
    let team = Team::new();
    let token = team.token("ana", &[]);
    let said = team.login(&token, &[]);
    assert_eq!(said.code, 7, "{}", said.stderr);
    assert!(said.stderr.contains("--certificate FILE"), "{}", said.stderr);
    let said = team.login("hwp_wrong", &["--certificate", &team.certificate]);
    assert_eq!(said.code, 8, "{}", said.stderr);
    let said = team.login("", &["--certificate", &team.certificate]);
    assert_eq!(said.code, 2, "{}", said.stderr);
    for (url, text) in [
        ("http://lake.example.com", "the token would be sent unencrypted"),
        ("lake.example.com", "is not the URL of a server"),
        ("ftp://lake.example.com", "is not the URL of a server"),
        ("https://lake.example.com/lake", "is not the URL of a server"),
    ] {
        let said = team.user.fails(2, &["login", url]);
        assert!(said.contains(text), "{said}");
    }
    assert!(!team.user.path().join(".config/headwater/profiles.json").exists());
    assert_eq!(team.user.json(&["profile", "ls"]), json!([]));
}

#[test]
fn a_user_sees_its_limits_and_an_administrator_sets_them() {
    let team = Team::new();
    let token = team.token("ana", &[("select", "namespace:public"), ("read", "branch:*")]);
    let lake = &team.lake;
    let set = lake.run(&["limit", "set", "ana", "--jobs", "2", "--money-per-day", "0"]);
    assert!(set.stderr.contains("set the limits of ana"), "{}", set.stderr);
    let none = lake.run(&["limit", "set", "ana"]);
    assert_eq!(none.code, 2, "{}", none.stderr);
    let said = team.login(&token, &["--certificate", &team.certificate]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let user = &team.user;
    let refused = user.run(&["query", "SELECT 1"]);
    assert_eq!(refused.code, 7, "{}", refused.stderr);
    assert!(refused.stderr.contains("`headwater limit set ana`"), "{}", refused.stderr);
    assert_eq!(user.json(&["limit", "ls"])[0]["limits"], json!({"jobs": 2, "money_per_day": 0.0}));
    let shown = user.ok(&["whoami"]);
    assert!(shown.contains("0 of 2 jobs at once"), "{shown}");
    assert_eq!(user.run(&["limit", "rm", "ana"]).code, 8);
    lake.ok(&["limit", "rm", "ana"]);
    user.ok(&["query", "SELECT 1"]);
    assert!(lake.run(&["limit", "ls"]).stderr.contains("no limits"));
    for noun in ["user", "role", "limit", "restriction"] {
        assert_eq!(lake.run(&[noun, "rm", "eve"]).code, 2, "{noun}");
        let missing = lake.run(&[noun, "rm", "eve", "--if-exists"]);
        assert_eq!(missing.code, 0, "{noun}: {}", missing.stderr);
        assert!(missing.stderr.contains("nothing was removed"), "{}", missing.stderr);
    }
    assert_eq!(user.run(&["user", "rm", "eve", "--if-exists"]).code, 8);
    lake.ok(&["user", "rm", "ana", "--if-exists"]);
}

#[test]
fn the_retention_of_the_audit_log_is_a_setting_of_the_lake() {
    let lake = Workspace::new();
    let set = lake.run(&["audit", "--keep", "90d"]);
    assert!(set.stderr.contains("events are kept for 90 days"), "{}", set.stderr);
    assert_eq!(lake.run(&["audit", "--keep", "1h"]).code, 2);
    assert_eq!(lake.run(&["audit", "--keep", "90d", "--since", "1h"]).code, 2);
    lake.ok(&["stop"]);
    let events = lake.json(&["audit", "--action", "set_audit_retention"]);
    assert_eq!(events[0]["reason"], "7776000 seconds");
}
