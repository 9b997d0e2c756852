//! The state of the server's process, from `/proc`.

use std::path::Path;

/// Clock ticks per second in `/proc`. The value is a constant of Linux's user-space ABI.
const TICKS_PER_SECOND: f64 = 100.0;

/// Positions of values in `/proc/self/stat`, counted after the name of the program.
const USER_TICKS: usize = 11;
const SYSTEM_TICKS: usize = 12;
const THREADS: usize = 17;
const START_TICKS: usize = 19;

/// The resources of the server's process. A value is `None` if `/proc` does not contain it.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct ProcessResources {
    pub(crate) cpu_seconds: Option<f64>,
    /// The start time in seconds since 1970.
    pub(crate) start_seconds: Option<f64>,
    pub(crate) threads: Option<u64>,
    pub(crate) resident_bytes: Option<u64>,
    pub(crate) virtual_bytes: Option<u64>,
    pub(crate) open_files: Option<u64>,
    pub(crate) open_files_max: Option<u64>,
}

impl ProcessResources {
    /// Reads the state of this process.
    pub(crate) fn read() -> Self {
        let own = Path::new("/proc/self");
        let text = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
        let files = std::fs::read_dir(own.join("fd"));
        ProcessResources {
            open_files: files.ok().map(|files| files.count() as u64),
            open_files_max: open_files_max(&text(&own.join("limits"))),
            ..Self::parse(
                &text(&own.join("stat")),
                &text(&own.join("status")),
                &text(Path::new("/proc/stat")),
            )
        }
    }

    /// Parses `/proc/self/stat`, `/proc/self/status` and `/proc/stat`.
    fn parse(stat: &str, status: &str, system: &str) -> Self {
        // Read the values after the last parenthesis, because the name of the program may contain
        // spaces and parentheses.
        let values: Vec<&str> =
            stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        let value = |index: usize| values.get(index)?.parse::<u64>().ok();
        let seconds = |ticks: u64| ticks as f64 / TICKS_PER_SECOND;
        let boot = system.lines().find_map(|line| line.strip_prefix("btime "));
        let boot = boot.and_then(|time| time.trim().parse::<u64>().ok());
        let cpu = value(USER_TICKS).zip(value(SYSTEM_TICKS));
        let start = value(START_TICKS).zip(boot);
        ProcessResources {
            cpu_seconds: cpu.map(|(user, system)| seconds(user + system)),
            start_seconds: start.map(|(ticks, boot)| boot as f64 + seconds(ticks)),
            threads: value(THREADS),
            resident_bytes: kilobytes(status, "VmRSS:"),
            virtual_bytes: kilobytes(status, "VmSize:"),
            ..ProcessResources::default()
        }
    }
}

/// Returns a value from `/proc/self/status` in bytes. The file contains it in kilobytes.
fn kilobytes(status: &str, name: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

fn open_files_max(limits: &str) -> Option<u64> {
    let value = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    value.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_a_process_is_parsed() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 9 0 0 0 150 50 0 0 20 0 12 0 1000 99 88 1";
        let status = "Name:\ta\nVmSize:\t   200 kB\nVmRSS:\t    16 kB\n";
        let state = ProcessResources::parse(stat, status, "cpu 1 2\nbtime 1700000000\n");
        let expected = ProcessResources {
            cpu_seconds: Some(2.0),
            start_seconds: Some(1_700_000_010.0),
            threads: Some(12),
            resident_bytes: Some(16 << 10),
            virtual_bytes: Some(200 << 10),
            ..ProcessResources::default()
        };
        assert_eq!(state, expected);
        assert_eq!(ProcessResources::parse("", "", ""), ProcessResources::default());
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files   1024   4096   files\n";
        assert_eq!(open_files_max(limits), Some(1024));
    }

    #[test]
    fn the_state_of_this_process_is_complete() {
        let state = ProcessResources::read();
        assert!(state.resident_bytes.is_some_and(|bytes| bytes > 100_000), "{state:?}");
        assert!(state.open_files.is_some_and(|files| files > 2), "{state:?}");
        assert!(state.start_seconds.is_some_and(|start| start > 1.7e9), "{state:?}");
        assert!(state.cpu_seconds.is_some() && state.open_files_max.is_some(), "{state:?}");
    }
}
