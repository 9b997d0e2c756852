//! Root file system of a sandbox: a small in-memory file system. It contains the host's programs
//! and libraries, an interpreter, an environment and the project, all read-only, and a private
//! `/tmp`.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use headwater_model::{FileContent, ProjectFiles};
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};

use super::{mounts, system_calls};
use crate::spawner_protocol::SandboxSpec;

/// Error of a failed step of the setup: the name of the step, and the system's error.
#[derive(Debug)]
pub(super) struct SetupError {
    pub(super) step: String,
    pub(super) error: io::Error,
}

pub(super) type StepResult<T = ()> = Result<T, SetupError>;

/// Adds the name of the failed step to the error of a result.
pub(super) fn step<T, E: Into<io::Error>>(
    name: impl Into<String>,
    result: Result<T, E>,
) -> StepResult<T> {
    result.map_err(|error| SetupError { step: name.into(), error: error.into() })
}

/// Mount point of the new root until it becomes the root. Any existing folder is suitable.
const STAGE: &str = "/proc";

/// System folders of the host for the sandbox. Folders are mounted, and symbolic links are copied.
const SYSTEM: [&str; 7] = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32", "/nix/store"];

/// Configuration files of the host that libraries read. They contain no secrets.
const CONFIGURATION: [&str; 9] = [
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/alternatives",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/fonts",
    "/etc/ssl",
    "/etc/pki",
];

/// Target of the symbolic link `/opt` in the sandbox. If a function is deployed without a project,
/// the files of its layers are in this folder. If the folder does not exist, `/opt` does not exist
/// for the function.
const LAYERS: &str = "/project/code/opt";

const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];

/// Builds the root file system of a sandbox, and makes it the root of this process. The process
/// must be in new mount and pid namespaces.
pub(super) fn enter(sandbox: &SandboxSpec, files: &ProjectFiles, user: u32) -> StepResult {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    step("make mounts private", mount_change("/", private))?;
    let size = size_for(files).to_string();
    let root = mounts::tmpfs(&[("size", size), ("mode", "0755".to_owned())]);
    let root = step("mount the root", root)?;
    let proc = step("mount /proc", mounts::proc())?;
    let temp = step("mount /tmp", temporary(sandbox.temp_bytes))?;
    // Open all sources now, because the new root hides them.
    let read_only = sources(sandbox)?;
    let stage = Path::new(STAGE);
    step("attach the root", mounts::attach(&root, stage))?;
    for (mount, target) in &read_only {
        show(mount, &below(stage, target))
            .map_err(|error| SetupError { step: format!("mount `{}`", target.display()), error })?;
    }
    step("write the files", write_files(stage, files))?;
    step("create a folder", fs::create_dir_all(stage.join("project")))?;
    step("write /etc", configuration(stage, user))?;
    step("link", links(stage))?;
    for (mount, name) in [(&proc, "proc"), (&temp, "tmp")] {
        let target = stage.join(name);
        step("create a folder", fs::create_dir_all(&target))?;
        step(format!("attach /{name}"), mounts::attach(mount, &target))?;
    }
    pivot(&root)
}

/// Changes this process's copy of a zygote's root into the root of a clone, which has its own
/// `/proc` and `/tmp`.
pub(super) fn enter_copy(temp_bytes: u64) -> StepResult {
    let temp = step("mount /tmp", temporary(temp_bytes))?;
    step("attach /tmp", mounts::attach(&temp, Path::new("/tmp")))?;
    let proc = step("mount /proc", mounts::proc())?;
    step("attach /proc", mounts::attach(&proc, Path::new("/proc")))
}

/// Mounts the files of a clone's project and its files for name resolution, read-only.
pub(super) fn show_files(files: &ProjectFiles) -> StepResult {
    for name in ["project", CALL] {
        let of_this = |(path, _): &(&String, &FileContent)| path.starts_with(&format!("{name}/"));
        let own = files.iter().filter(of_this).map(|(path, file)| (path.clone(), file.clone()));
        let own: ProjectFiles = own.collect();
        if !own.is_empty() {
            show_folder(name, &own)?;
        }
    }
    Ok(())
}

/// Attaches the mount of a project's folder. The mount was created read-only.
pub(super) fn show_project(mount: &OwnedFd) -> StepResult {
    step("mount the project", mounts::attach(mount, Path::new("/project")))
}

fn show_folder(name: &str, files: &ProjectFiles) -> StepResult {
    let options = [("size", size_for(files).to_string()), ("mode", "0755".to_owned())];
    let folder = step(format!("mount /{name}"), mounts::tmpfs(&options))?;
    step(format!("attach /{name}"), mounts::attach(&folder, &Path::new("/").join(name)))?;
    step("write the files", write_files(Path::new("/"), files))?;
    let sealed = system_calls::set_mount_attributes(folder.as_fd(), mounts::READ_ONLY, false);
    step(format!("make /{name} read-only"), sealed)
}

fn temporary(bytes: u64) -> io::Result<OwnedFd> {
    mounts::tmpfs(&[
        ("size", bytes.max(4096).to_string()),
        ("nr_inodes", "1000000".to_owned()),
        ("mode", "1777".to_owned()),
    ])
}

/// Returns the size that an in-memory file system needs for these files, in bytes.
fn size_for(files: &ProjectFiles) -> usize {
    let bytes: usize = files.values().map(|file| file.bytes().len()).sum();
    (16 << 20) + 2 * bytes + 4096 * files.len()
}

/// Makes the mount at [`STAGE`] the root, unmounts the old root, and makes the new root read-only.
fn pivot(root: &OwnedFd) -> StepResult {
    step("enter the root", rustix::process::fchdir(root))?;
    step("change the root", rustix::process::pivot_root(".", "."))?;
    step("leave the old root", unmount(".", UnmountFlags::DETACH))?;
    step("enter the root", std::env::set_current_dir("/"))?;
    let sealed = system_calls::set_mount_attributes(root.as_fd(), mounts::READ_ONLY, false);
    step("make the root read-only", sealed)
}

fn sources(sandbox: &SandboxSpec) -> StepResult<Vec<(OwnedFd, PathBuf)>> {
    let mut found = Vec::new();
    for path in SYSTEM.iter().map(Path::new).filter(|path| !path.is_symlink() && path.exists()) {
        let mount = mounts::clone_of(path, mounts::READ_ONLY);
        found.push((step(format!("mount `{}`", path.display()), mount)?, path.to_owned()));
    }
    for path in CONFIGURATION.iter().map(Path::new).filter(|path| path.exists()) {
        // Skip files that this process cannot read.
        if let Ok(mount) = mounts::clone_of(path, mounts::READ_ONLY) {
            found.push((mount, path.to_owned()));
        }
    }
    for name in DEVICES {
        let path = Path::new("/dev").join(name);
        let mount = mounts::clone_of(&path, mounts::NO_SETUID);
        found.push((step(format!("mount `{}`", path.display()), mount)?, path));
    }
    for (source, target) in &sandbox.read_only {
        let mount = mounts::clone_of(source, mounts::READ_ONLY);
        found.push((step(format!("mount `{}`", source.display()), mount)?, target.clone()));
    }
    Ok(found)
}

/// Attaches a mount at the path `target`, which is created as a folder or as a file, like the root
/// of the mount.
fn show(mount: &OwnedFd, target: &Path) -> io::Result<()> {
    let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(mount)?.st_mode);
    if kind.is_dir() {
        fs::create_dir_all(target)?;
    } else {
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::File::create(target)?;
    }
    mounts::attach(mount, target)
}

/// Writes files below a folder. Rejects paths outside the folder.
pub(super) fn write_files(folder: &Path, files: &ProjectFiles) -> io::Result<()> {
    let mut created = PathBuf::new();
    for (path, file) in files {
        let path = Path::new(path);
        if !path.components().all(|part| matches!(part, Component::Normal(_))) {
            let message = format!("`{}` is not a path below the project", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let path = folder.join(path);
        // Most files are in the same folder as the previous file.
        if let Some(parent) = path.parent().filter(|parent| *parent != created) {
            fs::create_dir_all(parent)?;
            parent.clone_into(&mut created);
        }
        fs::write(&path, file.bytes())?;
        if file.is_executable() {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
    }
    Ok(())
}

/// Name of the folder for the name resolution files. They are separate, because they differ for
/// each call.
const CALL: &str = "call";

fn configuration(stage: &Path, user: u32) -> io::Result<()> {
    let etc = stage.join("etc");
    fs::create_dir_all(&etc)?;
    let passwd = format!("function:x:{user}:{user}::/tmp:/bin/sh\n");
    fs::write(etc.join("passwd"), passwd)?;
    fs::write(etc.join("group"), format!("function:x:{user}:\n"))?;
    let call = stage.join(CALL);
    fs::create_dir_all(&call)?;
    for (name, usual) in
        [("hosts", "127.0.0.1 localhost headwater\n::1 localhost\n"), ("resolv.conf", "")]
    {
        if !call.join(name).exists() {
            fs::write(call.join(name), usual)?;
        }
        symlink(format!("/{CALL}/{name}"), etc.join(name))?;
    }
    fs::write(etc.join("hostname"), "headwater\n")?;
    fs::write(etc.join("nsswitch.conf"), "passwd: files\ngroup: files\nhosts: files dns\n")
}

fn links(stage: &Path) -> io::Result<()> {
    for path in SYSTEM.iter().map(Path::new).filter(|path| path.is_symlink()) {
        symlink(fs::read_link(path)?, below(stage, path))?;
    }
    let layers = stage.join("opt");
    // Create the symbolic link only if there is no folder: an interpreter of the host may be
    // mounted below `/opt`.
    if !layers.exists() {
        symlink(LAYERS, layers)?;
    }
    let dev = stage.join("dev");
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("shm", "/tmp"),
    ] {
        symlink(target, dev.join(name))?;
    }
    Ok(())
}

fn below(stage: &Path, target: &Path) -> PathBuf {
    stage.join(target.strip_prefix("/").unwrap_or(target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_stay_below_their_folder() {
        let folder = tempfile::tempdir().unwrap();
        let files = |path: &str| ProjectFiles::from([(path.to_owned(), "x".into())]);
        write_files(folder.path(), &files("models/a.py")).unwrap();
        assert!(folder.path().join("models/a.py").exists());
        for path in ["../a", "/etc/a", "a/../../b", "./a/.."] {
            assert!(write_files(folder.path(), &files(path)).is_err(), "{path}");
        }
    }
}
