//! Throughput of a warm no-op function with concurrent callers over HTTP. The reference is a plain
//! Python HTTP server that does nothing, in the same run and with the same clients.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::invoke::{Connection, FUNCTION, INVOKE, Server};
use crate::report::{Report, duration};
use crate::sample::{percentile, wait_until_quiet};

/// Numbers of concurrent callers, each with a connection of its own.
pub const CALLERS: [usize; 5] = [1, 4, 16, 64, 256];

/// Duration of a measurement.
pub const TIME: Duration = Duration::from_secs(5);

/// Minimum number of calls per second: the bound in the report.
pub const RATE_MIN: u64 = 3_000;

/// A server that answers each request with the same text.
const PYTHON: &str = "
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    wbufsize = -1

    def do_POST(self):
        self.rfile.read(int(self.headers['content-length']))
        self.send_response(200)
        self.send_header('content-length', '4')
        self.end_headers()
        self.wfile.write(b'true')

    def log_message(self, *_):
        pass

class Server(ThreadingHTTPServer):
    request_queue_size = 1024

server = Server(('127.0.0.1', 0), Handler)
with open(sys.argv[1], 'w') as file:
    file.write(f'127.0.0.1:{server.server_port}\\n')
server.serve_forever()
";

/// Measures the calls per second, and adds the rates to the report.
pub fn measure(report: &mut Report) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let server = Server::create(folder.path(), &[("nothing.py", FUNCTION)])?;
    let python = PythonServer::start(folder.path())?;
    // The first call creates the environment.
    server.connect()?.request("POST", INVOKE, "{}")?;
    for callers in CALLERS {
        wait_until_quiet()?;
        let call = |connection: &mut Connection| connection.request("POST", INVOKE, "{}");
        let (rate, latencies) = run(callers, || server.connect(), call)?;
        let (plain, _) = run(callers, || Connection::open(&python.address, ""), call)?;
        let at = |share| duration(percentile(&latencies, share));
        report.plain(
            &format!("warm no-op calls, callers: {callers}"),
            &format!("{rate:.0} /s"),
            &format!("p50 {}, p99 {}; Python's http.server {plain:.0} /s", at(50), at(99)),
            &format!("at least {RATE_MIN} /s"),
        );
    }
    Ok(())
}

/// Starts the callers, each of which makes calls in a loop. Returns the calls per second and the
/// latencies.
pub fn run(
    callers: usize,
    connect: impl Fn() -> Outcome<Connection> + Sync,
    call: impl Fn(&mut Connection) -> Outcome<Duration> + Sync,
) -> Outcome<(f64, Vec<Duration>)> {
    let began = Instant::now();
    let until = began + TIME;
    let caller = || -> Outcome<Vec<Duration>> {
        let mut connection = connect()?;
        let mut latencies = Vec::new();
        while Instant::now() < until {
            latencies.push(call(&mut connection)?);
        }
        Ok(latencies)
    };
    let latencies = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..callers).map(|_| scope.spawn(caller)).collect();
        let mut all = Vec::new();
        for thread in threads {
            all.extend(thread.join().map_err(|_| "a caller panicked")??);
        }
        Outcome::Ok(all)
    })?;
    Ok((latencies.len() as f64 / began.elapsed().as_secs_f64(), latencies))
}

/// The server of the reference; stopped when dropped.
struct PythonServer {
    child: Child,
    address: String,
}

impl PythonServer {
    fn start(folder: &Path) -> Outcome<Self> {
        let file = folder.join("python-server");
        let mut command = Command::new("python3");
        command.args(["-c", PYTHON]).arg(&file).stdin(Stdio::null());
        let mut server = PythonServer { child: command.spawn()?, address: String::new() };
        let until = Instant::now() + Duration::from_secs(30);
        while Instant::now() < until {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            if let Some(address) = text.strip_suffix('\n') {
                server.address = address.to_owned();
                return Ok(server);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err("the Python server did not start".into())
    }
}

impl Drop for PythonServer {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
