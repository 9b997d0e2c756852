//! Latency of one caller's function while another caller's function uses as many resources as
//! possible.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use crate::Outcome;
use crate::invoke::{Connection, Server};
use crate::report::{Report, duration};
use crate::sample::wait_until_quiet;

const FUNCTIONS: &str = r#"import os
import headwater


@headwater.function(reuse=True, memory="512MiB")
def victim():
    return True


def many():
    for _ in range(7):
        if os.fork() == 0:
            break


@headwater.function(memory="512MiB", timeout="2min")
def processors():
    many()
    while True:
        pass


@headwater.function(memory="512MiB", timeout="2min")
def memory():
    many()
    while True:
        held = bytearray(40 << 20)
        del held


@headwater.function(memory="512MiB", timeout="2min")
def processes():
    many()
    while True:
        try:
            if os.fork() == 0:
                os._exit(0)
            os.waitpid(-1, 0)
        except OSError:
            pass


@headwater.function(memory="512MiB", timeout="2min", tmp="256MiB")
def files():
    many()
    while True:
        with open(f"/tmp/{os.getpid()}", "wb") as file:
            file.write(bytes(16 << 20))
            os.fsync(file.fileno())
"#;

const VICTIM: &str = "/v1/functions/victim/invoke";
const ROUNDS: usize = 5;
const HOGS: [&str; 4] = ["processors", "memory", "processes", "files"];

/// Adds the latency of `calls` calls to the report: alone, and with each kind of load from another
/// caller.
pub fn measure(report: &mut Report, calls: usize) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let server = Server::create(folder.path(), &[("functions.py", FUNCTIONS)])?;
    let mut connection = server.connect()?;
    for _ in 0..20 {
        connection.request("POST", VICTIM, "{}")?;
    }
    wait_until_quiet()?;
    for hog in HOGS {
        let (mut alone, mut with_hog) = (Vec::new(), Vec::new());
        // Alternate the measurements, because the other load of the machine varies over time.
        for _ in 0..ROUNDS {
            alone.extend(times(&mut connection, calls / ROUNDS)?);
            let hog_call = start_hog(&server, hog)?;
            // Wait until the other function runs at full load.
            std::thread::sleep(Duration::from_millis(1500));
            with_hog.extend(times(&mut connection, calls / ROUNDS)?);
            // The server cancels the call when its connection closes.
            drop(hog_call);
            std::thread::sleep(Duration::from_secs(1));
        }
        let (alone, with_hog) = (median_and_p99(alone), median_and_p99(with_hog));
        let what = format!("warm call with a hog of {hog}, median / p99");
        let name = format!("alone {} / p99", duration(alone.0));
        let what = format!("{what} ({} / ·)", duration(with_hog.0));
        report.ratio(&what, with_hog.1, (&name, alone.1), 2.0);
    }
    Ok(())
}

fn times(connection: &mut Connection, calls: usize) -> Outcome<Vec<Duration>> {
    (0..calls).map(|_| connection.request("POST", VICTIM, "{}")).collect()
}

/// Returns the median and the 99th percentile.
fn median_and_p99(mut taken: Vec<Duration>) -> (Duration, Duration) {
    taken.sort();
    (taken[taken.len() / 2], taken[taken.len() * 99 / 100])
}

/// Starts an endless call as another caller.
fn start_hog(server: &Server, function: &str) -> Outcome<TcpStream> {
    let mut stream = TcpStream::connect(server.address())?;
    let request = format!(
        "POST /v1/functions/{function}/invoke HTTP/1.1\r\nhost: localhost\r\n\
         authorization: Bearer {}\r\nx-headwater-author: hog\r\n\
         content-type: application/json\r\ncontent-length: 2\r\n\r\n{{}}",
        server.token()
    );
    stream.write_all(request.as_bytes())?;
    Ok(stream)
}
