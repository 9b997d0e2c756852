//! uv's cache, which environments are linked from: what no environment is made of any more can go.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::build::owned;

/// The file that every uv holds, shared, for as long as it uses its cache.
const LOCK: &str = ".lock";

/// What the names of the folders of unpacked packages begin with.
const ARCHIVES: &str = "archive-v";

/// What the name of a folder that is being removed begins with.
const GOING: &str = ".going-";

/// Removes the unpacked packages that no environment has links to; gives the bytes that this frees. While
/// a uv is at work with the cache nothing is removed.
pub(super) fn sweep(cache: &Path) -> io::Result<u64> {
    let lock = File::options().create(true).truncate(false).write(true).open(cache.join(LOCK))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(0),
        locked => locked?,
    }
    let mut freed = 0;
    for entry in fs::read_dir(cache)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(GOING) {
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
        // Whatever happens from here on, uv finds the package whole or not at all.
        let aside = cache.join(owned(GOING));
        fs::rename(archive.path(), &aside)?;
        let _ = fs::remove_dir_all(aside);
        freed += bytes;
    }
    Ok(freed)
}

/// The bytes of a folder's files; none where one has a link elsewhere.
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
    fn what_is_linked_or_being_used_stays() {
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
