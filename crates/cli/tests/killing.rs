//! Processes killed at random times while functions run. No process or resource is left, no job
//! hangs, and the next run succeeds. `cargo xtask soak` repeats this a hundred times.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Command};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;
use support::process_tree::{
    self, Held, Process, alive, family, groups, holders, mounts, shared_bytes,
};
use support::{Workspace, until};

/// Models and a function that set the names of their processes.
const MODELS: &str = r#"import ctypes
import time

import headwater
import pyarrow


def set_process_name(name):
    ctypes.CDLL(None).prctl(15, name.encode(), 0, 0, 0)
    time.sleep(0.2)


@headwater.model(materialization="replace")
@headwater.python(pip={})
def first():
    set_process_name("run-first")
    return pyarrow.table({"n": list(range(1000))})


@headwater.model(materialization="replace", network=True)
@headwater.python(pip={})
def second(first=headwater.Model("first")):
    set_process_name("run-second")
    return first


@headwater.model(materialization="replace")
@headwater.python(pip={})
def third(second=headwater.Model("second", batches=True)):
    for batch in second:
        set_process_name("feed-third")
        yield batch


@headwater.expectation()
@headwater.python(pip={})
def whole(third=headwater.Model("third")):
    return third.num_rows == 1000


@headwater.function(reuse=True)
@headwater.python(pip={})
def again():
    set_process_name("warm-again")
    return 7
"#;

/// The kinds of processes to kill.
const VICTIMS: [&str; 6] = [
    "the server",
    "the spawner",
    "a zygote",
    "an instance",
    "an instance that reads batches",
    "an idle warm instance",
];

fn serve(workspace: &Workspace) -> Child {
    let mut command = workspace.command(&["serve", "--http", "127.0.0.1:0"]);
    let silent = std::process::Stdio::null;
    let child = command.stdout(silent()).stderr(silent()).spawn().expect("the server starts");
    let pid = i64::from(child.id());
    until("the server answers", || {
        workspace.server().is_some_and(|server| server["pid"] == pid)
            && workspace.run(&["status"]).stdout.contains("ok, process")
    });
    child
}

fn pid_of(server: &Child) -> i32 {
    i32::try_from(server.id()).expect("a pid")
}

/// Finds a process of a kind. The init process of a sandbox has the same command line as the
/// spawner, and an idle clone has the same command line as its zygote.
fn victim(server: i32, which: &str) -> Option<Process> {
    let family = family(server);
    let levels = process_tree::depth(server);
    let is = |process: &Process, member: &process_tree::Member| match which {
        "the server" => process.0 == server,
        "the spawner" => member.command.contains("__spawner") && member.parent == server,
        "a zygote" => {
            member.command.contains("headwater_zygote.py")
                && process_tree::depth(process.0) == levels + 1
        }
        "an instance" => member.name.starts_with("run-"),
        "an instance that reads batches" => member.name.starts_with("feed-"),
        _ => member.name.starts_with("warm-"),
    };
    family.iter().find(|(process, member)| is(process, member)).map(|(process, _)| *process)
}

/// A killed process, and the resources that only the process and its sandbox held.
struct Killed {
    /// The process and its descendants.
    members: BTreeSet<Process>,
    held: Held,
    /// Time of the kill, in ticks since boot.
    time: u64,
}

/// Returns the ancestors that survive if a process of this kind is killed.
fn survivors(server: i32, which: &str) -> Vec<i32> {
    let order = ["the server", "the spawner", "a zygote"];
    let rank = order.iter().position(|one| *one == which).unwrap_or(order.len());
    order[..rank].iter().filter_map(|one| Some(victim(server, one)?.0)).collect()
}

/// Kills a process of a kind, with a delay after its start.
fn kill(server: i32, which: &str, run: &mut Child, delay: Duration) -> Option<Killed> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(victim) = victim(server, which) {
            std::thread::sleep(delay);
            let members = members(victim.0);
            let held = Held::by(members.iter().map(|(pid, _)| *pid))
                .without(&Held::by(survivors(server, which)));
            let was_alive = alive(&BTreeSet::from([victim]));
            let killed = Command::new("kill").args(["-9", &victim.0.to_string()]).output();
            if was_alive && killed.is_ok_and(|killed| killed.status.success()) {
                return Some(Killed { members, held, time: process_tree::now() });
            }
        }
        let finished = run.try_wait().expect("a run").is_some();
        if finished || Instant::now() > deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn stuck(workspace: &Workspace) -> bool {
    ["queued", "running"].iter().any(|status| {
        ["run", "function"].iter().any(|kind| {
            workspace.json(&["job", "ls", "--kind", kind, "--status", status]) != json!([])
        })
    })
}

fn members(server: i32) -> BTreeSet<Process> {
    family(server).into_keys().collect()
}

/// One round: kills a process and checks that no process or resource is left.
struct Round<'a> {
    workspace: &'a Workspace,
    /// The name of the round in failure messages.
    name: String,
    which: &'static str,
    spawners: BTreeSet<i32>,
    /// Processes alive before the kill.
    before: BTreeSet<Process>,
}

impl Round<'_> {
    fn until(&self, what: &str, done: impl FnMut() -> bool) {
        until(&format!("{what} after {} ({})", self.which, self.name), done);
    }

    /// Runs the round. Returns true if a process was killed.
    fn execute(&mut self, server: &mut Child, random: u64) -> bool {
        let pid = pid_of(server);
        let answer = self.workspace.run(&["function", "invoke", "again"]);
        assert_eq!(answer.stdout.trim(), "7", "{}", answer.stderr);
        let mut run = self.workspace.start(&["run"]);
        // A random delay. Instances have shorter lifetimes than the other processes.
        let long_lived = ["the server", "the spawner", "a zygote"].contains(&self.which);
        let longest = if long_lived { 900 } else { 150 };
        self.spawners.extend(victim(pid, "the spawner").map(|(pid, _)| pid));
        self.before = members(pid);
        let killed = kill(pid, self.which, &mut run, Duration::from_millis(random % longest));
        run.wait_with_output().expect("the run ends");
        if self.which == "the server" {
            server.wait().expect("the server is gone");
            self.until("nothing is left", || !alive(&self.before));
        }
        let Some(Killed { members, held, time }) = killed else { return false };
        self.until("no process is left", || !alive(&members));
        // The namespaces must be known if this test runs as root. Only root can read them.
        assert!(
            !held.namespaces.is_empty() || !rustix::process::geteuid().is_root(),
            "{}",
            self.name
        );
        self.until("no namespace or file is left", || holders(&held, time).is_empty());
        if self.which == "the server" {
            *server = serve(self.workspace);
        }
        true
    }

    /// Checks the invariants after a kill.
    fn check(&self, server: i32) {
        self.until("no job is stuck", || !stuck(self.workspace));
        self.until("a run works", || self.workspace.run(&["run"]).code == 0);
        if self.which == "the spawner" {
            self.until("the old spawner's processes are gone", || {
                let now = members(server);
                let old: BTreeSet<Process> = self.before.difference(&now).copied().collect();
                !alive(&old)
            });
        }
        let current = victim(server, "the spawner").map(|(pid, _)| pid);
        let mut gone = self.spawners.clone();
        gone.retain(|pid| Some(*pid) != current);
        self.until("no control group is left", || groups(&gone).is_empty());
    }
}

#[test]
fn soak_killed_processes_leave_no_resources_and_no_stuck_jobs() {
    let soak = std::env::var_os("HEADWATER_SOAK").is_some();
    let rounds = if soak { 102 } else { 12 };
    let workspace = Workspace::new();
    let _ = std::fs::remove_dir_all(workspace.path().join("models"));
    workspace.write("models/chain.py", MODELS);
    workspace.ok(&["deploy"]);
    workspace.ok(&["stop"]);
    let (mounted, shared) = (mounts(workspace.path()), shared_bytes());
    let mut server = serve(&workspace);
    workspace.ok(&["run"]);
    let mut spawners = BTreeSet::new();
    let mut killed: BTreeMap<&str, usize> = BTreeMap::new();
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |now| now.subsec_nanos());
    let mut random = u64::from(seed) | 1;
    for number in 0..rounds {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let which = VICTIMS[number % VICTIMS.len()];
        let name = format!("round {number}, {seed}");
        let before = BTreeSet::new();
        let mut round = Round { workspace: &workspace, name, which, spawners, before };
        if round.execute(&mut server, random) {
            *killed.entry(which).or_default() += 1;
        }
        round.check(pid_of(&server));
        spawners = round.spawners;
    }
    // At least nine of ten rounds must have found a process to kill.
    assert!(killed.values().sum::<usize>() * 10 >= rounds * 9, "{killed:?} ({seed})");
    assert_eq!(killed.len(), VICTIMS.len(), "{killed:?} ({seed})");

    let all = members(pid_of(&server));
    let held = Held::by(all.iter().map(|(pid, _)| *pid));
    let time = process_tree::now();
    assert!(!held.namespaces.is_empty() || !rustix::process::geteuid().is_root());
    workspace.ok(&["stop"]);
    server.wait().expect("the server ends");
    until("no process is left", || !alive(&all));
    until("no namespace or file is left", || holders(&held, time).is_empty());
    until("no control group is left", || groups(&spawners).is_empty());
    until("no mount is left", || mounts(workspace.path()).is_subset(&mounted));
    if soak {
        // This check requires a machine without other load, as in a soak.
        until("no memory is left", || shared_bytes() <= shared + (64 << 20));
    }
}
