//! A runtime for tests. All tests of a machine share the environments, so that packages are
//! downloaded once.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use headwater_functions::{
    Argument, ArgumentValue, CallOwner, Environment, EnvironmentSpec, Error, FunctionEvent,
    FunctionResult, Functions, FunctionsOptions, Invocation, InvocationOutcome, Isolation, Limits,
    OptionalCallParts, ResultKind, ReuseScope, SharedTable, SpawnerCommand, Telemetry,
    ZygoteOptions,
};
use headwater_model::LogStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// A line of output: stream, file, line number and text.
pub type Line = (LogStream, Option<String>, Option<u32>, String);

pub fn options() -> FunctionsOptions {
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("functions");
    let path = std::env::var_os("PATH").unwrap_or_default();
    FunctionsOptions {
        spawner: SpawnerCommand {
            program: PathBuf::from(env!("CARGO_BIN_EXE_headwater-spawner")),
            arguments: Vec::new(),
        },
        own_dir: target.join("own"),
        environments_dir: target.join("environments"),
        tools_dir: target.join("tools"),
        cache_dir: target.join("cache"),
        memory_bytes_total: 8 << 30,
        concurrency: 4,
        waiting_max: 10_000,
        python_search: std::env::split_paths(&path).collect(),
        nameservers: None,
        reachable_own: Vec::new(),
        connections_max: None,
        isolation: Isolation::Sandbox,
        zygotes: ZygoteOptions::default(),
        telemetry: Telemetry::default(),
    }
}

/// Returns options that allow functions to connect to an address of this machine. The tests treat
/// this address as the address of another machine.
pub fn with_reachable_address() -> FunctionsOptions {
    FunctionsOptions { reachable_own: own_address().into_iter().collect(), ..options() }
}

pub async fn start() -> Functions {
    Functions::start(options()).await.unwrap()
}

/// Returns options of an unprivileged server: sandboxes by user namespaces only, limits without
/// control groups, and an environment that all users can read. Dropping the folder removes the
/// environment. Returns `None` if all interpreters of the machine are in a home folder.
pub async fn ordinary() -> Option<(tempfile::TempDir, FunctionsOptions, Arc<Environment>)> {
    let system_pythons = PathBuf::from("/usr/bin");
    let mut options =
        FunctionsOptions { python_search: vec![system_pythons], ..with_reachable_address() };
    // The folder is outside the target folder, to which other users may have no access.
    let open = tempfile::tempdir().unwrap();
    std::fs::set_permissions(open.path(), Permissions::from_mode(0o755)).unwrap();
    options.environments_dir = open.path().join("environments");
    options.tools_dir = open.path().join("tools");
    // The folders are made accessible to other users, because the server creates folders that only
    // its own user can access.
    for folder in [&options.environments_dir, &options.tools_dir] {
        std::fs::create_dir(folder).unwrap();
    }
    let python = EnvironmentSpec { python: None, ..spec(&[]) };
    let root = Functions::start(options.clone()).await.unwrap();
    let Ok(environment) = root.environment(&python, &|_| ()).await else {
        not_checked("all interpreters are in a user's home folder");
        return None;
    };
    if rustix::process::geteuid().is_root() {
        let spawner = options.spawner.program.to_string_lossy().into_owned();
        let unprivileged = ["--reuid=65534", "--regid=65534", "--clear-groups", &spawner];
        options.spawner.program = "setpriv".into();
        options.spawner.arguments = unprivileged.map(str::to_owned).to_vec();
    }
    Some((open, options, environment))
}

pub fn spec(packages: &[(&str, &str)]) -> EnvironmentSpec {
    let packages = packages.iter().map(|(name, version)| ((*name).into(), (*version).into()));
    EnvironmentSpec {
        python: Some("3.11".to_owned()),
        packages: packages.collect(),
        ..EnvironmentSpec::default()
    }
}

pub async fn environment(functions: &Functions, packages: &[(&str, &str)]) -> Arc<Environment> {
    functions.environment(&spec(packages), &|_| ()).await.unwrap()
}

/// Creates a call of `f` in `models/m.py`.
pub fn call(environment: &Arc<Environment>, source: &str) -> Invocation {
    let files = BTreeMap::from([("models/m.py".to_owned(), source.into())]);
    Invocation {
        environment: environment.clone(),
        files: Arc::new(files),
        module: "models/m.py".to_owned(),
        function: "f".to_owned(),
        arguments: Vec::new(),
        kind: ResultKind::Table,
        limits: Limits::default(),
        label: "m".to_owned(),
        quota: None,
        reuse: ReuseScope::Never,
        starts_runtime: false,
        share: CallOwner::default(),
        begins_until: CancellationToken::new(),
        lake: None,
        client: OptionalCallParts::default(),
        early_result: None,
    }
}

/// Creates a call of `f` that returns a boolean.
pub fn ask(environment: &Arc<Environment>, source: &str) -> Invocation {
    Invocation { kind: ResultKind::Bool, ..call(environment, source) }
}

pub fn table(name: &str, table: &SharedTable) -> Argument {
    Argument { name: name.to_owned(), value: ArgumentValue::Table(table.clone()) }
}

/// Runs a call to completion; returns its result and output.
pub async fn run(
    functions: &Functions,
    invocation: Invocation,
) -> (Result<FunctionResult, Error>, Vec<Line>) {
    let (outcome, lines) = run_whole(functions, invocation).await;
    (outcome.returned, lines)
}

/// Runs a call to completion; returns its outcome and output.
pub async fn run_whole(
    functions: &Functions,
    invocation: Invocation,
) -> (InvocationOutcome, Vec<Line>) {
    let (sink, mut lines) = mpsc::channel(16);
    let invoked = functions.invoke(invocation, sink, CancellationToken::new());
    let collected = async {
        let mut all = Vec::new();
        while let Some(FunctionEvent::Line { stream, file, line, text }) = lines.recv().await {
            all.push((stream, file, line, text));
        }
        all
    };
    tokio::join!(invoked, collected)
}

/// Runs a call that must return true.
pub async fn holds(functions: &Functions, invocation: Invocation) {
    let (outcome, lines) = run(functions, invocation).await;
    let outcome = outcome.unwrap_or_else(|error| panic!("{error:?}\n{lines:#?}"));
    assert!(matches!(outcome, FunctionResult::Bool(true)), "false; it printed {lines:#?}");
}

/// Runs a call that must return a table.
pub async fn answer(
    functions: &Functions,
    invocation: Invocation,
) -> (SharedTable, InvocationOutcome) {
    let (outcome, lines) = run_whole(functions, invocation).await;
    match &outcome.returned {
        Ok(FunctionResult::Table(table)) => (table.clone(), outcome),
        other => panic!("{other:?}\n{lines:#?}"),
    }
}

/// Returns the ids of live processes whose command line contains a text.
pub fn processes(text: &str) -> Vec<i32> {
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

/// Polls a condition; fails after two minutes.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Returns an address of this machine that other machines can reach, if there is one.
pub fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("203.0.113.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|address| match address {
        IpAddr::V4(address) => !address.is_loopback() && !address.is_link_local(),
        IpAddr::V6(address) => !address.is_loopback(),
    })
}

/// Starts a TCP service that sends `!` to each client, and counts the connections.
pub fn service(address: Option<IpAddr>) -> Option<(SocketAddr, Arc<AtomicUsize>)> {
    let listener = TcpListener::bind((address?, 0)).ok()?;
    let (address, count) = (listener.local_addr().ok()?, Arc::new(AtomicUsize::new(0)));
    let counted = count.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::Relaxed);
            let _ = stream.write_all(b"!");
        }
    });
    Some((address, count))
}

/// Reports that a test was skipped, because this host does not support it.
pub fn not_checked(why: &str) {
    let _ = writeln!(std::io::stderr(), "NOT CHECKED: {why}");
}

/// The reason why tests that need a reachable address are skipped.
pub const NO_ADDRESS: &str = "this machine has no address that others could reach";
