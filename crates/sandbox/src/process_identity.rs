//! Identity of a process: its id and start time, which together are unique until the machine
//! restarts. The names of files and control groups of a process start with its identity, so that
//! they can be found and removed after the process has ended.

use std::fs;

/// Returns the identity `<pid>-<start time>` of a process; `None` if the process is not running.
fn of_process(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let start = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?;
    Some(format!("{pid}-{start}"))
}

/// Returns the identity of this process.
pub fn current_identity() -> String {
    of_process(std::process::id()).unwrap_or_default()
}

/// Returns true if the name of a file or group starts with the identity of an ended process.
/// Returns false if the name contains no identity.
pub fn is_stale(name: &str) -> bool {
    let mut parts = name.splitn(3, '-');
    let (Some(pid), Some(start)) = (parts.next(), parts.next()) else { return false };
    let Ok(pid) = pid.parse() else { return false };
    of_process(pid).is_none_or(|identity| identity != format!("{pid}-{start}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_ended_processes_are_stale() {
        let own = current_identity();
        assert!(own.starts_with(&format!("{}-", std::process::id())));
        assert!(!is_stale(&own));
        assert!(!is_stale(&format!("{own}-more")));
        assert!(is_stale(&format!("{}-1-more", std::process::id())));
        assert!(is_stale("4294967295-1"));
        assert!(!is_stale("something else"));
    }
}
