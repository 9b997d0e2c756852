//! Samples and what they say: medians, because the machine is shared.

use std::time::{Duration, Instant};

/// The middle of the samples.
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

/// Appends to a file and syncs it: what one durable write costs on this disk.
pub struct SyncProbe {
    file: std::fs::File,
}

impl SyncProbe {
    /// A probe on the disk that holds `folder`.
    pub fn new(folder: &std::path::Path) -> std::io::Result<Self> {
        Ok(SyncProbe { file: std::fs::File::create(folder.join("sync-probe"))? })
    }

    /// One append of 4 KiB with `fdatasync`.
    pub fn sample(&mut self) -> std::io::Result<Duration> {
        use std::io::Write;
        let began = Instant::now();
        self.file.write_all(&[7; 4096])?;
        self.file.sync_data()?;
        Ok(began.elapsed())
    }
}
