//! Resources: a call that exceeds its limits is stopped, and others are not affected.

use std::time::Duration;

use super::{held, held_by, probe};
use crate::support::{environment, run, start};
use headwater_functions::{Error, Invocation, Limits};

const STILL_THERE: &str = "return True";

#[tokio::test]
async fn a_fork_bomb_ends_with_its_instance() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let body = "while True:
    try:
        os.fork()
    except OSError:
        pass";
    let timeout = Duration::from_secs(1);
    let limits = Limits { timeout, memory_bytes: 512 << 20, ..Limits::default() };
    let (outcome, _) = run(&functions, Invocation { limits, ..probe(&environment, body) }).await;
    let stopped = matches!(outcome, Err(Error::TimeLimit { .. } | Error::MemoryLimit { .. }));
    assert!(stopped, "{outcome:?}");
    held_by(&functions, Limits::default(), STILL_THERE).await;
}

#[tokio::test]
async fn a_memory_bomb_ends_with_its_instance() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    for body in [
        "held = []\nwhile True:\n    held.append(bytearray(os.urandom(1 << 20)))",
        "for _ in range(8):\n    if os.fork() == 0:\n        break\nheld = []\n\
         while True:\n    held.append(b'x' * (4 << 20))",
        "file = os.memfd_create('x')\nwhile True:\n    os.write(file, bytes(1 << 20))",
        "file = open('/tmp/x', 'wb')\nwhile True:\n    file.write(bytes(1 << 20))",
    ] {
        let limits = Limits {
            memory_bytes: 256 << 20,
            temp_bytes: 1 << 40,
            timeout: Duration::from_secs(60),
            ..Limits::default()
        };
        let invocation = Invocation { limits, ..probe(&environment, body) };
        let (outcome, _) = run(&functions, invocation).await;
        assert!(matches!(outcome, Err(Error::MemoryLimit { .. })), "{body}: {outcome:?}");
    }
    held_by(&functions, Limits::default(), STILL_THERE).await;
}

#[tokio::test]
async fn a_flood_of_messages_does_not_delay_other_functions() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let body = "for _ in range(3):
    if os.fork() == 0:
        break
while True:
    os.write(3, b'x')";
    let limits = Limits { timeout: Duration::from_secs(2), ..Limits::default() };
    let flood = run(&functions, Invocation { limits, ..probe(&environment, body) });
    let other_calls = async {
        for _ in 0..3 {
            held_by(&functions, Limits::default(), STILL_THERE).await;
        }
    };
    // The runtime of the test has only one thread, which must also enforce the time limit.
    let ((outcome, _), ()) = tokio::join!(flood, other_calls);
    assert!(matches!(outcome, Err(Error::TimeLimit { .. })), "{outcome:?}");
}

#[tokio::test]
async fn a_function_exhausts_only_its_own_descriptors() {
    held(
        "held = []
try:
    while True:
        held.append(os.open('/dev/null', os.O_RDONLY))
except OSError as error:
    return error.errno == errno.EMFILE and 1000 < len(held) < 20000",
    )
    .await;
}

#[tokio::test]
async fn a_function_exhausts_only_its_own_threads() {
    let functions = start().await;
    held_by(
        &functions,
        Limits::default(),
        "threading.stack_size(65536)
wait = threading.Event()
started = 0
try:
    for _ in range(20000):
        threading.Thread(target=wait.wait, daemon=True).start()
        started += 1
except RuntimeError:
    pass
wait.set()
print(started)
return 100 < started < 10000",
    )
    .await;
    held_by(&functions, Limits::default(), STILL_THERE).await;
}

#[tokio::test]
async fn no_priority_can_be_gained() {
    held(
        "attempts = [(os.nice, -5), (os.setpriority, os.PRIO_PROCESS, 0, -10),
    (os.sched_setscheduler, 0, os.SCHED_FIFO, os.sched_param(1))]
return all([fails(*attempt) for attempt in attempts])",
    )
    .await;
}

#[tokio::test]
async fn limits_cannot_be_raised() {
    held(
        "import resource
for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_CORE, resource.RLIMIT_MEMLOCK):
    _, most = resource.getrlimit(limit)
    try:
        resource.setrlimit(limit, (most + 1, most + 1))
        return False
    except (ValueError, OSError):
        pass
return not fails(os.getpid) or not os.path.exists('/sys/fs/cgroup')",
    )
    .await;
}
