//! A lake with its tables on S3: creation, later use, and errors for an unavailable bucket.

#[path = "../../lake/tests/clouds/fault_proxy.rs"]
#[expect(dead_code, reason = "used only by tests of faults")]
mod fault_proxy;
#[path = "../../lake/tests/clouds/s3.rs"]
#[expect(dead_code, reason = "used only by tests of faults")]
mod s3;
mod support;

use std::process::Command;

use serde_json::json;

use self::fault_proxy::Fault;
use self::s3::S3;
use self::support::{Workspace, answer};

/// A workspace with an S3 server and a bucket.
struct Bucket {
    workspace: Workspace,
    s3: S3,
}

impl Bucket {
    fn new() -> Self {
        let workspace = Workspace::empty();
        std::fs::create_dir_all(workspace.path().join("s3/lakes")).expect("a bucket");
        let s3 = S3::start(&workspace.path().join("s3"));
        Bucket { workspace, s3 }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.workspace.command(arguments);
        command.envs(self.s3.variables());
        command
    }

    /// Runs a command with the bucket's keys in its environment, and returns its output.
    fn run(&self, code: i32, arguments: &[&str]) -> String {
        let answer = answer(self.command(arguments).output().expect("the command starts"));
        let (out, err) = (answer.stdout, answer.stderr);
        assert_eq!(answer.code, code, "`headwater {}`\n{out}\n{err}", arguments.join(" "));
        assert!(!format!("{out}{err}").contains(s3::SECRET), "{out}\n{err}");
        if code == 0 { out } else { err }
    }
}

#[test]
fn a_lake_stores_its_tables_in_a_bucket() {
    let bucket = Bucket::new();
    bucket.run(0, &["init", "--name", "test", "--warehouse", "s3://lakes/shop"]);
    bucket.workspace.write("files/a.csv", "id,name\n1,anna\n2,bert\n");
    bucket.run(0, &["table", "import", "people", "files/a.csv"]);
    bucket.run(0, &["query", "INSERT INTO people VALUES (3, 'carl')"]);
    // A new server reads the bucket's location from the lake.
    bucket.run(0, &["stop"]);
    let rows = bucket.run(0, &["query", "SELECT id FROM people ORDER BY id", "-o", "json"]);
    let rows: serde_json::Value = serde_json::from_str(&rows).expect("JSON");
    assert_eq!(rows, json!([{"id": 1}, {"id": 2}, {"id": 3}]));
    assert!(bucket.workspace.path().join("s3/lakes/shop/public").is_dir());
    assert!(!bucket.workspace.path().join(".headwater/warehouse").exists());
    // No file or output contains the secret.
    let log = std::fs::read_to_string(bucket.workspace.path().join(".headwater/server.log"));
    assert!(!log.expect("a log").contains(s3::SECRET));
    bucket.run(0, &["stop"]);
    let text =
        bucket.run(2, &["serve", "--http", "127.0.0.1:0", "--warehouse", "s3://lakes/other"]);
    assert!(text.contains("the lake has tables in the warehouse `s3://lakes/shop`"), "{text}");
    // With a wrong or missing key, the error names the variables to set.
    let mut keyless = bucket.command(&["query", "SELECT 1"]);
    keyless.env("AWS_SECRET_ACCESS_KEY", "wrong");
    let refused = answer(keyless.output().expect("the command starts"));
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("rejects the credentials"), "{}", refused.stderr);
    assert!(refused.stderr.contains("AWS_ACCESS_KEY_ID"), "{}", refused.stderr);
}

#[test]
fn an_unavailable_bucket_creates_no_lake() {
    let bucket = Bucket::new();
    bucket.s3.fail("GET", "/missing/", Fault::Answer(404, "NoSuchBucket"), 1);
    let text = bucket.run(1, &["init", "--name", "test", "--warehouse", "s3://missing"]);
    assert!(
        text.contains("the bucket of `s3://missing/headwater-lake.json` does not exist"),
        "{text}"
    );
    assert!(text.contains("hint:"), "{text}");
    // The same command succeeds once the bucket exists.
    bucket.run(0, &["init", "--name", "test", "--warehouse", "s3://lakes"]);
    let text = bucket.run(2, &["init", "second", "--warehouse", "ftp://lakes"]);
    assert!(text.contains("`ftp://lakes` cannot be a warehouse"), "{text}");
    let text = bucket.run(4, &["init", "third", "--warehouse", "s3://lakes"]);
    assert!(text.contains("`s3://lakes` is the warehouse of another lake"), "{text}");
}

#[test]
fn a_failed_creation_of_a_lake_leaves_no_files() {
    let workspace = Workspace::empty();
    workspace.write("kept/.gitignore", "mine\n");
    for folder in ["new", "kept"] {
        let mut init = workspace.command(&["init", folder, "--warehouse", "ftp://lakes/shop"]);
        let answer = init.output().expect("the command starts");
        assert!(!answer.status.success());
    }
    assert!(!workspace.path().join("new").exists());
    let left: Vec<_> =
        std::fs::read_dir(workspace.path().join("kept")).expect("a folder").collect();
    assert_eq!(left.len(), 1, "{left:?}");
}
