//! What a function in a sandbox can and cannot reach, and what is left when things die.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{ask, call, environment, holds, options, run, start};
use headwater_functions::{Error, Functions, FunctionsOptions, Invocation, Isolation, Limits};

/// Every probe is a function that answers true where the sandbox held.
const HELD: [(&str, &str); 16] = [
    (
        "no file of the host can be read",
        "
import os
def f():
    hidden = ['/root', '/home', '/etc/shadow', '/var', '/sys', '/boot', '/dev/sda', '/dev/kmsg']
    seen = [path for path in hidden if os.path.exists(path) and path != '/root']
    root = os.listdir('/root') if os.path.exists('/root') else []
    return not seen and set(root) <= {'.pyenv', '.local'}
",
    ),
    (
        "nothing can be written but /tmp",
        "
import os
def f():
    for folder in ['/', '/usr', '/etc', '/project', '/headwater', '/environment', '/dev', '/proc']:
        try:
            open(os.path.join(folder, 'x'), 'w')
            return False
        except OSError:
            pass
    open('/tmp/x', 'w').write('x')
    return True
",
    ),
    (
        "/tmp begins empty",
        "
import os
def f():
    return os.listdir('/tmp') == [] and os.listdir('/dev/shm') == []
",
    ),
    (
        "/tmp has a size",
        "
def f():
    try:
        with open('/tmp/x', 'wb') as file:
            for _ in range(64):
                file.write(bytes(1 << 20))
        return False
    except OSError as error:
        return error.errno == 28
",
    ),
    (
        "no address outside can be reached",
        "
import socket
def f():
    for family, address in [(socket.AF_INET, ('1.1.1.1', 53)), (socket.AF_INET6, ('::1', 22))]:
        try:
            socket.create_connection(address, timeout=3)
            return False
        except OSError:
            pass
    try:
        socket.getaddrinfo('pypi.org', 443)
        return False
    except OSError:
        return True
",
    ),
    (
        "the loopback is its own",
        "
import socket
def f():
    server = socket.create_server(('127.0.0.1', 0))
    socket.create_connection(server.getsockname(), timeout=3)
    return [name for _, name in socket.if_nameindex()] == ['lo']
",
    ),
    (
        "no other process is in sight",
        "
import os
def f():
    return sorted(int(name) for name in os.listdir('/proc') if name.isdigit())[0] == 1 and \
        len([name for name in os.listdir('/proc') if name.isdigit()]) == 2
",
    ),
    (
        "its first process cannot be killed or traced",
        "
import os, ctypes
def f():
    try:
        os.kill(1, 9)
    except PermissionError:
        pass
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.ptrace(16, 1, 0, 0) == -1
",
    ),
    (
        "it has no capability and can gain none",
        "
def f():
    status = dict(line.split(':', 1) for line in open('/proc/self/status'))
    caps = [int(status[name], 16) for name in ('CapInh', 'CapPrm', 'CapEff', 'CapAmb')]
    return caps == [0] * 4 and status['NoNewPrivs'].strip() == '1'
",
    ),
    (
        "it is not root",
        "
import os
def f():
    return os.getuid() != 0 and os.getgid() != 0 and os.geteuid() == os.getuid()
",
    ),
    (
        "nothing can be mounted",
        "
import ctypes
def f():
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.mount(b'none', b'/tmp', b'tmpfs', 0, None) == -1 and libc.umount2(b'/proc', 2) == -1
",
    ),
    (
        "its inputs and its socket are all it holds",
        "
import os
def f():
    kinds = {}
    for fd in os.listdir('/proc/self/fd'):
        try:
            kinds[int(fd)] = os.readlink(f'/proc/self/fd/{fd}')
        except OSError:
            pass
    extra = {fd: kind for fd, kind in kinds.items() if fd > 3 and '/proc' not in kind}
    print(kinds)
    return all(kind == '/dev/null' for kind in extra.values())
",
    ),
    (
        "the kernel's settings cannot be changed",
        "
def f():
    for path in ['/proc/sys/kernel/hostname', '/proc/sys/vm/swappiness', '/proc/1/oom_score_adj']:
        try:
            open(path, 'w').write('1')
            return False
        except OSError:
            pass
    return True
",
    ),
    (
        "device files cannot be made",
        "
import os, stat
def f():
    try:
        os.mknod('/tmp/d', 0o600 | stat.S_IFCHR, os.makedev(1, 1))
        return False
    except OSError:
        return True
",
    ),
    (
        "its environment variables are its own",
        "
import os
def f():
    return set(os.environ) <= {'PATH', 'HOME', 'TMPDIR', 'USER', 'LANG', 'LC_CTYPE'}
",
    ),
    (
        "processes can be started, and are reaped",
        "
import subprocess, multiprocessing, os
def double(n):
    return 2 * n
def f():
    subprocess.run(['/bin/sh', '-c', 'true & exec true'], check=True)
    with multiprocessing.get_context('fork').Pool(2) as pool:
        return pool.map(double, [1, 2]) == [2, 4]
",
    ),
];

#[tokio::test]
async fn a_sandbox_holds() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    for (name, source) in HELD {
        let limits = Limits { temp_bytes: 16 << 20, ..Limits::default() };
        let (outcome, lines) =
            run(&functions, Invocation { limits, ..ask(&environment, source) }).await;
        let held = outcome.map(|outcome| outcome.returned);
        assert!(
            matches!(held, Ok(headwater_functions::Returned::Bool(true))),
            "{name}: {held:?}, printed {lines:?}"
        );
    }
}

#[tokio::test]
async fn the_network_is_there_for_who_asks() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let source = format!(
        "import socket\ndef f():\n    socket.create_connection(('127.0.0.1', {port}), timeout=5)\n    \
         return True\n"
    );
    let limits = Limits { network: true, ..Limits::default() };
    holds(&functions, Invocation { limits, ..ask(&environment, &source) }).await;

    let (outcome, _) = run(&functions, ask(&environment, &source)).await;
    let Err(Error::FunctionRaised { hint, .. }) = outcome else { panic!("{outcome:?}") };
    assert!(hint.unwrap().contains("network=True"));
}

#[tokio::test]
async fn a_fork_bomb_ends_with_its_instance() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let source = "
import os
def f():
    while True:
        try:
            os.fork()
        except OSError:
            pass
";
    let timeout = Duration::from_secs(1);
    let limits = Limits { timeout, memory_bytes: 512 << 20, ..Limits::default() };
    let (outcome, _) = run(&functions, Invocation { limits, ..ask(&environment, source) }).await;
    let stopped = matches!(outcome, Err(Error::TimeLimit { .. } | Error::MemoryLimit { .. }));
    assert!(stopped, "{outcome:?}");
    holds(&functions, ask(&environment, "def f():\n    return True\n")).await;
}

#[tokio::test]
async fn without_a_sandbox_functions_run_all_the_same_and_say_so() {
    let functions =
        Functions::start(FunctionsOptions { isolation: Isolation::Process, ..options() })
            .await
            .unwrap();
    assert!(functions.warnings()[0].contains("without isolation"));
    let environment = environment(&functions, &[]).await;
    let source = "
import os, tempfile, headwater
from helpers import seven
def f():
    print(os.getcwd())
    assert tempfile.mkdtemp().startswith(os.environ['HOME'])
    os.system('sleep 1000 &')
    return seven() == 7
";
    let mut invocation = ask(&environment, source);
    let files = std::sync::Arc::make_mut(&mut invocation.files);
    files.insert("models/helpers.py".to_owned(), "def seven():\n    return 7\n".to_owned());
    let (outcome, lines) = run(&functions, invocation).await;
    outcome.unwrap();
    let (_, file, line, folder) = &lines[0];
    assert_eq!((file.as_deref(), *line), (Some("models/m.py"), Some(5)));
    assert!(!std::path::Path::new(folder).exists(), "`{folder}` is left");

    let limits = Limits { timeout: Duration::from_millis(500), ..Limits::default() };
    let endless = "def f():\n    while True:\n        pass\n";
    let (outcome, _) = run(&functions, Invocation { limits, ..call(&environment, endless) }).await;
    assert!(matches!(outcome, Err(Error::TimeLimit { .. })), "{outcome:?}");
}

/// Processes of this machine whose command line has a text.
fn processes(text: &str) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let state = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let dead = state.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'));
        if String::from_utf8_lossy(&command).contains(text) && !dead {
            found.push(pid);
        }
    }
    found
}

/// The processes that a process started, whichever of its threads it was.
fn children(pid: i32) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let texts = tasks.map(|task| std::fs::read_to_string(task.path().join("children")));
    let text: String = texts.flatten().collect();
    text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The cgroups of a spawner.
fn cgroups(spawner: i32) -> Vec<std::path::PathBuf> {
    fn below(
        folder: &std::path::Path,
        name: &str,
        depth: u32,
        found: &mut Vec<std::path::PathBuf>,
    ) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_name().to_string_lossy().starts_with(name) {
                found.push(path);
            } else if depth > 0 && path.is_dir() {
                below(&path, name, depth - 1, found);
            }
        }
    }
    let mut found = Vec::new();
    let name = format!("headwater-{spawner}-");
    below(std::path::Path::new("/sys/fs/cgroup"), &name, 4, &mut found);
    found
}

/// This test starts itself again as a server that runs a function which never ends, and kills it.
#[tokio::test]
async fn when_the_server_dies_nothing_of_it_lives_on() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let marker = format!("marker{}", std::process::id());
    let grouped = functions.warnings().is_empty();
    if let Ok(marker) = std::env::var("HEADWATER_TEST_SERVER") {
        let source = format!(
            "
import subprocess
def f():
    subprocess.Popen(['/bin/sh', '-c', 'sleep 1000; : {marker}'])
    subprocess.run(['/bin/sh', '-c', 'sleep 1000; : {marker}'])
"
        );
        let _ = run(&functions, call(&environment, &source)).await;
        return;
    }
    drop(functions);
    for victim in ["server", "spawner"] {
        let mut server = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "isolation::when_the_server_dies_nothing_of_it_lives_on"])
            .env("HEADWATER_TEST_SERVER", &marker)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_until("the function never began", || processes(&marker).len() >= 2);
        let pid = server.id() as i32;
        let spawner = children(pid)[0];
        assert_eq!(grouped, !cgroups(spawner).is_empty());
        let killed = if victim == "server" { pid } else { spawner };
        Command::new("kill").args(["-9", &killed.to_string()]).status().unwrap();
        wait_until("an instance lives on", || processes(&marker).is_empty());
        server.wait().unwrap();
        if victim == "server" {
            wait_until("a control group is left", || cgroups(spawner).is_empty());
        } else {
            // Nobody was left to remove them; the next spawner does.
            let next = start().await;
            wait_until("a control group is left", || cgroups(spawner).is_empty());
            drop(next);
        }
    }
}

/// This test starts itself again, so that the spawners of tests beside it stay alone.
#[tokio::test]
async fn a_spawner_that_died_is_started_again() {
    if std::env::var_os("HEADWATER_TEST_ALONE").is_none() {
        let alone = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "isolation::a_spawner_that_died_is_started_again"])
            .env("HEADWATER_TEST_ALONE", "1")
            .output()
            .unwrap();
        assert!(alone.status.success(), "{}", String::from_utf8_lossy(&alone.stdout));
        return;
    }
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let source = "def f():\n    return True\n";
    holds(&functions, ask(&environment, source)).await;
    let spawner = children(std::process::id() as i32)[0];
    Command::new("kill").args(["-9", &spawner.to_string()]).status().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let (outcome, _) = run(&functions, ask(&environment, source)).await;
        if outcome.is_ok() {
            break;
        }
        assert!(Instant::now() < deadline, "{outcome:?}");
    }
}
