//! What a server needed to start, and gives back once it serves.
//!
//! Most of the program's code that it has touched by then registers functions, parses settings and opens
//! the lake: some thirty megabytes that stay mapped though nobody runs them again. They are given back to
//! the page cache, from where the few that are wanted again come without reading a disk.
#![expect(unsafe_code, reason = "a system call without a safe wrapper")]

use std::ops::Range;

/// Has the kernel forget that this process ever ran its code.
pub(crate) fn give_back() {
    let program = std::fs::read_link("/proc/self/exe").unwrap_or_default();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for range in maps.lines().filter_map(|line| code(line, &program.to_string_lossy())) {
        let start = range.start as *mut std::ffi::c_void;
        // SAFETY: what is mapped from a file to be run, and cannot be written to, is read from that file
        // anew when it is touched.
        let _ =
            unsafe { rustix::mm::madvise(start, range.len(), rustix::mm::Advice::LinuxDontNeed) };
    }
}

/// Where a line of `/proc/self/maps` says that this program's code lies.
fn code(line: &str, program: &str) -> Option<Range<usize>> {
    let mut fields = line.split_ascii_whitespace();
    let (range, permissions) = (fields.next()?, fields.next()?);
    // Only the offset, the device and the inode are left before the path.
    if permissions != "r-xp" || program.is_empty() || fields.nth(3)? != program {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    Some(number(start)?..number(end)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_programs_own_code_is_given_back() {
        let line = |permissions: &str, path: &str| {
            format!("5581a000-5581c000 {permissions} 00002000 fe:00 1203 {path}")
        };
        let program = "/opt/headwater";
        assert_eq!(code(&line("r-xp", program), program), Some(0x5581_a000..0x5581_c000));
        for (permissions, path) in
            [("r--p", program), ("rw-p", program), ("rwxp", program), ("r-xp", "/lib/libc.so.6")]
        {
            assert_eq!(code(&line(permissions, path), program), None);
        }
        assert_eq!(code("5581a000-5581c000 r-xp 00002000 fe:00 0", ""), None);
        give_back();
    }
}
