//! The reference: `MiniStack` from PyPI, an emulator of AWS that calls functions on this machine.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::commands::{cache, run};
use crate::invoke::Connection;

const PACKAGES: [&str; 2] = ["ministack==1.5.33", "boto3==1.43.106"];
const SCRIPT: &str = include_str!("../references/ministack.py");

/// Maximum time of the start.
const START_MAX: Duration = Duration::from_secs(60);

/// A running emulator with the functions of the suite; stopped when dropped.
pub struct MiniStack {
    child: Child,
    address: String,
    lines: PathBuf,
}

impl MiniStack {
    /// Installs and starts the emulator, and deploys the functions.
    pub fn start(folder: &Path) -> Outcome<Self> {
        let python = environment()?;
        let address = format!("127.0.0.1:{}", free_port()?);
        let (_, port) = address.rsplit_once(':').unwrap_or_default();
        let mut command = Command::new(python.with_file_name("ministack"));
        command.env("GATEWAY_PORT", port).env("BIND_HOST", "127.0.0.1").env("LOG_LEVEL", "ERROR");
        command.env("TMPDIR", folder).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let lines = folder.join("ministack-lines");
        let stack = MiniStack { child: command.spawn()?, address, lines };
        let until = Instant::now() + START_MAX;
        while stack.is_starting() {
            if Instant::now() > until {
                return Err("MiniStack did not start".into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let endpoint = format!("http://{}", stack.address);
        run(Command::new(python).args(["-c", SCRIPT, &endpoint]).arg(&stack.lines))?;
        Ok(stack)
    }

    /// Returns the address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Opens a connection.
    pub fn connect(&self) -> Outcome<Connection> {
        Connection::open(&self.address, "")
    }

    /// Returns the times, in nanoseconds since 1970, at which the handler of the bucket was called.
    pub fn handled(&self) -> Vec<u64> {
        let text = std::fs::read_to_string(&self.lines).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    fn is_starting(&self) -> bool {
        let health = b"GET /_localstack/health HTTP/1.1\r\nhost: localhost\r\n\r\n";
        let asked = self.connect().and_then(|mut connection| connection.exchange(health));
        !asked.is_ok_and(|(status, _, _)| status == 200)
    }
}

impl Drop for MiniStack {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

/// Returns the interpreter of an environment with the emulator; the environment persists between
/// runs.
fn environment() -> Outcome<PathBuf> {
    let folder = cache().join(PACKAGES.join("-"));
    let (python, ready) = (folder.join("bin/python"), folder.join("ready"));
    if !ready.exists() {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(PACKAGES))?;
        std::fs::write(ready, "")?;
    }
    Ok(python)
}

/// Returns a port that is free now.
fn free_port() -> Outcome<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
