//! Headwater for an unprivileged user without control groups. As root, the tests switch to user
//! 65534.

mod support;

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use support::{Answer, Workspace, answer};

/// The user id of the unprivileged user.
const UNPRIVILEGED: u32 = 65_534;

/// A workspace of the unprivileged user. Contains a copy of the command if the target folder is not
/// accessible.
struct OrdinaryUser {
    workspace: Workspace,
    cache: PathBuf,
    program: PathBuf,
}

impl OrdinaryUser {
    fn new() -> Self {
        let workspace = Workspace::empty();
        let built = PathBuf::from(env!("CARGO_BIN_EXE_headwater"));
        let tests = Path::new(env!("CARGO_TARGET_TMPDIR"));
        if !rustix::process::geteuid().is_root() {
            return OrdinaryUser { workspace, cache: tests.join("ordinary"), program: built };
        }
        let open = |path: &Path| {
            path.ancestors().all(|folder| {
                folder.metadata().is_ok_and(|found| found.permissions().mode() & 0o001 != 0)
            })
        };
        let (cache, program) = if open(tests) && open(&built) {
            (tests.join("ordinary"), built)
        } else {
            let program = workspace.path().join("headwater");
            std::fs::copy(&built, &program).expect("a copy of the command");
            (workspace.path().join("cache"), program)
        };
        std::fs::create_dir_all(&cache).expect("a cache folder");
        for folder in [workspace.path(), &cache] {
            chown(folder, Some(UNPRIVILEGED), Some(UNPRIVILEGED)).expect("a folder of the user's");
        }
        OrdinaryUser { workspace, cache, program }
    }

    fn run(&self, arguments: &[&str]) -> Answer {
        let mut command = self.command();
        command.args(arguments).current_dir(self.workspace.path());
        command.env_remove("HEADWATER_LAKE").env("NO_COLOR", "1");
        command.env("HOME", self.workspace.path()).env("XDG_CACHE_HOME", &self.cache);
        answer(command.output().expect("the command starts"))
    }

    fn command(&self) -> Command {
        if !rustix::process::geteuid().is_root() {
            return Command::new(&self.program);
        }
        let mut command = Command::new("setpriv");
        let user = UNPRIVILEGED.to_string();
        command.args(["--reuid", &user, "--regid", &user, "--clear-groups"]).arg(&self.program);
        command
    }
}

impl Drop for OrdinaryUser {
    fn drop(&mut self) {
        // Stop the server of either lake: in the demo's folder or in the workspace.
        for lake in ["headwater-demo", "."] {
            self.run(&["stop", "--lake", lake]);
        }
    }
}

#[test]
fn the_demo_succeeds() {
    let user = OrdinaryUser::new();
    for _ in 0..2 {
        let demo = user.run(&["demo"]);
        assert_eq!(demo.code, 0, "{}\n{}", demo.stdout, demo.stderr);
        assert!(demo.stdout.contains("airline_scorecard"), "{}", demo.stdout);
    }
}

#[test]
fn without_a_home_folder_packages_are_stored_in_the_lake() {
    let workspace = Workspace::new();
    workspace.ok(&["stop"]);
    let open = workspace.path().join("tmp");
    workspace.write("tmp/headwater/tools/uv/bin/uv", "#!/bin/sh\n");
    std::fs::set_permissions(&open, PermissionsExt::from_mode(0o777)).expect("a mode");
    for home in [None, Some("/nonexistent"), Some("relative")] {
        let mut command = workspace.command(&["query", "SELECT 1 AS one"]);
        command.env_remove("HOME").env_remove("XDG_CACHE_HOME").env("TMPDIR", &open);
        if let Some(home) = home {
            command.env("HOME", home);
        }
        let query = answer(command.output().expect("the command starts"));
        assert_eq!(query.code, 0, "{}", query.stderr);
        workspace.ok(&["stop"]);
        let cache = workspace.path().join(".headwater/cache");
        let mode = cache.metadata().expect("a cache").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        std::fs::remove_dir_all(cache).expect("it is ours");
        assert!(!open.join("headwater/environments").exists());
    }
    let mut command = workspace.command(&["query", "SELECT 1 AS one"]);
    let rejected = command.env("XDG_CACHE_HOME", &open).output().expect("the command starts");
    let rejected = answer(rejected);
    assert_ne!(rejected.code, 0);
    assert!(rejected.stderr.contains("can be written by other users"), "{}", rejected.stderr);
    assert!(rejected.stderr.contains("XDG_CACHE_HOME"), "{}", rejected.stderr);
}

const GREEDY: &str = "\
import headwater


@headwater.function(memory='256MiB')
@headwater.python(pip={'pandas': '2.3'})
def modest():
    return len(bytearray(b'x') * (100 << 20))


@headwater.function(memory='256MiB')
@headwater.python(pip={'pandas': '2.3'})
def greedy():
    held = []
    while True:
        held.append(b'x' * (16 << 20))


@headwater.function(memory='256MiB')
@headwater.python(pip={'pandas': '2.3'})
def forking():
    import os
    for _ in range(4):
        if os.fork() == 0:
            break
    held = []
    while True:
        held.append(b'x' * (1 << 20))
";

#[test]
fn a_function_that_exceeds_its_memory_limit_is_killed() {
    let user = OrdinaryUser::new();
    assert_eq!(user.run(&["init", "--name", "test"]).code, 0);
    let models = user.workspace.write("models/greedy.py", GREEDY);
    chown(models, Some(UNPRIVILEGED), None).ok();
    let deployed = user.run(&["deploy"]);
    assert_eq!(deployed.code, 0, "{}", deployed.stderr);
    let modest = user.run(&["function", "invoke", "modest"]);
    assert_eq!((modest.code, modest.stdout.trim()), (0, "104857600"), "{}", modest.stderr);
    for name in ["greedy", "forking"] {
        let answer = user.run(&["function", "invoke", name]);
        assert_eq!(answer.code, 6, "{}", answer.stderr);
        let text = format!("`{name}` needs more memory than its limit of 256 MiB");
        assert!(answer.stderr.contains(&text), "{}", answer.stderr);
    }
}
