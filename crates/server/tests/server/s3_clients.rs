//! Tests of the S3 protocol, with boto3, the aws command line, s3fs and rclone.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::bucket_triggers::write;
use crate::clients;
use crate::support::{TestServer, bearer, config, start};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("s3::boto3_uses_every_operation", boto3),
        trial("s3::the_aws_command_line_copies_and_synchronises", aws),
        trial("s3::files_of_s3fs_are_objects_and_call_a_function", s3fs),
        trial("s3::rclone_copies_moves_links_and_deletes", rclone),
        trial("s3::contents_are_separate_from_the_files_of_tables", places),
        trial("s3::failed_signatures_are_in_the_audit_log", audit),
    ]
}

/// The packages of the scripts. The aws command line needs another version of boto3, so it is
/// installed separately.
const PACKAGES: [&str; 2] = ["boto3==1.44.5", "requests==2.34.2"];
const AWS: [&str; 1] = ["awscli==1.46.3"];

/// The packages of the script with s3fs.
const S3FS: [&str; 2] = ["s3fs==2026.9.0", "requests==2.34.2"];

/// Starts a server with an S3 listener.
pub async fn started() -> TestServer {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = config(folder.path());
    config.s3 = Some("127.0.0.1:0".parse().expect("an address"));
    TestServer { running: start(config).await, folder }
}

/// Returns the address for S3.
pub fn address(server: &TestServer) -> SocketAddr {
    server.running.s3_addr().expect("an address")
}

/// Runs a command that must succeed, and returns its standard output.
pub async fn run(mut command: Command) -> String {
    let work = move || command.output().expect("a command");
    let output: Output = tokio::task::spawn_blocking(work).await.expect("a command");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let (printed, errors) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{printed}{errors}");
    printed
}

/// Returns the Python interpreter of an environment with boto3.
pub fn python() -> std::path::PathBuf {
    clients::environment_of("s3-boto3-1.44.5", &PACKAGES).join("bin/python")
}

/// Returns the command that runs the script with boto3.
pub fn script(server: &TestServer) -> Command {
    let http = server.running.http_addr().expect("an address");
    let header = bearer(&server.running);
    let token = header.to_str().expect("text").trim_start_matches("Bearer ").to_owned();
    let mut command = Command::new(python());
    command.arg(clients::client("s3_boto3.py"));
    command.args([format!("http://{}", address(server)), format!("http://{http}"), token]);
    command
}

/// Adds an access key to a command's environment.
pub fn with_key(command: &mut Command, key: &Value) {
    command.env("AWS_ACCESS_KEY_ID", key["key"]["id"].as_str().expect("an id"));
    command.env("AWS_SECRET_ACCESS_KEY", key["secret"].as_str().expect("a secret"));
    command.env("AWS_DEFAULT_REGION", "us-east-1").env("AWS_CONFIG_FILE", "/dev/null");
    // rclone does not start with this variable, which other clients do not need.
    command.env_remove("AWS_CA_BUNDLE");
}

async fn boto3() {
    let server = started().await;
    assert_eq!(run(script(&server)).await, "ok\n");
}

async fn aws() {
    let server = started().await;
    let key = server.post("/v1/access-keys", json!({})).await;
    let programs = clients::environment_of("s3-awscli", &AWS).join("bin");
    let path = std::env::var("PATH").expect("a path");
    let mut command = Command::new("sh");
    command.arg(clients::client("s3_aws.sh")).arg(format!("http://{}", address(&server)));
    command.env("PATH", format!("{}:{path}", programs.display()));
    with_key(&mut command, &key);
    let printed = run(command).await;
    assert!(printed.ends_with("ok\n"), "{printed}");
}

const NOTIFIED: &str = r#"
[project]
name = "landing"

[[trigger]]
name = "arrived"
bucket = { name = "landing", prefix = "in/", suffix = ".csv" }
function = "count"
"#;

const COUNT: &str = r#"
from urllib.parse import unquote_plus

import headwater
from headwater import lake


@headwater.function()
def count(event):
    s3 = event["Records"][0]["s3"]
    content = lake.read_object(s3["bucket"]["name"], unquote_plus(s3["object"]["key"]))
    return len(content.splitlines()) - 1
"#;

async fn s3fs() {
    let server = started().await;
    write(server.folder.path(), "headwater.toml", NOTIFIED);
    write(server.folder.path(), "functions/count.py", COUNT);
    let deployed = server.deploy().await;
    assert!(deployed.get("code").is_none(), "{deployed}");
    let key = server.post("/v1/access-keys", json!({})).await;
    let environment = clients::environment_of("s3-s3fs-2026.9.0", &S3FS);
    let mut command = Command::new(environment.join("bin/python"));
    command.arg(clients::client("s3_fsspec.py")).arg(format!("http://{}", address(&server)));
    with_key(&mut command, &key);
    assert_eq!(run(command).await, "ok\n");
    let is_done = |jobs: &Value| jobs[0]["result"]["function"].is_number();
    let jobs = server.until("/v1/jobs?kind=function&status=succeeded", is_done).await;
    assert_eq!(jobs.as_array().map(Vec::len), Some(1), "{jobs}");
    assert_eq!(jobs[0]["result"]["function"], 2, "{jobs}");
    server.running.shutdown().await;
}

/// Returns the folder with the program `rclone`, which is unpacked from its Debian package once.
fn rclone_folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("s3-rclone");
    let lock = File::create(folder.with_extension("lock")).expect("a lock file");
    lock.lock().expect("a lock");
    if !folder.join("ready").exists() {
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).expect("a folder");
        clients::run(Command::new("flock").args(clients::APT).args(["update", "-qq"]));
        let mut download = Command::new("apt-get");
        clients::run(download.args(["download", "-qq", "rclone"]).current_dir(&folder));
        let package = std::fs::read_dir(&folder).expect("a folder").next().expect("a package");
        let package = package.expect("a package").path();
        clients::run(Command::new("dpkg").arg("-x").arg(&package).arg(&folder));
        std::fs::remove_file(package).expect("a package");
        std::fs::write(folder.join("ready"), "").expect("a file");
    }
    folder.join("usr/bin")
}

async fn rclone() {
    let server = started().await;
    let key = server.post("/v1/access-keys", json!({})).await;
    let programs = tokio::task::spawn_blocking(rclone_folder).await.expect("rclone");
    let path = std::env::var("PATH").expect("a path");
    let mut command = Command::new("sh");
    command.arg(clients::client("s3_rclone.sh")).arg(format!("http://{}", address(&server)));
    command.env("PATH", format!("{}:{path}", programs.display()));
    with_key(&mut command, &key);
    let printed = run(command).await;
    assert!(printed.ends_with("ok\n"), "{printed}");
}

async fn places() {
    let server = started().await;
    run(script(&server)).await;
    let lake = server.folder.path().join(".headwater");
    let files = |folder: &str| {
        let mut command = Command::new("find");
        command.arg(lake.join(folder)).args(["-type", "f"]);
        let output = command.output().expect("find");
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(files("warehouse"), Vec::<String>::new());
    let contents = files("objects");
    assert!(!contents.is_empty());
    let is_random = |path: &String| {
        let name = path.rsplit('/').next().unwrap_or_default();
        name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    assert!(contents.iter().all(is_random), "{contents:?}");
}

async fn audit() {
    let server = started().await;
    server.post("/v1/users", json!({"name": "eve", "kind": "service"})).await;
    let mut key = server.post("/v1/access-keys", json!({"user": "eve"})).await;
    key["secret"] = format!("hws_{}", "0".repeat(56)).into();
    let programs = clients::environment_of("s3-awscli", &AWS).join("bin");
    let mut command = Command::new(programs.join("aws"));
    command.args(["--endpoint-url", &format!("http://{}", address(&server)), "s3", "ls"]);
    with_key(&mut command, &key);
    let work = move || command.output().expect("aws");
    let output = tokio::task::spawn_blocking(work).await.expect("aws");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(errors.contains("SignatureDoesNotMatch"), "{errors}");
    let sql = "SELECT principal FROM system.audit WHERE method = 'access_key' \
               AND outcome = 'denied'";
    let deadline = std::time::Instant::now() + crate::support::PATIENCE;
    loop {
        let rows = server.rows(sql).await.to_string();
        if rows.contains("eve") {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{rows}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
