//! Releases the memory of the program's code pages after the server has started.
//!
//! Most code that runs during the start (registering functions, parsing settings, opening the lake)
//! is not used again. Its pages occupy about 30 MB of resident memory. If released pages are needed
//! again, the kernel restores them from the page cache without a disk read.
#![expect(unsafe_code, reason = "a system call without a safe wrapper")]

use std::ops::Range;

/// Releases the resident pages of this program's code.
pub fn release_code_pages() {
    let program = std::fs::read_link("/proc/self/exe").unwrap_or_default();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for range in maps.lines().filter_map(|line| code_range(line, &program.to_string_lossy())) {
        let start = range.start as *mut std::ffi::c_void;
        // SAFETY: the pages belong to a private file mapping that is not writable, so the kernel
        // reads them from the file again on access.
        let _ =
            unsafe { rustix::mm::madvise(start, range.len(), rustix::mm::Advice::LinuxDontNeed) };
    }
}

/// Returns the address range from a line of `/proc/self/maps`; `None` if the line maps something
/// other than this program's code.
fn code_range(line: &str, program: &str) -> Option<Range<usize>> {
    let mut fields = line.split_ascii_whitespace();
    let (range, permissions) = (fields.next()?, fields.next()?);
    // The offset, the device and the inode precede the path.
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
    fn only_the_programs_own_code_is_released() {
        let line = |permissions: &str, path: &str| {
            format!("5581a000-5581c000 {permissions} 00002000 fe:00 1203 {path}")
        };
        let program = "/opt/headwater";
        assert_eq!(code_range(&line("r-xp", program), program), Some(0x5581_a000..0x5581_c000));
        for (permissions, path) in
            [("r--p", program), ("rw-p", program), ("rwxp", program), ("r-xp", "/lib/libc.so.6")]
        {
            assert_eq!(code_range(&line(permissions, path), program), None);
        }
        assert_eq!(code_range("5581a000-5581c000 r-xp 00002000 fe:00 0", ""), None);
        release_code_pages();
    }
}
