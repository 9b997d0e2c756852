//! A server of a lake, for clients of the Iceberg REST catalog.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::commands::binary;

/// A child process that serves a lake. It ends when the value is dropped.
pub struct RestServer {
    child: Child,
    port: u16,
    lake: PathBuf,
}

impl RestServer {
    /// Serves the lake in a folder on a free port of the loopback address.
    pub fn start(lake: &Path) -> Outcome<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let child = Command::new(binary())
            .args(["serve", "--http", &format!("127.0.0.1:{port}"), "--lake"])
            .arg(lake)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let server = RestServer { child, port, lake: lake.to_owned() };
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if began.elapsed() > Duration::from_secs(30) {
                return Err("the server does not respond".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// Returns DuckDB's statement that attaches a branch under a name.
    pub fn attach(&self, branch: &str, name: &str) -> Outcome<String> {
        let token = std::fs::read_to_string(self.lake.join("server.token"))?;
        Ok(format!(
            "ATTACH '{branch}' AS {name} (TYPE iceberg, \
             ENDPOINT 'http://127.0.0.1:{}/iceberg', TOKEN '{}')",
            self.port,
            token.trim()
        ))
    }
}

impl Drop for RestServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
