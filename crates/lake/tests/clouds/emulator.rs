//! Object store emulators as child processes that end with the test: moto for S3, Azurite for
//! Azure.
//!
//! The emulators are installed once from PyPI and npm into the target folder.

use std::fs::File;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The account key of Azurite, which is public.
pub const AZURITE_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

const PYTHON_PACKAGES: [&str; 2] = ["moto[server]==5.2.5", "azure-storage-blob==12.31.1"];
const NODE_PACKAGE: &str = "azurite@3.37.0";

/// The path of Azurite's program below npm's folder.
const AZURITE: &str = "node_modules/azurite/dist/src/blob/main.js";

/// Maximum time to wait until an emulator accepts connections.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process of an emulator, which ends with its test.
pub struct Emulator {
    child: Child,
    port: u16,
}

impl Emulator {
    /// Starts moto's S3 with a bucket.
    pub fn moto(bucket: &str) -> Self {
        let programs = programs();
        let emulator = Self::start(|port| {
            let mut command = Command::new(programs.join("bin/moto_server"));
            command.args(["-H", "127.0.0.1", "-p", port]);
            command
        });
        let endpoint = format!("http://{}", emulator.address());
        let make = format!(
            "import boto3; boto3.client('s3', endpoint_url='{endpoint}', aws_access_key_id='a', \
             aws_secret_access_key='b', region_name='us-east-1').create_bucket(Bucket='{bucket}')"
        );
        run(Command::new(programs.join("bin/python")).args(["-c", &make]));
        emulator
    }

    /// Starts Azurite with a container.
    pub fn azurite(container: &str) -> Self {
        let programs = programs();
        let emulator = Self::start(|port| {
            let mut command = Command::new("node");
            command.arg(programs.join(AZURITE));
            command.args(["--blobHost", "127.0.0.1", "--inMemoryPersistence"]);
            command.args(["--skipApiVersionCheck", "--blobPort", port]);
            command
        });
        let endpoint = format!("http://{}/devstoreaccount1", emulator.address());
        let make = format!(
            "from azure.storage.blob import BlobServiceClient; \
             BlobServiceClient('{endpoint}', credential='{AZURITE_KEY}')\
             .create_container('{container}')"
        );
        run(Command::new(programs.join("bin/python")).args(["-c", &make]));
        emulator
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Starts a program on a free port, and waits until it listens.
    fn start(command: impl FnOnce(&str) -> Command) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("a port").port();
        drop(free);
        let mut command = command(&port.to_string());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        let emulator = Emulator { child, port };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(emulator.address()).is_err() {
            assert!(Instant::now() < deadline, "{command:?} does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        emulator
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the environment variables that make a client use Azurite at an address.
pub fn azurite_variables(address: &str) -> [(String, String); 4] {
    [
        ("AZURE_STORAGE_ACCOUNT_NAME".to_owned(), "devstoreaccount1".to_owned()),
        ("AZURE_STORAGE_ACCOUNT_KEY".to_owned(), AZURITE_KEY.to_owned()),
        ("AZURE_STORAGE_ENDPOINT".to_owned(), format!("http://{address}/devstoreaccount1")),
        ("AZURE_ALLOW_HTTP".to_owned(), "true".to_owned()),
    ]
}

/// Installs the emulators if they are missing.
fn programs() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("emulators-moto-5.2.5-azurite-3.37.0");
    // Each test is a separate process. The first process installs the emulators.
    let lock = File::create(folder.with_extension("lock")).expect("a lock file");
    lock.lock().expect("a lock");
    if !folder.join("ready").exists() {
        let _ = std::fs::remove_dir_all(&folder);
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder));
        let pip = ["-m", "pip", "--quiet", "--disable-pip-version-check", "install"];
        run(Command::new(folder.join("bin/python")).args(pip).args(PYTHON_PACKAGES));
        let npm = ["install", "--silent", "--no-audit", "--no-fund", NODE_PACKAGE, "--prefix"];
        run(Command::new("npm").args(npm).arg(&folder));
        // An interrupted `npm install` may not report an error.
        assert!(folder.join(AZURITE).exists(), "the installation of Azurite is incomplete");
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
