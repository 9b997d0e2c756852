//! Other people's object stores: moto's S3, and Azurite for Azure. The same tables, branches and upkeep
//! lie there.
//!
//! They come from PyPI and npm into the target folder, made once.

use std::fs::File;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use headwater_server::CloudSettings;
use libtest_mimic::Trial;
use serde_json::json;

use crate::support::{self, PATIENCE, TestServer};
use crate::trial;

/// The key that every Azurite has.
const AZURITE_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

const PYTHON_PACKAGES: [&str; 2] = ["moto[server]==5.2.5", "azure-storage-blob==12.31.1"];
const NODE_PACKAGE: &str = "azurite@3.37.0";

/// Azurite's program, below the folder that npm puts it into.
const AZURITE: &str = "node_modules/azurite/dist/src/blob/main.js";

pub fn trials() -> Vec<Trial> {
    vec![
        trial("emulators::tables_lie_in_motos_s3", moto),
        trial("emulators::tables_lie_in_azurite", azurite),
    ]
}

/// The programs, fetched where they are not there yet.
fn programs() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("emulators-moto-5.2.5-azurite-3.37.0");
    // Each test is a process of its own, and the first one fetches them.
    let lock = File::create(folder.with_extension("lock")).expect("a lock file");
    lock.lock().expect("a lock");
    if !folder.join("ready").exists() {
        let _ = std::fs::remove_dir_all(&folder);
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder));
        let pip = ["-m", "pip", "--quiet", "--disable-pip-version-check", "install"];
        run(Command::new(folder.join("bin/python")).args(pip).args(PYTHON_PACKAGES));
        let npm = ["install", "--silent", "--no-audit", "--no-fund", NODE_PACKAGE, "--prefix"];
        run(Command::new("npm").args(npm).arg(&folder));
        // npm that is stopped half-way says nothing of it.
        assert!(folder.join(AZURITE).exists(), "Azurite is not whole");
        std::fs::write(folder.join("ready"), "").expect("a file");
    }
    folder
}

fn run(command: &mut Command) {
    let output = command.output().expect("a process");
    let (text, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?} failed:\n{text}\n{errors}");
}

/// A process that ends with its test.
struct Emulator {
    child: Child,
    port: u16,
}

impl Emulator {
    /// Starts a program on a port that is free now, and waits until it listens.
    fn start(command: impl FnOnce(&str) -> Command) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("a port").port();
        drop(free);
        let mut command = command(&port.to_string());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "{command:?} does not listen");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Emulator { child, port }
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn settings<const N: usize>(variables: [(&str, &str); N]) -> CloudSettings {
    CloudSettings::new(variables.map(|(name, value)| (name.to_owned(), value.to_owned())))
}

async fn moto() {
    let programs = tokio::task::spawn_blocking(programs).await.expect("programs");
    let emulator = Emulator::start(|port| {
        let mut command = Command::new(programs.join("bin/moto_server"));
        command.args(["-H", "127.0.0.1", "-p", port]);
        command
    });
    let endpoint = format!("http://127.0.0.1:{}", emulator.port);
    let bucket = format!(
        "import boto3; boto3.client('s3', endpoint_url='{endpoint}', aws_access_key_id='a', \
         aws_secret_access_key='b', region_name='us-east-1').create_bucket(Bucket='lakes')"
    );
    run(Command::new(programs.join("bin/python")).args(["-c", &bucket]));
    let cloud = settings([
        ("AWS_ACCESS_KEY_ID", "a"),
        ("AWS_SECRET_ACCESS_KEY", "b"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", &endpoint),
        ("AWS_ALLOW_HTTP", "true"),
    ]);
    live_in("s3://lakes/a", &cloud).await;
}

async fn azurite() {
    let programs = tokio::task::spawn_blocking(programs).await.expect("programs");
    let emulator = Emulator::start(|port| {
        let mut command = Command::new("node");
        command.arg(programs.join(AZURITE));
        command.args(["--blobHost", "127.0.0.1", "--inMemoryPersistence"]);
        command.args(["--skipApiVersionCheck", "--blobPort", port]);
        command
    });
    let endpoint = format!("http://127.0.0.1:{}/devstoreaccount1", emulator.port);
    let container = format!(
        "from azure.storage.blob import BlobServiceClient; \
         BlobServiceClient('{endpoint}', credential='{AZURITE_KEY}').create_container('lakes')"
    );
    run(Command::new(programs.join("bin/python")).args(["-c", &container]));
    let cloud = settings([
        ("AZURE_STORAGE_ACCOUNT_NAME", "devstoreaccount1"),
        ("AZURE_STORAGE_ACCOUNT_KEY", AZURITE_KEY),
        ("AZURE_STORAGE_ENDPOINT", &endpoint),
        ("AZURE_ALLOW_HTTP", "true"),
    ]);
    live_in("az://lakes/a", &cloud).await;
}

/// A lake's life in a warehouse: large and small files, branches, deletes, upkeep, and another server.
async fn live_in(url: &str, cloud: &CloudSettings) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let project = folder.path().to_owned();
    let config = || {
        let mut config = support::config(&project);
        config.warehouse.url = Some(url.to_owned());
        config.warehouse.cloud = cloud.clone();
        config
    };
    let running = support::start(config()).await;
    let server = TestServer { running, folder };
    server.rows("CREATE TABLE small AS SELECT 1 AS id").await;
    server.rows("INSERT INTO small VALUES (2), (3)").await;
    let made = server.post("/v1/branches", json!({"name": "dev"})).await;
    assert_eq!(made["name"], "dev", "{made}");
    let delete = json!({"sql": "DELETE FROM small WHERE id = 1", "ref": "dev"});
    server.post("/v1/query", delete).await;
    server.rows("INSERT INTO small VALUES (4)").await;
    let merged = server.post("/v1/branches/main/merge", json!({"source": "dev"})).await;
    assert_eq!(merged["outcome"], "merged", "{merged}");
    // More than one part of an upload.
    let large = "CREATE TABLE large AS SELECT (a.value * 1000003 + b.value * 7919) * 1000000007 \
                 % 1000000000039 AS v FROM generate_series(1, 2000) a, generate_series(1, 1000) b";
    server.rows(large).await;
    let upkeep = json!({"compact": true, "keep": 1, "orphans": true});
    let job = server.post("/v1/branches/main/tables/small/maintain", upkeep).await;
    let id = job["id"].as_str().expect("an id").to_owned();
    server.until(&format!("/v1/jobs/{id}"), |job| job["status"] == "succeeded").await;
    server.running.shutdown().await;
    let again = TestServer { running: support::start(config()).await, ..server };
    let ids = again.rows("SELECT id FROM small ORDER BY id").await;
    assert_eq!(ids, json!([{"id": 2}, {"id": 3}, {"id": 4}]));
    let counted = again.rows("SELECT count(*) AS n, sum(v % 1000) AS s FROM large").await;
    assert_eq!(counted[0]["n"], 2_000_000, "{counted}");
}
