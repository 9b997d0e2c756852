//! Sample statistics. Medians are used because the machine is shared.

use std::time::{Duration, Instant};

/// Returns the median.
pub fn median(mut samples: Vec<Duration>) -> Duration {
    samples.sort();
    samples.get(samples.len() / 2).copied().unwrap_or_default()
}

/// Returns a percentile; `share` is in percent.
pub fn percentile(samples: &[Duration], share: usize) -> Duration {
    let mut sorted = samples.to_vec();
    sorted.sort();
    let last = sorted.len().saturating_sub(1);
    sorted.get((sorted.len() * share / 100).min(last)).copied().unwrap_or_default()
}

/// Interval of samples of processor usage, minimum idle share, and maximum number of samples.
const INTERVAL: Duration = Duration::from_millis(500);
const IDLE_SHARE_MIN: f64 = 0.95;
const INTERVALS_MAX: usize = 240;

/// Waits until the processors are idle, and warns on a timeout.
///
/// Background work after the creation of an environment, such as bytecode compilation, would
/// otherwise affect the next measurement.
pub fn wait_until_quiet() -> std::io::Result<()> {
    let mut before = processor_ticks()?;
    for _ in 0..INTERVALS_MAX {
        std::thread::sleep(INTERVAL);
        let now = processor_ticks()?;
        let idle = (now.0 - before.0) as f64 / (now.1 - before.1).max(1) as f64;
        if idle >= IDLE_SHARE_MIN {
            return Ok(());
        }
        before = now;
    }
    eprintln!("the machine is not idle: other processes affect the results");
    Ok(())
}

/// Returns the idle ticks and all ticks of the processors since boot.
fn processor_ticks() -> std::io::Result<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/stat")?;
    let first = text.lines().next().unwrap_or_default();
    let ticks = first.split_whitespace().skip(1).map(|word| word.parse().unwrap_or(0));
    let ticks: Vec<u64> = ticks.collect();
    Ok((ticks.iter().skip(3).take(2).sum(), ticks.iter().take(8).sum()))
}

/// A probe for the cost of one durable write on a disk.
pub struct SyncProbe {
    file: std::fs::File,
}

impl SyncProbe {
    /// Creates a probe on the disk of `folder`.
    pub fn new(folder: &std::path::Path) -> std::io::Result<Self> {
        Ok(SyncProbe { file: std::fs::File::create(folder.join("sync-probe"))? })
    }

    /// Appends 4 KiB with `fdatasync`, and returns the time.
    pub fn sample(&mut self) -> std::io::Result<Duration> {
        use std::io::Write;
        let began = Instant::now();
        self.file.write_all(&[7; 4096])?;
        self.file.sync_data()?;
        Ok(began.elapsed())
    }
}
