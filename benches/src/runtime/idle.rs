//! Cost of idle processes: a pandas instance some seconds after its last call, and a server without
//! requests.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::Outcome;
use crate::commands::python;
use crate::invoke::Server;
use crate::report::Report;

const NAME: &str = "hw-bench-idle";
const FUNCTION: &str = r#"import ctypes

import headwater
import pandas


@headwater.function(reuse=True, memory="512MiB")
@headwater.python(pip={"pandas": "2.3", "numpy": "2.3", "pyarrow": "21.0.0"})
def idle():
    ctypes.CDLL(None).prctl(15, b"hw-bench-idle", 0, 0, 0)
    return int(pandas.DataFrame({"a": [1, 2, 3]})["a"].sum())
"#;

/// The reference: the same work in a process that was not forked from a zygote.
const PLAIN: &str = "import ctypes, pandas
int(pandas.DataFrame({'a': [1, 2, 3]})['a'].sum())
print('done', flush=True)
input()";

/// An idle HTTP server as the reference.
const PLAIN_SERVER: &str = "import http.server, socketserver
server = socketserver.ThreadingTCPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler)
print('done', flush=True)
server.serve_forever()";

const MINUTE: Duration = Duration::from_secs(60);

/// Time without a call after which an instance is idle and has released memory.
const IDLE: Duration = Duration::from_secs(10);

/// Measures the idle processes, and adds the results to the report.
pub fn measure(report: &mut Report) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let server = Server::create(folder.path(), &[("idle.py", FUNCTION)])?;
    let plain = PythonProcess::start(Path::new("python3"), PLAIN_SERVER)?;
    std::thread::sleep(Duration::from_secs(2));
    let both = [server.id(), plain.id()];
    let (resident, before) = (each(both, resident_kib)?, each(both, ticks)?);
    std::thread::sleep(MINUTE);
    let after = each(both, ticks)?;
    drop(plain);
    let mib = |kib: u64| format!("{:.1} MB", kib as f64 * 1024.0 / 1e6);
    let server_reference = |figure: String| format!("an idle HTTP server in plain Python {figure}");
    let [resident, plain] = resident.map(mib);
    report.plain(
        "idle server: resident memory",
        &resident,
        &server_reference(plain),
        "under 60 MB",
    );
    let busy = |of: usize| (after[of] - before[of]) as f64 / MINUTE.as_secs_f64();
    let [busy, plain] = [0, 1].map(|of| format!("{:.2} %", busy(of)));
    report.plain(
        "idle server: processor time over a minute",
        &busy,
        &server_reference(plain),
        "0 %",
    );

    let mut connection = server.connect()?;
    for _ in 0..3 {
        connection.request("POST", "/v1/functions/idle/invoke", "{}")?;
    }
    let idle = find_process(NAME)?.ok_or("the instance is not found")?;
    let called = smaps(idle, &["Private_"])?;
    std::thread::sleep(IDLE);
    let (private, all) = (smaps(idle, &["Private_"])?, smaps(idle, &["Rss:"])?);
    let plain = PythonProcess::start(&python(folder.path())?, PLAIN)?;
    let reference_text = format!(
        "plain Python after the same work {}; right after a call {}, resident {}",
        mib(smaps(plain.id(), &["Private_"])?),
        mib(called),
        mib(all)
    );
    report.plain(
        "idle pandas instance: private memory",
        &mib(private),
        &reference_text,
        "under 4 MB",
    );
    Ok(())
}

/// A waiting plain Python process; stopped when dropped.
struct PythonProcess(Child);

impl PythonProcess {
    /// Starts a script and waits until it prints `done`.
    fn start(python: &Path, script: &str) -> Outcome<Self> {
        let mut command = Command::new(python);
        command.args(["-I", "-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut plain = PythonProcess(command.stderr(Stdio::null()).spawn()?);
        let mut line = String::new();
        let stdout = plain.0.stdout.take().ok_or("no output")?;
        BufReader::new(stdout).read_line(&mut line)?;
        if line.trim() == "done" { Ok(plain) } else { Err(format!("failed: {script}").into()) }
    }

    fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for PythonProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads a value from each of two processes.
fn each(processes: [u32; 2], of: impl Fn(u32) -> Outcome<u64>) -> Outcome<[u64; 2]> {
    Ok([of(processes[0])?, of(processes[1])?])
}

fn resident_kib(pid: u32) -> Outcome<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    Ok(line.and_then(|line| line.split_whitespace().next()).ok_or("no VmRSS")?.parse()?)
}

/// Returns the processor time in ticks of 1/100 second.
fn ticks(pid: u32) -> Outcome<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(") ").ok_or("no stat")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    Ok(fields[11].parse::<u64>()? + fields[12].parse::<u64>()?)
}

/// Finds a process by name.
fn find_process(name: &str) -> Outcome<Option<u32>> {
    let is_named = |path: &Path| {
        std::fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name)
    };
    let found = std::fs::read_dir("/proc")?.flatten().find(|entry| is_named(&entry.path()));
    Ok(found.and_then(|entry| entry.file_name().to_string_lossy().parse().ok()))
}

/// Returns the sum of the lines of `smaps_rollup` with these prefixes, in KiB.
fn smaps(pid: u32, prefixes: &[&str]) -> Outcome<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let wanted = text.lines().filter(|line| prefixes.iter().any(|begin| line.starts_with(begin)));
    wanted.map(|line| Ok(line.split_whitespace().nth(1).ok_or("no number")?.parse::<u64>()?)).sum()
}
