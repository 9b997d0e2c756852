//! Sample statistics. Medians are used because the machine is shared.

use std::time::{Duration, Instant};

/// Returns the median.
pub fn median(mut samples: Vec<Duration>) -> Duration {
    samples.sort();
    samples.get(samples.len() / 2).copied().unwrap_or_default()
}

/// The sample below which so many in a hundred of them lie; the largest where that is all.
pub fn percentile(samples: &[Duration], share: usize) -> Duration {
    let mut sorted = samples.to_vec();
    sorted.sort();
    let last = sorted.len().saturating_sub(1);
    sorted.get((sorted.len() * share / 100).min(last)).copied().unwrap_or_default()
}

/// How long a look at the processors takes, how idle they must be in it, and how often it is looked.
const LOOK: Duration = Duration::from_millis(500);
const IDLE_SHARE_MIN: f64 = 0.95;
const LOOKS_MAX: usize = 240;

/// Waits until the processors have little to do, and says where that never comes: what the making of an
/// environment leaves to be done in the background, bytecode above all, is no part of what is measured next.
pub fn wait_until_quiet() -> std::io::Result<()> {
    let mut before = processor_ticks()?;
    for _ in 0..LOOKS_MAX {
        std::thread::sleep(LOOK);
        let now = processor_ticks()?;
        let idle = (now.0 - before.0) as f64 / (now.1 - before.1).max(1) as f64;
        if idle >= IDLE_SHARE_MIN {
            return Ok(());
        }
        before = now;
    }
    eprintln!("the machine does not become quiet: something else runs on it");
    Ok(())
}

/// The ticks in which the processors were idle, and all of them, since the machine started.
fn processor_ticks() -> std::io::Result<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/stat")?;
    let first = text.lines().next().unwrap_or_default();
    let ticks = first.split_whitespace().skip(1).map(|word| word.parse().unwrap_or(0));
    let ticks: Vec<u64> = ticks.collect();
    Ok((ticks.iter().skip(3).take(2).sum(), ticks.iter().take(8).sum()))
}

/// Appends to a file and syncs it: what one durable write costs on this disk.
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
