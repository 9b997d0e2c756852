//! uv's package cache, from which packages that no environment links to are removed.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::environments::unique_name;

/// uv's lock file; every running uv holds a shared lock.
const LOCK: &str = ".lock";

/// Prefix of the folders of unpacked packages.
const ARCHIVES: &str = "archive-v";

/// Prefix of folders that are being removed.
const REMOVING: &str = ".going-";

/// Removes unpacked packages that no environment links to, and returns the freed bytes. Removes
/// nothing while a uv process uses the cache.
pub(crate) fn sweep(cache: &Path) -> io::Result<u64> {
    let lock = File::options().create(true).truncate(false).write(true).open(cache.join(LOCK))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(0),
        locked => locked?,
    }
    let mut freed = 0;
    for entry in fs::read_dir(cache)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(REMOVING) {
            let _ = fs::remove_dir_all(entry.path());
        } else if name.starts_with(ARCHIVES) {
            freed += sweep_archives(cache, &entry.path())?;
        }
    }
    Ok(freed)
}

fn sweep_archives(cache: &Path, archives: &Path) -> io::Result<u64> {
    let mut freed = 0;
    for archive in fs::read_dir(archives)?.flatten() {
        let Some(bytes) = unlinked(&archive.path())? else { continue };
        // Rename the folder first, so that uv finds either the whole folder or none.
        let aside = cache.join(unique_name(REMOVING));
        fs::rename(archive.path(), &aside)?;
        let _ = fs::remove_dir_all(aside);
        freed += bytes;
    }
    Ok(freed)
}

/// Returns the total size of a folder's files in bytes; `None` if a file has further hard links,
/// for example in an environment.
fn unlinked(folder: &Path) -> io::Result<Option<u64>> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            let Some(within) = unlinked(&entry.path())? else { return Ok(None) };
            bytes += within;
        } else if metadata.nlink() > 1 {
            return Ok(None);
        } else {
            bytes += metadata.len();
        }
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linked_packages_and_packages_in_use_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path();
        for name in ["used", "free"] {
            fs::create_dir_all(cache.join("archive-v0").join(name).join("package")).unwrap();
            fs::write(cache.join("archive-v0").join(name).join("package/a.py"), "x = 1\n").unwrap();
        }
        fs::hard_link(cache.join("archive-v0/used/package/a.py"), cache.join("linked")).unwrap();
        let uv = File::create(cache.join(LOCK)).unwrap();
        flock(&uv, FlockOperation::NonBlockingLockShared).unwrap();
        assert_eq!(sweep(cache).unwrap(), 0, "a uv is at work");
        drop(uv);
        assert_eq!(sweep(cache).unwrap(), 6);
        let left = fs::read_dir(cache.join("archive-v0")).unwrap().flatten();
        assert_eq!(left.map(|one| one.file_name()).collect::<Vec<_>>(), ["used"]);
        assert_eq!(sweep(cache).unwrap(), 0);
    }
}
