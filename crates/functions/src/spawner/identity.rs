//! Who owns what lies about: a process by its id and the time it started, which together no other
//! process of this boot ever has.

use std::fs;

/// `<pid>-<start time>` of a process that is there.
pub(super) fn of_process(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let start = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?;
    Some(format!("{pid}-{start}"))
}

/// This process's own.
pub(crate) fn own() -> String {
    of_process(std::process::id()).unwrap_or_default()
}

/// Whether a name that begins with an identity belongs to a process that is gone. A name that does
/// not begin with one belongs to nobody we know.
pub(crate) fn is_stale(name: &str) -> bool {
    let mut parts = name.splitn(3, '-');
    let (Some(pid), Some(start)) = (parts.next(), parts.next()) else { return false };
    let Ok(pid) = pid.parse() else { return false };
    of_process(pid).is_none_or(|identity| identity != format!("{pid}-{start}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_living_are_told_from_the_dead() {
        let own = own();
        assert!(own.starts_with(&format!("{}-", std::process::id())));
        assert!(!is_stale(&own));
        assert!(!is_stale(&format!("{own}-more")));
        assert!(is_stale(&format!("{}-1-more", std::process::id())));
        assert!(is_stale("4294967295-1"));
        assert!(!is_stale("something else"));
    }
}
