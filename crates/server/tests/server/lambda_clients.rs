//! Unmodified runtime clients of AWS in functions that are deployed through Lambda's API.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::Trial;

use crate::lambda::PACKAGES;
use crate::support::{TestServer, bearer};
use crate::{clients, trial};

pub fn trials() -> Vec<Trial> {
    vec![trial("lambda_clients::the_rust_example_runs", rust)]
}

/// Builds the example in Rust with crates from the registry, once per version of the example.
fn program() -> PathBuf {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/rust-function");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rust-function");
    let lock = File::create(target.with_extension("lock")).expect("a lock file");
    lock.lock().expect("a lock");
    let mut build = Command::new("cargo");
    build.args(["build", "--quiet", "--release", "--locked", "--manifest-path"]);
    build.arg(example.join("Cargo.toml")).env("CARGO_TARGET_DIR", &target);
    // Settings of the outer build do not apply to the example.
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET"] {
        build.env_remove(name);
    }
    clients::run(&mut build);
    target.join("release/bootstrap")
}

async fn rust() {
    let server = TestServer::start().await;
    let http = server.running.http_addr().expect("an address");
    let header = bearer(&server.running);
    let token = header.to_str().expect("text").trim_start_matches("Bearer ").to_owned();
    let work = move || {
        let python = clients::environment_of("s3-boto3-1.44.5", &PACKAGES).join("bin/python");
        let mut command = Command::new(python);
        command.arg(clients::client("lambda_rust.py")).args([format!("http://{http}"), token]);
        clients::run(command.arg(program()).env("AWS_CONFIG_FILE", "/dev/null"))
    };
    let printed = tokio::task::spawn_blocking(work).await.expect("a command");
    assert_eq!(printed, "ok\n");
    server.running.shutdown().await;
}
