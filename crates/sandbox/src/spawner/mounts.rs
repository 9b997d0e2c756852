//! Mounts as descriptors. A mount is created detached, gets its attributes, and is attached to a
//! path last. Therefore, a source can be opened before another mount hides it, and a mount is never
//! visible without its attributes, such as read-only.

use std::io::Result;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use super::system_calls;

/// Mount attributes: read-only, no set-user-id programs, no device files.
pub(super) const READ_ONLY: u64 = 1 | NO_SETUID | 4;

/// Mount attribute: no set-user-id programs.
pub(super) const NO_SETUID: u64 = 2;

/// Creates a detached in-memory file system with these mount options. It is empty and has no path
/// yet.
pub fn tmpfs(options: &[(&str, String)]) -> Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        fsconfig_set_string(context.as_fd(), *key, value.as_str())?;
    }
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Creates a `/proc` file system for this process's pid namespace.
pub(super) fn proc() -> Result<OwnedFd> {
    let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Creates a detached copy of the mount at a path, with these attributes.
pub(super) fn clone_of(path: &Path, attributes: u64) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    let mount = open_tree(CWD, path, flags)?;
    system_calls::set_mount_attributes(mount.as_fd(), attributes, true)?;
    Ok(mount)
}

/// Attaches a mount at a path.
pub(super) fn attach(mount: &OwnedFd, path: &Path) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(move_mount(mount.as_fd(), "", CWD, path, flags)?)
}
