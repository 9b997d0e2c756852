//! Identity of a process: its id and start time, which together are unique until the machine
//! restarts. Names of files and control groups start with this identity, so that files and groups
//! of ended processes can be found and removed.

use std::fs;

/// Returns `<pid>-<start time>` of a process; `None` if it is not running.
fn of_process(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let start = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?;
    Some(format!("{pid}-{start}"))
}

/// Returns the identity of this process.
pub fn current_identity() -> String {
    of_process(std::process::id()).unwrap_or_default()
}

/// Returns true if a name starts with the identity of an ended process. Returns false if the name
/// contains no identity.
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
