//! Kafka clusters on loopback: the mock cluster of librdkafka, from a package of PyPI that is
//! installed once.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

const PACKAGE: &str = "confluent-kafka==2.16.1";

/// A cluster.
pub struct KafkaProcess {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    servers: String,
}

impl KafkaProcess {
    /// Starts a cluster with one server, behind a proxy.
    pub fn start() -> Self {
        Self::start_with(&json!({"proxy": true}))
    }

    /// Starts a cluster with the options of `tests/clients/kafka_cluster.py`.
    pub fn start_with(options: &Value) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR"));
        let script = script.join("../../tests/clients/kafka_cluster.py");
        let mut python = Command::new(environment().join("bin/python"));
        python.arg(script).arg(options.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = python.spawn().expect("a cluster");
        let input = child.stdin.take().expect("the input");
        let output = BufReader::new(child.stdout.take().expect("the output"));
        let mut process = KafkaProcess { child, input, output, servers: String::new() };
        let started = process.read();
        process.servers.push_str(started["servers"].as_str().expect("the servers"));
        process
    }

    /// The servers, separated by commas.
    pub fn servers(&self) -> &str {
        &self.servers
    }

    /// Runs a command, and returns its result.
    pub fn run(&mut self, command: &Value) -> Value {
        writeln!(self.input, "{command}").expect("a command");
        self.input.flush().expect("a command");
        self.read()["result"].take()
    }

    /// Sends records to a partition. Checks that all records were accepted.
    pub fn produce(&mut self, topic: &str, partition: i32, records: &Value) -> Vec<i64> {
        self.produce_with("none", topic, partition, records)
    }

    /// Sends records that are compressed with a codec.
    pub fn produce_with(
        &mut self,
        codec: &str,
        topic: &str,
        partition: i32,
        records: &Value,
    ) -> Vec<i64> {
        let offsets = self.run(&json!({
            "do": "produce", "topic": topic, "partition": partition, "records": records,
            "codec": codec,
        }));
        let offsets = offsets.as_array().expect("offsets");
        offsets.iter().map(|offset| offset.as_i64().unwrap_or_else(|| panic!("{offset}"))).collect()
    }

    fn read(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("an answer");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: `{line}`"))
    }
}

impl Drop for KafkaProcess {
    fn drop(&mut self) {
        self.child.kill().expect("a signal");
        self.child.wait().expect("the end of the cluster");
    }
}

/// Returns the environment with the package. Each test is a separate process; the first process
/// creates the environment.
fn environment() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("confluent-kafka-2.16.1");
    let lock = File::create(folder.with_extension("lock")).expect("a lock file");
    lock.lock().expect("a lock");
    if !folder.join("ready").exists() {
        let _ = std::fs::remove_dir_all(&folder);
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder));
        let pip = ["-m", "pip", "--quiet", "--disable-pip-version-check", "install", PACKAGE];
        run(Command::new(folder.join("bin/python")).args(pip));
        std::fs::write(folder.join("ready"), "").expect("a file");
    }
    folder
}

fn run(command: &mut Command) {
    let output = command.output().expect("a program");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
}
