//! Logins at a real OpenID provider: by the device flow, and with tokens of the provider.

#[path = "../../oidc/tests/provider/real.rs"]
#[expect(dead_code, reason = "used only by other test programs")]
mod real;
mod support;

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use real::RealProvider;
use serde_json::json;
use support::{Answer, Workspace, answer, until};

/// A server that trusts an OpenID provider. Users in the provider's group `analysts` have the role
/// `analyst`.
struct Team {
    provider: RealProvider,
    lake: Workspace,
    server: std::process::Child,
    user: Workspace,
    url: String,
}

impl Team {
    fn new() -> Self {
        let (provider, lake) = (RealProvider::start(), Workspace::new());
        lake.ok(&["query", "CREATE TABLE t AS SELECT 1 AS id"]);
        for role in ["analyst", "auditor"] {
            lake.ok(&["role", "create", role]);
        }
        lake.ok(&["grant", "select", "--on", "table:t", "--to", "analyst"]);
        lake.ok(&["grant", "read", "--on", "branch:*", "--to", "analyst"]);
        let file = lake.write(
            "oidc.toml",
            format!(
                "issuer = \"{}\"\nclient_id = \"lake\"\ncreate_users = true\n\n\
                 [roles]\nanalysts = \"analyst\"\nsecurity = \"auditor\"\n",
                provider.issuer
            ),
        );
        let file = file.to_str().expect("a path");
        let server = lake.start(&["serve", "--http", "127.0.0.1:0", "--oidc", file]);
        let is_served = || {
            let record = lake.server();
            record.is_some_and(|it| it["http"].is_string() && it["background"] != true)
        };
        until("the server answers", is_served);
        let record = lake.server().expect("a server");
        let url = format!("http://{}", record["http"].as_str().expect("an address"));
        Team { provider, lake, server, user: Workspace::empty(), url }
    }

    /// Logs a user in with `headwater login`.
    fn login(&self, name: &str) -> Answer {
        let mut command = self.user.command(&["login", &self.url, "--device", "--name", name]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command starts");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let said = lines.next().expect("a line").expect("text");
        let words: Vec<&str> = said.split(' ').collect();
        let address = words.iter().find(|word| word.starts_with("http")).expect("an address");
        self.provider.confirm(address, name);
        let rest: Vec<String> = lines.map(|line| line.expect("text")).collect();
        let mut answer = answer(child.wait_with_output().expect("the command ends"));
        answer.stderr = rest.join("\n");
        answer
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[test]
fn a_person_logs_in_at_the_provider_and_has_the_roles_of_its_groups() {
    let team = Team::new();
    let said = team.login("ana");
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(said.stderr.contains("as ana@example.com; profile ana"), "{}", said.stderr);
    assert_eq!(team.user.rows("SELECT id FROM t"), json!([{"id": 1}]));
    let whoami = team.user.json(&["whoami"]);
    assert_eq!((&whoami["method"], &whoami["roles"]), (&json!("token"), &json!(["analyst"])));
    let tokens = team.user.json(&["token", "ls"]);
    assert_eq!(tokens[0]["label"], "headwater login");
    assert!(tokens[0]["expires"].is_string(), "{tokens}");
    // Each login sets the roles of the provider's groups, and no other roles.
    team.lake.ok(&["role", "grant", "auditor", "ana@example.com"]);
    team.lake.ok(&["role", "create", "other"]);
    team.lake.ok(&["role", "grant", "other", "ana@example.com"]);
    team.login("ana");
    assert_eq!(team.user.json(&["whoami"])["roles"], json!(["analyst", "other"]));
    // Bob is in no group, so he has no rights. Eve's email address is not verified.
    assert_eq!(team.login("bob").code, 0);
    team.user.fails(8, &["--profile", "bob", "query", "SELECT id FROM t"]);
    let said = team.login("eve");
    assert_eq!(said.code, 8, "{}", said.stderr);
    // An administrator ends all access of a user, including later logins.
    team.lake.ok(&["user", "disable", "ana@example.com"]);
    team.user.fails(8, &["--profile", "ana", "query", "SELECT id FROM t"]);
    assert_eq!(team.login("ana").code, 8);
}

#[test]
fn a_login_without_a_provider_is_an_error() {
    let lake = Workspace::new();
    lake.ok(&["query", "SELECT 1"]);
    let mut server = lake.start(&["serve", "--http", "127.0.0.1:0"]);
    until("the server answers", || lake.server().is_some_and(|it| it["http"].is_string()));
    let record = lake.server().expect("a server");
    let url = format!("http://{}", record["http"].as_str().expect("an address"));
    let said = Workspace::empty().fails(2, &["login", &url, "--device"]);
    assert!(said.contains("the server has no OpenID provider"), "{said}");
    let _ = server.kill();
    let _ = server.wait();
    let wrong = lake.write("oidc.toml", "issuer = \"http://login.example\"\nclient_id = \"x\"\n");
    let said = lake
        .fails(2, &["serve", "--http", "127.0.0.1:0", "--oidc", wrong.to_str().expect("a path")]);
    assert!(
        said.contains("the URL of a provider on another host must begin with `https://`"),
        "{said}"
    );
}
