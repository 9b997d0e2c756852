//! Latency of a warm function call over HTTP with its job stored, compared with `GET /health` on
//! the same connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::commands::{headwater, run};
use crate::report::{Report, duration};
use crate::sample::{median, wait_until_quiet};

pub const INVOKE: &str = "/v1/functions/nothing/invoke";
const PROJECT: &str = "[project]\nname = \"bench\"\n";
pub const FUNCTION: &str = "import headwater\n\n\n@headwater.function(reuse=True, memory=\"256MiB\")\ndef nothing():\n    return True\n";

/// Adds the latency of sequential calls to the report.
pub fn measure(report: &mut Report, calls: usize) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let server = Server::create(folder.path(), &[("nothing.py", FUNCTION)])?;
    let mut connection = server.connect()?;
    // The first call creates the environment and starts the process.
    for _ in 0..10 {
        connection.request("POST", INVOKE, "{}")?;
    }
    wait_until_quiet()?;
    let (mut taken, mut references) = (Vec::new(), Vec::new());
    for _ in 0..calls {
        taken.push(connection.request("POST", INVOKE, "{}")?);
        references.push(connection.request("GET", "/health", "")?);
    }
    let round = median(references);
    let name = format!("GET /health {}", duration(round));
    let bounds = (Duration::from_millis(1) + round, Duration::from_millis(5) + round);
    report.spread("warm no-op call over HTTP, job stored", &taken, &name, bounds);
    Ok(())
}

/// A server of a folder's lake; stopped when dropped.
pub struct Server {
    child: Child,
    address: String,
    token: String,
}

impl Server {
    /// Starts a server with a new lake and a project of these files.
    pub fn create(folder: &Path, files: &[(&str, &str)]) -> Outcome<Self> {
        run(headwater(folder).arg("init").arg(folder))?;
        std::fs::write(folder.join("headwater.toml"), PROJECT)?;
        for (name, text) in files {
            std::fs::write(folder.join(name), text)?;
        }
        run(headwater(folder).arg("deploy"))?;
        Server::start(folder)
    }

    /// Returns the id of the server's process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the HTTP address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns the token for requests.
    pub fn token(&self) -> &str {
        self.token.trim()
    }

    fn start(folder: &Path) -> Outcome<Self> {
        let mut command = headwater(folder);
        command.args(["serve", "--http", "127.0.0.1:0"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        let mut server = Server { child, address: String::new(), token: String::new() };
        let lake = folder.join(".headwater");
        let until = Instant::now() + Duration::from_secs(30);
        while Instant::now() < until {
            let text = std::fs::read(lake.join("server.json")).unwrap_or_default();
            let info: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
            if let Some(address) = info["http"].as_str() {
                server.address = address.to_owned();
                server.token = std::fs::read_to_string(lake.join("server.token"))?;
                return Ok(server);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err("the server did not start".into())
    }

    /// Opens a connection.
    pub fn connect(&self) -> Outcome<Connection> {
        Connection::open(&self.address, self.token())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

/// An HTTP connection with keep-alive.
pub struct Connection {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
    token: String,
}

impl Connection {
    /// Connects to a server. The token is sent with each request.
    pub fn open(address: &str, token: &str) -> Outcome<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let (token, reader) = (token.to_owned(), BufReader::new(stream.try_clone()?));
        Ok(Connection { stream, reader, token })
    }

    fn read_exactly(&mut self, length: usize) -> Outcome<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads a chunked body.
    fn read_chunked(&mut self) -> Outcome<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let mut line = String::new();
            self.reader.read_line(&mut line)?;
            let length = usize::from_str_radix(line.trim(), 16)?;
            // Every chunk ends with CRLF, including the last one.
            let part = self.read_exactly(length + 2)?;
            if length == 0 {
                return Ok(body);
            }
            body.extend_from_slice(&part[..length]);
        }
    }

    /// Sends a request and returns its latency. A status other than 200 is an error.
    pub fn request(&mut self, method: &str, path: &str, body: &str) -> Outcome<Duration> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        );
        let began = Instant::now();
        self.stream.write_all(request.as_bytes())?;
        let (mut line, mut length, mut status) = (String::new(), 0, String::new());
        let mut chunked = false;
        loop {
            line.clear();
            self.reader.read_line(&mut line)?;
            let text = line.trim().to_ascii_lowercase();
            if text.is_empty() {
                break;
            }
            if status.is_empty() {
                status.clone_from(&text);
            } else if let Some(value) = text.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            chunked |= text == "transfer-encoding: chunked";
        }
        let answer = if chunked { self.read_chunked()? } else { self.read_exactly(length)? };
        let taken = began.elapsed();
        if status.contains(" 200 ") {
            Ok(taken)
        } else {
            Err(format!("{path}: {status}: {}", String::from_utf8_lossy(&answer)).into())
        }
    }
}
