//! Processes: a function sees only its own processes, and all these processes end with the call.

use std::time::Duration;

use super::{held, held_by, held_for_anybody, probe};
use crate::support::{environment, processes, run, start, wait_until};
use headwater_functions::{Error, Invocation, Limits};

#[tokio::test]
async fn other_processes_are_invisible() {
    held_for_anybody(
        "found = sorted(int(name) for name in os.listdir('/proc') if name.isdigit())
return found[0] == 1 and len(found) == 2",
    )
    .await;
}

#[tokio::test]
async fn the_first_process_of_a_sandbox_cannot_be_signalled() {
    held_for_anybody("return all([fails(os.kill, 1, number) for number in (9, 15, 10, 19)])").await;
}

#[tokio::test]
async fn signals_do_not_reach_other_processes() {
    let mut bystander = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    held_for_anybody(&format!(
        "import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.setpgid(0, 0) if os.getpgid(0) != os.getpid() else None
for attempt in [(os.kill, {pid}, 9), (os.killpg, {pid}, 9)]:
    if not fails(*attempt):
        return False
fails(os.kill, -1, 15)
return True",
        pid = bystander.id()
    ))
    .await;
    assert!(bystander.try_wait().unwrap().is_none());
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

#[tokio::test]
async fn daemons_end_with_their_instance() {
    let marker = format!("daemon{}", std::process::id());
    let functions = start().await;
    held_by(
        &functions,
        Limits::default(),
        &format!(
            "for _ in range(3):
    subprocess.Popen(['/bin/sh', '-c', 'trap \"\" TERM HUP; sleep 1000; : {marker}'], start_new_session=True)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execv('/bin/sh', ['/bin/sh', '-c', 'sleep 1000; : {marker}'])
    os._exit(0)
return True"
        ),
    )
    .await;
    wait_until("a daemon lives on", || processes(&marker).is_empty());
}

#[tokio::test]
async fn a_function_that_ignores_signals_is_killed() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let body = "import signal
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
    signal.signal(number, signal.SIG_IGN)
while True:
    try:
        time.sleep(1000)
    except BaseException:
        pass";
    let limits = Limits { timeout: Duration::from_millis(500), ..Limits::default() };
    let (outcome, _) = run(&functions, Invocation { limits, ..probe(&environment, body) }).await;
    assert!(matches!(outcome, Err(Error::TimeLimit { .. })), "{outcome:?}");
}

#[tokio::test]
async fn a_function_has_only_its_own_environment_variables() {
    held("return set(os.environ) <= {'PATH', 'HOME', 'TMPDIR', 'USER', 'LANG', 'LC_CTYPE', 'OMP_NUM_THREADS', 'LOKY_MAX_CPU_COUNT'}").await;
}

#[tokio::test]
async fn a_function_has_only_its_inputs_and_its_socket_open() {
    held_for_anybody(
        "kinds = {}
for name in os.listdir('/proc/self/fd'):
    try:
        kinds[int(name)] = os.readlink('/proc/self/fd/' + name)
    except OSError:
        pass
print(kinds)
return all(kind == '/dev/null' for number, kind in kinds.items() if number > 3 and '/proc' not in kind)",
    )
    .await;
}

/// Common operations of functions are permitted.
#[tokio::test]
async fn processes_and_threads_can_be_started() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let body = "import multiprocessing, concurrent.futures
subprocess.run(['/bin/sh', '-c', 'true & exec true'], check=True)
with concurrent.futures.ThreadPoolExecutor(4) as threads:
    assert list(threads.map(abs, [-1, 2])) == [1, 2]
with multiprocessing.get_context('fork').Pool(2) as pool:
    return pool.map(abs, [-1, 2]) == [1, 2]";
    for _ in 0..5 {
        crate::support::holds(&functions, probe(&environment, body)).await;
    }
}
