//! Whoever is killed while functions run, at whatever moment: nothing is left of what ran, no job is
//! stuck, and the next run works. `cargo xtask soak` does it a hundred times.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use support::{Workspace, until};

const MODELS: &str = r#"import time

import headwater
import pyarrow


@headwater.model(materialization="replace")
@headwater.python(pip={})
def first():
    time.sleep(0.1)
    return pyarrow.table({"n": list(range(1000))})


@headwater.model(materialization="replace", network=True)
@headwater.python(pip={})
def second(first=headwater.Model("first")):
    time.sleep(0.1)
    return first


@headwater.expectation()
@headwater.python(pip={})
def whole(second=headwater.Model("second")):
    return second.num_rows == 1000
"#;

/// Who is killed.
const VICTIMS: [&str; 4] = ["the server", "the spawner", "a zygote", "an instance"];

/// A process, by its id and the time it started.
type Process = (i32, u64);

/// The processes of this machine: each with its parent and its command line.
fn processes() -> BTreeMap<Process, (i32, String)> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((_, rest)) = stat.rsplit_once(") ") else { continue };
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if fields[0] != "Z" {
            let started = fields[19].parse().expect("a start time");
            found.insert((pid, started), (fields[1].parse().expect("a parent"), command));
        }
    }
    found
}

/// A process and all that descend from it.
fn family(root: i32) -> BTreeMap<Process, String> {
    let all = processes();
    let mut members = BTreeSet::from([root]);
    loop {
        let more = all.iter().filter(|(_, (parent, _))| members.contains(parent));
        let more: Vec<i32> = more.map(|((pid, _), _)| *pid).collect();
        let before = members.len();
        members.extend(more);
        if members.len() == before {
            break;
        }
    }
    let own = all.into_iter().filter(|((pid, _), _)| members.contains(pid));
    own.map(|(process, (_, command))| (process, command)).collect()
}

fn alive(some: &BTreeSet<Process>) -> bool {
    let all = processes();
    some.iter().any(|process| all.contains_key(process))
}

/// The control groups of these spawners.
fn groups(spawners: &BTreeSet<i32>) -> Vec<PathBuf> {
    fn below(folder: &Path, depth: u32, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("headwater-") {
                found.push(entry.path());
            } else if depth > 0 && entry.path().is_dir() {
                below(&entry.path(), depth - 1, found);
            }
        }
    }
    let mut found = Vec::new();
    below(Path::new("/sys/fs/cgroup"), 4, &mut found);
    let ours = |path: &PathBuf| {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let pid = name.split('-').nth(1).and_then(|pid| pid.parse().ok());
        pid.is_some_and(|pid: i32| spawners.contains(&pid))
    };
    found.into_iter().filter(ours).collect()
}

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

/// Whom to kill: of whom there are several, the one that the number falls on.
fn victim(server: i32, which: &str, number: u64) -> Option<i32> {
    let family = family(server);
    let with = |text: &str| -> Vec<i32> {
        let found = family.iter().filter(|(_, command)| command.contains(text));
        found.map(|((pid, _), _)| *pid).filter(|pid| *pid != server).collect()
    };
    // Those of a sandbox's first process, too, whose command line is the spawner's.
    let (spawners, workers) = (with("__spawner"), with("headwater_zygote.py"));
    let one_of = |all: &[i32]| {
        let index = usize::try_from(number).ok()?.checked_rem(all.len())?;
        all.get(index).copied()
    };
    match which {
        "the server" => Some(server),
        "the spawner" => spawners.first().copied(),
        "a zygote" => one_of(&spawners[1.min(spawners.len())..]),
        _ => one_of(&workers),
    }
}

fn stuck(workspace: &Workspace) -> bool {
    ["queued", "running"].iter().any(|status| {
        workspace.json(&["job", "ls", "--kind", "run", "--status", status]) != json!([])
    })
}

/// How many mounts there are of what lies in a folder.
fn mounts(folder: &Path) -> usize {
    let folder = folder.to_string_lossy().into_owned();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts.lines().filter(|line| line.contains(&folder)).count()
}

#[test]
fn soak_whoever_is_killed_nothing_is_left_and_no_job_is_stuck() {
    let rounds = if std::env::var_os("HEADWATER_SOAK").is_some() { 100 } else { 8 };
    let workspace = Workspace::new();
    let _ = std::fs::remove_dir_all(workspace.path().join("models"));
    workspace.write("models/chain.py", MODELS);
    workspace.ok(&["stop"]);
    let before = mounts(workspace.path());
    let mut server = serve(&workspace);
    workspace.ok(&["run"]);
    let mut spawners = BTreeSet::new();
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |now| now.subsec_nanos());
    let mut random = u64::from(seed) | 1;
    for round in 0..rounds {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let which = VICTIMS[round % VICTIMS.len()];
        let pid = i32::try_from(server.id()).expect("a pid");
        let run = workspace.start(&["run"]);
        // At whatever moment: the moment is the point.
        std::thread::sleep(Duration::from_millis(random % 600));
        let all: BTreeSet<Process> = family(pid).into_keys().collect();
        spawners.extend(victim(pid, "the spawner", 0));
        if let Some(victim) = victim(pid, which, random) {
            let _ = Command::new("kill").args(["-9", &victim.to_string()]).status();
        }
        run.wait_with_output().expect("the run ends");
        if which == "the server" {
            server.wait().expect("the server is gone");
            until(&format!("nothing is left of {which} (round {round}, {seed})"), || !alive(&all));
            server = serve(&workspace);
        }
        until(&format!("no job is stuck after {which} (round {round}, {seed})"), || {
            !stuck(&workspace)
        });
        until(&format!("a run works after {which} (round {round}, {seed})"), || {
            workspace.run(&["run"]).code == 0
        });
        if which == "the spawner" {
            let pid = i32::try_from(server.id()).expect("a pid");
            until(&format!("the old spawner's are gone (round {round}, {seed})"), || {
                let now: BTreeSet<Process> = family(pid).into_keys().collect();
                let old: BTreeSet<Process> = all.difference(&now).copied().collect();
                !alive(&old)
            });
        }
    }
    let all: BTreeSet<Process> =
        family(i32::try_from(server.id()).expect("a pid")).into_keys().collect();
    workspace.ok(&["stop"]);
    server.wait().expect("the server ends");
    until("no process is left", || !alive(&all));
    until("no control group is left", || groups(&spawners).is_empty());
    assert_eq!(mounts(workspace.path()), before, "mounts are left");
}
