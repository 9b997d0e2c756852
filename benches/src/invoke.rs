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

/// Measures the latency of sequential calls, and adds it to the report.
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
    s3: Option<String>,
    token: String,
}

impl Server {
    /// Starts a server with a new lake and a project of these files.
    pub fn create(folder: &Path, files: &[(&str, &str)]) -> Outcome<Self> {
        Server::create_with(folder, files, &[])
    }

    /// Starts a server with further arguments of `headwater serve`.
    pub fn create_with(folder: &Path, files: &[(&str, &str)], options: &[&str]) -> Outcome<Self> {
        run(headwater(folder).arg("init").arg(folder))?;
        std::fs::write(folder.join("headwater.toml"), PROJECT)?;
        for (name, text) in files {
            std::fs::write(folder.join(name), text)?;
        }
        run(headwater(folder).arg("deploy"))?;
        Server::start(folder, options)
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

    /// Returns the address of the S3 endpoint, if the server has one.
    pub fn s3(&self) -> Option<&str> {
        self.s3.as_deref()
    }

    fn start(folder: &Path, options: &[&str]) -> Outcome<Self> {
        let mut command = headwater(folder);
        command.args(["serve", "--http", "127.0.0.1:0"]).args(options);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        let (address, token) = (String::new(), String::new());
        let mut server = Server { child, address, s3: None, token };
        let lake = folder.join(".headwater");
        let until = Instant::now() + Duration::from_secs(30);
        while Instant::now() < until {
            let text = std::fs::read(lake.join("server.json")).unwrap_or_default();
            let info: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
            // Check the process id, because the file of the server that ran `headwater deploy` may
            // still exist.
            let is_own = info["pid"].as_u64() == Some(u64::from(server.id()));
            if let (true, Some(address)) = (is_own, info["http"].as_str()) {
                server.address = address.to_owned();
                server.s3 = info["s3"].as_str().map(str::to_owned);
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
        let (status, answer, taken) = self.exchange(request.as_bytes())?;
        if status == 200 {
            Ok(taken)
        } else {
            Err(format!("{path}: {status}: {}", String::from_utf8_lossy(&answer)).into())
        }
    }

    /// Sends the bytes of a request. Returns the status and body of the response, and the latency.
    pub fn exchange(&mut self, request: &[u8]) -> Outcome<(u16, Vec<u8>, Duration)> {
        let began = Instant::now();
        self.stream.write_all(request)?;
        let (mut line, mut length, mut status) = (String::new(), 0, None);
        let mut chunked = false;
        loop {
            line.clear();
            if self.reader.read_line(&mut line)? == 0 {
                return Err("the server closed the connection".into());
            }
            let text = line.trim().to_ascii_lowercase();
            if text.is_empty() {
                break;
            }
            if status.is_none() {
                let code = text.split(' ').nth(1).unwrap_or_default();
                status = Some(code.parse().map_err(|_| format!("`{text}` has no status"))?);
            } else if let Some(value) = text.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            chunked |= text == "transfer-encoding: chunked";
        }
        let answer = if chunked { self.read_chunked()? } else { self.read_exactly(length)? };
        Ok((status.unwrap_or_default(), answer, began.elapsed()))
    }
}
