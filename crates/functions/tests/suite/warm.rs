//! Reused instances: only calls of the same function share an instance. Only modules and globals
//! remain from earlier calls.

use std::sync::Arc;
use std::time::Duration;

use crate::support::{
    Line, ask, environment, options, processes, run_whole, start, table, wait_until,
};
use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use headwater_functions::{
    Argument, ArgumentValue, CallOwner, Environment, Error, FunctionResult, Functions,
    FunctionsOptions, Invocation, InvocationOutcome, Limits, NetworkAccess, ReuseScope,
    SharedTable,
};
use headwater_model::JobId;
use tokio_util::sync::CancellationToken;

/// Returns a call that may reuse the process of an earlier call.
pub fn again(environment: &Arc<Environment>, source: &str) -> Invocation {
    Invocation { reuse: ReuseScope::SameFunction, ..ask(environment, source) }
}

/// Returns the result of a call, its outcome and its lines.
pub async fn answers(
    functions: &Functions,
    call: Invocation,
) -> (bool, InvocationOutcome, Vec<Line>) {
    let (outcome, lines) = run_whole(functions, call).await;
    let Ok(FunctionResult::Bool(answer)) = outcome.returned else {
        panic!("{outcome:?} {lines:?}")
    };
    (answer, outcome, lines)
}

/// A function that returns true if the same process has executed it before.
const BEFORE: &str = "calls = []\ndef f():\n    calls.append(1)\n    return len(calls) > 1\n";

#[tokio::test]
async fn a_process_is_reused_with_its_modules_and_an_empty_tmp() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let source = "
import os, subprocess, sys
calls = []
def f():
    calls.append(os.getpid())
    clean = os.listdir('/tmp') == [] and os.getcwd() == '/project'
    alone = [name for name in os.listdir('/proc') if name.isdigit()] == ['1', '2']
    os.makedirs('/tmp/deep/folder'); open('/tmp/deep/file', 'w').close(); os.symlink('/usr', '/tmp/link')
    os.chdir('/tmp')
    subprocess.Popen(['/bin/sleep', '1000'], start_new_session=True)
    print('call', len(calls), clean, alone)
    os.write(1, b'native\\n')
    held = bytes(range(256)) * (len(calls) == 1 and 64 << 12)
    return len(calls) > 1 and clean and alone
";
    let mut peaks = Vec::new();
    for number in 1..=5 {
        let (answer, outcome, lines) = answers(&functions, again(&environment, source)).await;
        assert_eq!((answer, outcome.is_cold()), (number > 1, number == 1), "{lines:?}");
        let texts: Vec<_> = lines.iter().map(|(_, _, _, text)| text.clone()).collect();
        assert!(texts.contains(&format!("call {number} True True")), "{texts:?}");
        assert!(texts.contains(&"native".to_owned()) && texts.len() == 2, "{texts:?}");
        assert!(outcome.usage.cpu_us > 0 && outcome.usage.wall_ms > 0, "{outcome:?}");
        peaks.push(outcome.usage.memory_bytes_peak);
    }
    // Each call is metered separately.
    assert!(peaks[0] > 64 << 20 && peaks[4] < peaks[0], "{peaks:?}");
}

#[tokio::test]
async fn a_call_whose_reused_process_dies_is_not_repeated() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let source = "
import os, signal
calls = []
def f():
    calls.append(1)
    print('call', len(calls))
    if len(calls) > 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return True
";
    answers(&functions, again(&environment, source)).await;
    let (outcome, lines) = run_whole(&functions, again(&environment, source)).await;
    assert!(matches!(outcome.returned, Err(Error::InstanceDied { .. })), "{outcome:?}");
    let texts: Vec<_> = lines.iter().map(|(_, _, _, text)| text.as_str()).collect();
    assert_eq!(texts, ["call 2"]);
    answers(&functions, again(&environment, source)).await;
}

#[tokio::test]
async fn each_call_has_standard_streams_even_if_an_earlier_call_closed_them() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let source = "
import io, sys
calls = []
def f():
    calls.append(1)
    empty = sys.stdin.read() == ''
    print('call', len(calls))
    sys.stdin.detach().close()
    sys.stdout = None
    return empty and len(calls) > 1
";
    for number in 1..=3 {
        let (answer, outcome, lines) = answers(&functions, again(&environment, source)).await;
        assert_eq!((answer, outcome.is_cold()), (number > 1, number == 1), "{lines:?}");
        assert!(lines.iter().any(|(_, _, _, text)| *text == format!("call {number}")), "{lines:?}");
    }
}

#[tokio::test]
async fn other_functions_cannot_see_the_state_of_a_call() {
    // Each idle instance keeps the memory that was reserved for it.
    let options = FunctionsOptions { memory_bytes_total: 64 << 30, ..options() };
    let functions = Functions::start(options).await.unwrap();
    let bare = environment(&functions, &[]).await;
    let other = environment(&functions, &[("numpy", "2.3")]).await;
    let base = || again(&bare, BEFORE);
    assert!(!answers(&functions, base()).await.0);
    assert!(answers(&functions, base()).await.0);
    let limits = |limits: Limits| Invocation { limits, ..base() };
    let variables = std::collections::BTreeMap::from([("A".to_owned(), "b".to_owned())]);
    let second = "\ndef g():\n    return f()\n";
    for (what, call) in [
        ("one that does not ask for it", ask(&bare, BEFORE)),
        ("another code", again(&bare, &format!("# Edited.\n{BEFORE}"))),
        ("another environment", again(&other, BEFORE)),
        ("other limits", limits(Limits { memory_bytes: 1 << 30, ..Limits::default() })),
        ("other variables", limits(Limits { variables: variables.into(), ..Limits::default() })),
        ("the network", limits(Limits { network: NetworkAccess::On, ..Limits::default() })),
        ("another function", {
            let call = again(&bare, &format!("{BEFORE}{second}"));
            Invocation { function: "g".to_owned(), ..call }
        }),
    ] {
        assert!(!answers(&functions, call).await.0, "{what}");
    }
    assert!(answers(&functions, base()).await.0);
    // The server of another lake does not use the idle process.
    assert!(!answers(&start().await, base()).await.0);
}

#[tokio::test]
async fn the_functions_of_a_job_share_a_process_and_no_other_job_uses_it() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let first = format!("{BEFORE}\ndef g():\n    return f()\n");
    let second = "import models.m\ndef h():\n    return models.m.f()\n";
    let apart = "import builtins\ndef f():\n    return hasattr(builtins, 'mark')\n";
    let files = [("models/m.py", &*first), ("models/n.py", second), ("other/m.py", apart)];
    let files = files.map(|(path, text)| (path.to_owned(), text.into()));
    let files: Arc<headwater_model::ProjectFiles> = Arc::new(files.into());
    let of = |job: JobId, module: &str, function: &str| Invocation {
        files: files.clone(),
        module: module.to_owned(),
        function: function.to_owned(),
        reuse: ReuseScope::SameJob,
        share: CallOwner { job: Some(job), ..CallOwner::default() },
        ..ask(&environment, "")
    };
    let (job, other) = (JobId::generate(), JobId::generate());
    assert!(!answers(&functions, of(job, "models/m.py", "f")).await.0);
    for (module, function) in [("models/m.py", "g"), ("models/n.py", "h"), ("models/m.py", "f")] {
        let call = of(job, module, function);
        assert!(answers(&functions, call).await.0, "{module} {function}");
    }
    for (job, module) in [(other, "models/m.py"), (job, "other/m.py")] {
        assert!(!answers(&functions, of(job, module, "f")).await.0, "{module}");
    }
}

#[tokio::test]
async fn a_statement_has_its_own_processes_until_they_are_ended() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let job = JobId::generate();
    let of = |statement: JobId| Invocation {
        reuse: ReuseScope::SameStatement(statement),
        share: CallOwner { job: Some(job), ..CallOwner::default() },
        ..again(&environment, BEFORE)
    };
    let (one, other) = (JobId::generate(), JobId::generate());
    assert!(!answers(&functions, of(one)).await.0);
    assert!(answers(&functions, of(one)).await.0);
    assert!(!answers(&functions, of(other)).await.0, "two statements of one job share nothing");
    functions.end_instances(one);
    assert!(!answers(&functions, of(one)).await.0, "its process has ended");
    assert!(answers(&functions, of(other)).await.0, "the other statement keeps its process");
}

#[tokio::test]
async fn concurrent_calls_have_separate_processes() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let source = "import time\ncalls = []\ndef f():\n    calls.append(1)\n    time.sleep(0.3)\n    \
                  return len(calls) > 1\n";
    let both = || {
        let call = || answers(&functions, again(&environment, source));
        futures::future::join(call(), call())
    };
    let (one, other) = Box::pin(both()).await;
    assert!(!one.0 && !other.0);
    let (one, other) = Box::pin(both()).await;
    assert!(one.0 && other.0);
}

#[tokio::test]
async fn a_process_is_reused_after_an_exception_but_not_after_a_crash() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let source = |body: &str| {
        format!(
            "import ctypes, os, signal, threading, time\ncalls = []\ndef f(how):\n    calls.append(1)\n    \
             if how:\n        {body}\n    return len(calls) > 1\n"
        )
    };
    let call = |source: &str, how: bool, limits: Limits| {
        let value = ArgumentValue::Json(how.into());
        let arguments = vec![Argument { name: "how".to_owned(), value }];
        Invocation { arguments, limits, ..again(&environment, source) }
    };
    let short = Limits { timeout: Duration::from_secs(1), ..Limits::default() };
    for (body, limits, kept) in [
        ("raise ValueError('no')", Limits::default(), true),
        ("raise type('MyMemoryError', (Exception,), {})('no')", Limits::default(), true),
        ("raise MemoryError()", Limits::default(), false),
        ("os._exit(3)", Limits::default(), false),
        ("time.sleep(1000)", short, false),
        ("signal.setitimer(signal.ITIMER_REAL, 0.2)", Limits::default(), true),
        ("ctypes.CDLL(None).shmget(0, 4096, 0o1666)", Limits::default(), false),
        (
            "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
            Limits::default(),
            false,
        ),
    ] {
        let source = source(body);
        let (outcome, _) = run_whole(&functions, call(&source, true, limits)).await;
        let fine = ["Thread", "itimer", "shmget"].iter().any(|one| body.contains(one));
        assert_eq!(outcome.returned.is_ok(), fine, "{outcome:?}");
        let (found, _, _) = answers(&functions, call(&source, false, Limits::default())).await;
        assert_eq!(found, kept, "{body}");
    }
}

#[tokio::test]
async fn a_crashed_idle_instance_is_replaced() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let marker = format!("marker{}", std::process::id());
    let source = format!(
        "import ctypes\n# {marker}\ncalls = []\ndef f():\n    calls.append(1)\n    \
         ctypes.CDLL(None).prctl(15, b'{}', 0, 0, 0)\n    return len(calls) > 1\n",
        &marker[..15.min(marker.len())]
    );
    assert!(!answers(&functions, again(&environment, &source)).await.0);
    let named = || {
        let name = &marker[..15.min(marker.len())];
        let comm = |pid: &i32| {
            std::fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|comm| comm.trim() == name)
        };
        processes("headwater_zygote.py").into_iter().filter(comm).collect::<Vec<_>>()
    };
    let waiting = named();
    assert_eq!(waiting.len(), 1);
    std::process::Command::new("kill").args(["-9", &waiting[0].to_string()]).status().unwrap();
    wait_until("it lives on", || named().is_empty());
    let (found, outcome, _) = answers(&functions, again(&environment, &source)).await;
    assert!(!found && !matches!(outcome.returned, Err(Error::InstanceDied { .. })));
}

#[tokio::test]
async fn a_call_whose_output_is_not_read_ends_at_its_limit_or_when_cancelled() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    // Native code prints the lines, some of which arrive after the end of the function.
    let source = "import os\ndef f():\n    os.write(1, b'a line\\n' * 100)\n    return True\n";
    for reuse in [ReuseScope::SameFunction, ReuseScope::Never] {
        for cancels in [true, false] {
            let timeout = Duration::from_secs(if cancels { 3600 } else { 2 });
            let limits = Limits { timeout, ..Limits::default() };
            let call = Invocation { limits, reuse, ..again(&environment, source) };
            let (sink, _lines) = tokio::sync::mpsc::channel(1);
            let cancelled = CancellationToken::new();
            let stop = async {
                if cancels {
                    tokio::time::sleep(Duration::from_secs(2)).await;
                    cancelled.cancel();
                }
            };
            let invoked = functions.invoke(call, sink, cancelled.clone());
            let both = futures::future::join(invoked, stop);
            let (outcome, ()) = tokio::time::timeout(Duration::from_secs(20), both).await.unwrap();
            let cut = matches!(outcome.returned, Err(Error::Cancelled { .. }));
            assert_eq!(cut, cancels, "{outcome:?}");
        }
    }
}

#[tokio::test]
async fn an_idle_instance_is_evicted_for_a_waiting_call() {
    let options = FunctionsOptions { memory_bytes_total: 1 << 30, ..options() };
    let functions = Functions::start(options).await.unwrap();
    let environment = environment(&functions, &[]).await;
    let limits = Limits { memory_bytes: 768 << 20, ..Limits::default() };
    let base = || Invocation { limits: limits.clone(), ..again(&environment, BEFORE) };
    assert!(!answers(&functions, base()).await.0);
    assert!(answers(&functions, base()).await.0, "it waits, and holds what it was promised");
    let other = || Invocation { limits: limits.clone(), ..ask(&environment, BEFORE) };
    let call = tokio::time::timeout(Duration::from_secs(20), answers(&functions, other()));
    assert!(!call.await.expect("it waits for the one that waits").0);
    assert!(!answers(&functions, base()).await.0, "it had to go");
    // Calls that need the same instance run one after the other.
    let calls = (0..4).map(|_| answers(&functions, base()));
    let all = futures::future::join_all(calls);
    tokio::time::timeout(Duration::from_secs(20), all).await.expect("they wait for each other");
}

#[tokio::test]
async fn an_idle_process_is_paused() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    // The process reports that it is idle, but continues to run.
    let name = format!("busy{}", std::process::id());
    let source = format!("import ctypes\nctypes.CDLL(None).prctl(15, b'{name}', 0, 0, 0)\n")
        + "
import socket, time
counted = []
def f():
    if not counted:
        counted.append(0)
        with socket.socket(fileno=3) as server:
            server.send(b'{\"said\": \"bool\", \"value\": true}')
            server.send(b'{\"said\": \"kept\"}')
            until = time.monotonic() + 3
            while time.monotonic() < until:
                counted[0] += 1
            server.detach()
    return True
";
    let (_, outcome, _) = answers(&functions, again(&environment, &source)).await;
    assert!(outcome.usage.wall_ms < 2000, "{outcome:?}");
    let cpu = || -> u64 {
        let stat = |pid: &i32| {
            let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let fields: Vec<&str> = text
                .rsplit_once(") ")
                .map(|(_, rest)| rest.split(' ').collect())
                .unwrap_or_default();
            fields.get(11).and_then(|ticks| ticks.parse::<u64>().ok()).unwrap_or_default()
        };
        let comm = |pid: &i32| std::fs::read_to_string(format!("/proc/{pid}/comm"));
        let own = |pid: &i32| comm(pid).is_ok_and(|comm| comm.trim() == name);
        let found: Vec<i32> = processes("headwater_zygote.py").into_iter().filter(own).collect();
        assert_eq!(found.len(), 1);
        found.iter().map(stat).sum()
    };
    let before = cpu();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(cpu() - before < 20, "the process runs between calls");
}

/// Objects that a function only reads remain shared with its zygote, although reading changes their
/// reference counts.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_process_holds_only_the_pages_that_it_changed() {
    let functions = start().await;
    let environment = environment(&functions, &[("pandas", "2.3"), ("numpy", "2.3")]).await;
    let name = format!("rest{}", std::process::id());
    let source = format!("import ctypes\nctypes.CDLL(None).prctl(15, b'{name}', 0, 0, 0)\n")
        + "
import gc, sys, types
import pandas
held, changed = [], []
def everything():
    gc.unfreeze()
    found = {id(one): one for one in gc.get_objects() if isinstance(one, types.FunctionType)}
    gc.freeze()
    return list(found.values())
def f():
    functions = everything()
    codes = sum(len(one.__code__.co_code) for one in functions)
    if not held:
        held.extend([codes, [bytes([n % 251]) * 5000 for n in range(400)]])
        for one in functions[::50]:
            one.__dict__['marked'] = [len(changed)]
            changed.append(one)
        return False
    kept = all(piece == bytes([n % 251]) * 5000 for n, piece in enumerate(held[1]))
    marks = [one.__dict__['marked'] for one in changed] == [[n] for n in range(len(changed))]
    frame = pandas.DataFrame({'a': [1, 2, 3], 'b': list('xyx')})
    right = frame.groupby('b')['a'].sum().to_dict() == {'x': 4, 'y': 2}
    print(kept, marks, right, len(changed), codes, held[0])
    return kept and marks and right and len(changed) > 20 and codes == held[0]
";
    let own = || {
        let comm = |pid: &i32| std::fs::read_to_string(format!("/proc/{pid}/comm"));
        let named = |pid: &i32| comm(pid).is_ok_and(|comm| comm.trim() == name);
        processes("headwater_zygote.py").into_iter().find(named).unwrap()
    };
    assert!(!answers(&functions, again(&environment, &source)).await.0);
    let process = own();
    for _ in 0..2 {
        let before = private_kib(process);
        wait_until("it holds as much as before", || private_kib(process) + 500 < before);
        let (found, outcome, lines) = answers(&functions, again(&environment, &source)).await;
        assert!(found && !outcome.is_cold() && own() == process, "{outcome:?} {lines:?}");
    }
}

/// Returns the private memory of a process, in KiB.
fn private_kib(process: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap();
    let private = text.lines().filter(|line| line.starts_with("Private_"));
    private.map(|line| line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()).sum()
}

/// A process is not reused if the function left many processes, because cleaning up after them
/// would delay all other calls.
#[tokio::test]
async fn a_process_with_many_children_is_not_reused() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100_000));
    let batch = RecordBatch::try_from_iter([("n", numbers)]).unwrap();
    let input = SharedTable::write(batch.schema(), [Ok(batch)]).unwrap();
    let source = "
import json, os, socket, time
CALLS = []
def f(data):
    CALLS.append(1)
    del data
    for _ in range(20):
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
    server = socket.socket(fileno=3)
    server.send(json.dumps({'said': 'bool', 'value': len(CALLS) > 1}).encode())
    server.send(json.dumps({'said': 'kept'}).encode())
    time.sleep(60)
";
    for _ in 0..2 {
        let call =
            Invocation { arguments: vec![table("data", &input)], ..again(&environment, source) };
        assert!(!answers(&functions, call).await.0);
    }
}
