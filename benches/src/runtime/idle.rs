//! What it costs to wait: a pandas instance some seconds after its last call, and a server that nobody asks
//! anything.

use std::path::Path;
use std::time::Duration;

use crate::Outcome;
use crate::invoke::Serving;
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

const MINUTE: Duration = Duration::from_secs(60);

/// After so long without a call an instance is idle, and has given back what it need not hold.
const IDLE: Duration = Duration::from_secs(10);

/// Adds the figures to the report.
pub fn measure(report: &mut Report) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let server = Serving::of(folder.path(), &[("idle.py", FUNCTION)])?;
    std::thread::sleep(Duration::from_secs(2));
    let (resident, before) = (resident_kib(server.id())?, ticks(server.id())?);
    std::thread::sleep(MINUTE);
    let busy = (ticks(server.id())? - before) as f64 / MINUTE.as_secs_f64();
    let mib = |kib: u64| format!("{:.1} MB", kib as f64 * 1024.0 / 1e6);
    report.plain("idle server: resident memory", &mib(resident), "", "under 60 MB");
    let percent = format!("{busy:.2} %");
    report.plain("idle server: processor time over a minute", &percent, "", "0 %");

    let mut connection = server.connect()?;
    for _ in 0..3 {
        connection.ask("POST", "/v1/functions/idle/invoke", "{}")?;
    }
    let idle = named(NAME)?.ok_or("the instance is not found")?;
    let called = smaps(idle, &["Private_"])?;
    std::thread::sleep(IDLE);
    let (private, all) = (smaps(idle, &["Private_"])?, smaps(idle, &["Rss:"])?);
    let beside = format!("right after a call {}, resident {}", mib(called), mib(all));
    report.plain("idle pandas instance: private memory", &mib(private), &beside, "under 4 MB");
    Ok(())
}

fn resident_kib(pid: u32) -> Outcome<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    Ok(line.and_then(|line| line.split_whitespace().next()).ok_or("no VmRSS")?.parse()?)
}

/// Hundredths of a second on a processor.
fn ticks(pid: u32) -> Outcome<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(") ").ok_or("no stat")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    Ok(fields[11].parse::<u64>()? + fields[12].parse::<u64>()?)
}

/// The process with this name.
fn named(name: &str) -> Outcome<Option<u32>> {
    let is_named = |path: &Path| {
        std::fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name)
    };
    let found = std::fs::read_dir("/proc")?.flatten().find(|entry| is_named(&entry.path()));
    Ok(found.and_then(|entry| entry.file_name().to_string_lossy().parse().ok()))
}

/// The sum of the lines that begin so, in KiB.
fn smaps(pid: u32, begins: &[&str]) -> Outcome<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let wanted = text.lines().filter(|line| begins.iter().any(|begin| line.starts_with(begin)));
    wanted.map(|line| Ok(line.split_whitespace().nth(1).ok_or("no number")?.parse::<u64>()?)).sum()
}
