//! Ownership of paths: programs and packages are used only if no other user can replace them.
//!
//! [`resolve`] walks a path from the root folder, through every symbolic link. Each folder on the
//! way must belong to root or to this user, and no other user may write to it. A folder with the
//! sticky bit, such as `/tmp`, may contain a folder of this user, but no trusted program.
//! [`make_folder`] creates a folder that only this user can enter. This module never opens or runs
//! the paths that it checks.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use crate::{Error, Result};

/// Maximum number of symbolic links in one path, as in the kernel.
const LINKS_MAX: usize = 40;

const STICKY: u32 = 0o1000;
const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;

/// The reason why a path is not trusted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UntrustedReason {
    /// The path cannot be read.
    #[error("`{}` cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    /// A part of the path belongs to another user.
    #[error("`{}` belongs to user {owner}", path.display())]
    Owner { path: PathBuf, owner: u32 },
    /// Other users can write to a part of the path.
    #[error("`{}` can be written by other users (mode {:o})", path.display(), mode & 0o7777)]
    Writable { path: PathBuf, mode: u32 },
}

/// Resolves symbolic links. Fails if another user can replace a part of the path.
pub(crate) fn resolve(path: &Path) -> Result<PathBuf, UntrustedReason> {
    let unreadable =
        |path: &Path, source| UntrustedReason::Unreadable { path: path.to_owned(), source };
    let absolute = std::path::absolute(path).map_err(|source| unreadable(path, source))?;
    let mut left = parts(&absolute);
    let mut resolved = PathBuf::from("/");
    let look = |at: &Path| fs::symlink_metadata(at).map_err(|source| unreadable(at, source));
    let mut parent = look(&resolved)?;
    let user = ProcessUser::current(parent.uid());
    let mut links = 0;
    while let Some(part) = left.pop_front() {
        if part == ".." {
            resolved.pop();
            parent = look(&resolved)?;
            continue;
        }
        let next = resolved.join(&part);
        let found = look(&next)?;
        user.check_entry(&resolved, &parent, &found)?;
        user.check_owner(&next, &found)?;
        if found.is_symlink() {
            links += 1;
            if links > LINKS_MAX {
                return Err(unreadable(&next, io::Error::other("too many symbolic links")));
            }
            let target = fs::read_link(&next).map_err(|source| unreadable(&next, source))?;
            if target.is_absolute() {
                resolved = PathBuf::from("/");
                parent = look(&resolved)?;
            }
            let rest = std::mem::replace(&mut left, parts(&target));
            left.extend(rest);
            continue;
        }
        (resolved, parent) = (next, found);
    }
    user.check_writers(&resolved, &parent)?;
    Ok(resolved)
}

/// Creates a folder and its missing parents, accessible only to the user of this process. An
/// existing folder must be safe to use. Returns the path of the folder without symbolic links.
pub fn make_folder(path: &Path) -> Result<PathBuf> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(Error::io(format!("create the folder `{}`", path.display())))?;
    resolve(path).map_err(|refused| match refused {
        UntrustedReason::Unreadable { path, source } => {
            Error::io(format!("create the folder `{}`", path.display()))(source)
        }
        refused => Error::failed(
            format!("{refused}, so `{}` cannot be used as the cache folder", path.display()),
            "Set `XDG_CACHE_HOME` to a folder that only you can write to.",
        ),
    })
}

fn parts(path: &Path) -> VecDeque<OsString> {
    let wanted = |part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(wanted).collect()
}

/// The user of this process.
struct ProcessUser {
    id: u32,
    group: u32,
    /// The owner of the root folder, which can replace every path. In a user namespace, root can
    /// have an id other than 0.
    root: u32,
}

impl ProcessUser {
    fn current(root: u32) -> ProcessUser {
        let (id, group) = (rustix::process::geteuid(), rustix::process::getegid());
        ProcessUser { id: id.as_raw(), group: group.as_raw(), root }
    }

    fn trusts(&self, owner: u32) -> bool {
        owner == 0 || owner == self.id || owner == self.root
    }

    fn check_owner(&self, path: &Path, found: &Metadata) -> Result<(), UntrustedReason> {
        let owner = found.uid();
        if self.trusts(owner) {
            Ok(())
        } else {
            Err(UntrustedReason::Owner { path: path.into(), owner })
        }
    }

    /// Checks the folder that contains an entry of the path. If the folder has the sticky bit, only
    /// the owner of an entry can replace the entry, but any user can add a program or a symbolic
    /// link.
    fn check_entry(
        &self,
        at: &Path,
        folder: &Metadata,
        entry: &Metadata,
    ) -> Result<(), UntrustedReason> {
        if folder.mode() & STICKY != 0 && entry.is_dir() {
            return Ok(());
        }
        self.check_writers(at, folder)
    }

    fn check_writers(&self, path: &Path, found: &Metadata) -> Result<(), UntrustedReason> {
        let mode = found.mode();
        let by_group =
            || mode & GROUP_WRITES != 0 && (self.shares(found.gid()) || has_access_list(path));
        if mode & OTHERS_WRITE != 0 || by_group() {
            return Err(UntrustedReason::Writable { path: path.into(), mode });
        }
        Ok(())
    }

    /// Returns true if a group has members other than root and the user of this process.
    fn shares(&self, group: u32) -> bool {
        let read = |file| fs::read_to_string(file).unwrap_or_default();
        let (users, groups) = (read("/etc/passwd"), read("/etc/group"));
        // A user without a passwd entry is assumed to be the only member of the group with the same
        // number.
        if !users_of(&users, &groups, group).all(|user| user.is_some_and(|id| self.trusts(id))) {
            return true;
        }
        !has_group(&groups, group) && group != self.group
    }
}

/// Returns the members of a group: the users whose primary group it is, and the users that the
/// group lists. A listed name without a user entry is `None`.
fn users_of<'a>(
    users: &'a str,
    groups: &'a str,
    group: u32,
) -> impl Iterator<Item = Option<u32>> + 'a {
    let fields = |line: &'a str| line.split(':').collect::<Vec<_>>();
    let number = |text: &str| text.parse::<u32>().ok();
    let own = users
        .lines()
        .map(fields)
        .filter(move |one| one.get(3).and_then(|field| number(field)) == Some(group));
    let own = own.map(move |one| number(one[2]));
    let listed = groups
        .lines()
        .map(fields)
        .filter(move |one| one.get(2).and_then(|field| number(field)) == Some(group));
    let listed = listed.flat_map(|one| one.get(3).copied().unwrap_or_default().split(','));
    let listed = listed.map(str::trim).filter(|name| !name.is_empty()).map(move |name| {
        let of_name = users.lines().map(fields).find(|one| one.first() == Some(&name));
        of_name.and_then(|one| number(one.get(2)?))
    });
    own.chain(listed)
}

fn has_group(groups: &str, group: u32) -> bool {
    groups.lines().any(|line| line.split(':').nth(2).is_some_and(|id| id == group.to_string()))
}

/// Returns true if the path has an access control list, which may grant more rights than the file
/// mode.
fn has_access_list(path: &Path) -> bool {
    let mut none: [u8; 0] = [];
    rustix::fs::getxattr(path, "system.posix_acl_access", &mut none).is_ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_folder_that_others_can_write_to_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("a/store");
        assert_eq!(make_folder(&store).unwrap(), store);
        assert_eq!(fs::metadata(&store).unwrap().mode() & 0o777, 0o700);
        for (path, bits, refused) in
            [(&store, 0o777, true), (&store, 0o1777, true), (&store, 0o755, false)]
        {
            mode(path, bits);
            assert_eq!(resolve(&store).is_err(), refused, "{bits:o}");
        }
        mode(folder.path(), 0o777);
        let error = make_folder(&store).unwrap_err().to_string();
        assert!(error.contains("can be written by other users (mode 777)"), "{error}");
        // A folder such as `/tmp` may contain a folder of this user, but no trusted program.
        mode(folder.path(), 0o1777);
        assert!(resolve(&store).is_ok());
        let program = folder.path().join("uv");
        fs::write(&program, "").unwrap();
        assert!(resolve(&program).is_err());
    }

    #[test]
    fn a_link_through_a_folder_of_others_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let [open, own] = ["open", "own"].map(|name| folder.path().join(name));
        fs::create_dir(&open).unwrap();
        fs::create_dir(&own).unwrap();
        fs::write(own.join("tool"), "").unwrap();
        symlink(own.join("tool"), open.join("tool")).unwrap();
        symlink("../open/tool", own.join("indirect")).unwrap();
        assert_eq!(resolve(&own.join("indirect")).unwrap(), own.join("tool"));
        mode(&open, 0o777);
        assert!(matches!(resolve(&own.join("indirect")), Err(UntrustedReason::Writable { .. })));
        assert!(resolve(&own.join("tool")).is_ok());
        symlink("loop", own.join("loop")).unwrap();
        assert!(matches!(resolve(&own.join("loop")), Err(UntrustedReason::Unreadable { .. })));
    }

    #[test]
    fn folders_of_other_users_are_rejected() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store");
        fs::create_dir(&store).unwrap();
        // Check this case only as root, because only root can change the owner of a folder.
        if rustix::process::geteuid().is_root() {
            chown(&store, Some(12_345), None).unwrap();
            assert!(matches!(resolve(&store), Err(UntrustedReason::Owner { owner: 12_345, .. })));
        }
    }

    #[test]
    fn a_group_with_other_members_is_shared() {
        let users = "root:x:0:0::/root:\neva:x:1000:1000::/:\nbob:x:1001:1001::/:\n\
                     kim:x:1002:50::/:\n";
        let groups = "root:x:0:\neva:x:1000:\nstaff:x:50:\nteam:x:60:eva,bob\nold:x:61:gone\n";
        let members = |group| users_of(users, groups, group).collect::<Vec<_>>();
        assert_eq!(members(1000), [Some(1000)]);
        assert_eq!(members(60), [Some(1000), Some(1001)]);
        assert_eq!(members(50), [Some(1002)]);
        assert_eq!(members(61), [None]);
        assert!(has_group(groups, 60) && !has_group(groups, 62));
    }
}
