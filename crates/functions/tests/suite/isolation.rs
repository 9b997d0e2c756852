//! Isolation of a sandbox: the resources that a function can access, and the clean-up after
//! processes end.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{
    NO_ADDRESS, ask, call, environment, holds, not_checked, options, own_address, processes, run,
    service, start, wait_until, with_reachable_address,
};
use headwater_functions::{
    Error, Functions, FunctionsOptions, Invocation, Isolation, Limits, NetworkAccess,
};

#[tokio::test]
async fn the_network_is_available_to_functions_that_request_it() {
    let functions = Functions::start(with_reachable_address()).await.unwrap();
    let environment = environment(&functions, &[]).await;
    let Some((service, _)) = service(own_address()) else {
        return not_checked(NO_ADDRESS);
    };
    let source = format!(
        "import socket\ndef f():\n    one = socket.create_connection(('{}', {}), timeout=5)\n    \
         return one.recv(1) == b'!'\n",
        service.ip(),
        service.port()
    );
    let limits = Limits { network: NetworkAccess::On, ..Limits::default() };
    holds(&functions, Invocation { limits, ..ask(&environment, &source) }).await;

    let (outcome, _) = run(&functions, ask(&environment, &source)).await;
    let Err(Error::FunctionRaised { hint, .. }) = outcome else { panic!("{outcome:?}") };
    assert!(hint.unwrap().contains("network=True"));
}

#[tokio::test]
async fn a_refused_connection_gets_a_hint_about_the_loopback_address() {
    let functions = Functions::start(with_reachable_address()).await.unwrap();
    let environment = environment(&functions, &[]).await;
    let source = "import socket\ndef f():\n    socket.create_connection(('127.0.0.1', 9))\n";
    for network in [NetworkAccess::Off, NetworkAccess::On] {
        let limits = Limits { network, ..Limits::default() };
        let (outcome, _) =
            run(&functions, Invocation { limits, ..ask(&environment, source) }).await;
        let Err(Error::FunctionRaised { hint, .. }) = outcome else { panic!("{outcome:?}") };
        let hint = hint.unwrap();
        assert!(hint.contains("`localhost` is the sandbox itself"), "{hint}");
    }
}

#[tokio::test]
async fn an_unlisted_host_gets_a_hint_with_the_setting() {
    let functions = Functions::start(with_reachable_address()).await.unwrap();
    let environment = environment(&functions, &[]).await;
    let listed = "listed.invalid:443 203.0.113.1:5432".split(' ').map(|host| host.parse().unwrap());
    let limits = Limits { network: NetworkAccess::Hosts(listed.collect()), ..Limits::default() };
    let fails = async |body: &str| {
        let source = format!("import socket, urllib.request\ndef f():\n    {body}\n");
        let limits = limits.clone();
        let (outcome, lines) =
            run(&functions, Invocation { limits, ..ask(&environment, &source) }).await;
        let Err(Error::FunctionRaised { hint, .. }) = outcome else { panic!("{outcome:?}") };
        (hint, lines.into_iter().map(|line| line.3).collect::<Vec<_>>())
    };
    for (body, host, told) in [
        (
            "urllib.request.urlopen('http://api.example.com/x', timeout=5)",
            "api.example.com",
            "the name `api.example.com` was not resolved",
        ),
        (
            "socket.create_connection(('203.0.113.1', 22), timeout=5).recv(1)",
            "203.0.113.1:22",
            "a connection to 203.0.113.1:22 was refused",
        ),
        (
            "try:\n        socket.gethostbyname('db.example.com')\n    except OSError:\n        \
             raise RuntimeError('no database at db.example.com') from None",
            "db.example.com",
            "the name `db.example.com` was not resolved",
        ),
    ] {
        let (hint, lines) = fails(body).await;
        let wanted = format!("Add `\"{host}\"` to `network=[...]` in the function's decorator");
        assert!(
            hint.as_deref().is_some_and(|hint| hint.starts_with(&wanted)),
            "{hint:?} {lines:?}"
        );
        assert!(lines.iter().any(|line| line.starts_with(told)), "{lines:?}");
    }
    // Errors with other causes have another hint, or none.
    let refused =
        "try:\n        socket.gethostbyname('api.example.com')\n    except OSError:\n        pass";
    assert_eq!(fails(&format!("{refused}\n    raise ValueError('no')")).await.0, None);
    // A host name on the allowed list that does not resolve causes no hint about the list.
    let (hint, lines) = fails("socket.getaddrinfo('listed.invalid', 443, socket.AF_INET6)").await;
    assert!(hint.is_none(), "{hint:?} {lines:?}");
}

#[tokio::test]
async fn functions_run_without_a_sandbox_with_a_warning() {
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
    files.insert("models/helpers.py".to_owned(), "def seven():\n    return 7\n".into());
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

/// Without a sandbox and control groups, only the function's first process can end the function's
/// child processes.
#[tokio::test]
async fn child_processes_end_with_their_function_without_a_sandbox() {
    let marker = format!("stray{}", std::process::id());
    let hidden = "mount -t tmpfs none /sys/fs/cgroup && exec \"$0\"";
    let mut options = FunctionsOptions { isolation: Isolation::Process, ..options() };
    let spawner = options.spawner.program.to_string_lossy().into_owned();
    let arguments = ["--mount", "--map-root-user", "/bin/sh", "-c", hidden, &spawner];
    options.spawner.program = "unshare".into();
    options.spawner.arguments = arguments.map(str::to_owned).to_vec();
    let functions = Functions::start(options).await.unwrap();
    let warnings = functions.warnings();
    assert!(warnings.iter().any(|warning| warning.contains("control group")), "{warnings:?}");
    let environment = environment(&functions, &[]).await;
    let source = format!(
        "
import os, subprocess, time
def f():
    subprocess.Popen(['/bin/sh', '-c', 'sleep 1000; : {marker}'], start_new_session=True)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(1000)  # It holds the socket and both pipes.
        os._exit(0)
    print('said')
    return True
"
    );
    let began = Instant::now();
    let (outcome, lines) = run(&functions, ask(&environment, &source)).await;
    outcome.unwrap();
    assert_eq!(lines.len(), 1);
    assert!(began.elapsed() < Duration::from_secs(30));
    wait_until("a daemon lives on", || processes(&marker).is_empty());

    let endless = format!("{}    while True:\n        pass\n", source.replace("return True", ""));
    let limits = Limits { timeout: Duration::from_millis(500), ..Limits::default() };
    let (outcome, _) = run(&functions, Invocation { limits, ..ask(&environment, &endless) }).await;
    assert!(matches!(outcome, Err(Error::TimeLimit { .. })), "{outcome:?}");
    wait_until("a daemon lives on", || processes(&marker).is_empty());
}

/// Returns the child processes of a process, including the children that its other threads started.
fn children(pid: i32) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let texts = tasks.map(|task| std::fs::read_to_string(task.path().join("children")));
    let text: String = texts.flatten().collect();
    text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// Returns the cgroups of a spawner.
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

/// Starts this test program again as a server that runs an endless function, and kills that server.
#[tokio::test]
async fn all_processes_end_with_a_killed_server() {
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
            .args(["--exact", "isolation::all_processes_end_with_a_killed_server"])
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
            // The killed server could not remove its control groups; the next spawner removes them.
            let next = start().await;
            wait_until("a control group is left", || cgroups(spawner).is_empty());
            drop(next);
        }
    }
}

/// Starts this test program again, so that the spawners of other tests are not affected.
#[tokio::test]
async fn a_crashed_spawner_is_restarted() {
    if std::env::var_os("HEADWATER_TEST_ALONE").is_none() {
        let alone = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "isolation::a_crashed_spawner_is_restarted"])
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

#[tokio::test]
async fn a_function_cannot_extend_its_timeout_with_runtime_messages() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let source = "
import os, socket, time

def send(message):
    for number in map(int, os.listdir('/proc/self/fd')):
        try:
            with socket.socket(fileno=os.dup(number)) as channel:
                channel.send(message)
        except OSError:
            pass

def f():
    send(b'{\"said\": \"starting\"}')
    time.sleep(1000)
";
    let timeout = Duration::from_secs(3);
    let limits = Limits { timeout, ..Limits::default() };
    let invocation = Invocation { limits, ..call(&environment, source) };
    let started = std::time::Instant::now();
    let (outcome, _) = run(&functions, invocation).await;
    assert!(matches!(outcome, Err(Error::TimeLimit { .. })), "{outcome:?}");
    assert!(started.elapsed() < timeout + Duration::from_secs(8), "{:?}", started.elapsed());
}
