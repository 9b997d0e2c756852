//! Zygotes: instances start with their packages imported, and share nothing else with each other.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{
    Line, NO_ADDRESS, answer, ask, call, environment, holds, not_checked, options, ordinary,
    own_address, processes, run_whole, service, start, wait_until,
};
use arrow::array::AsArray;
use headwater_functions::{
    Argument, ArgumentValue, Environment, Error, FunctionResult, Functions, FunctionsOptions,
    Invocation, InvocationOutcome, Limits, NetworkAccess, ZygoteOptions,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Starts a runtime whose zygotes end after this idle time.
async fn hasty(idle: Duration, memory_bytes_max: u64) -> Functions {
    let zygotes = ZygoteOptions { enabled: true, idle_max: idle, memory_bytes_max };
    Functions::start(FunctionsOptions { zygotes, ..options() }).await.unwrap()
}

async fn works(
    functions: &Functions,
    environment: &Arc<Environment>,
) -> (InvocationOutcome, Vec<Line>) {
    let source = "def f():\n    return True\n";
    let (outcome, lines) = run_whole(functions, ask(environment, source)).await;
    assert!(outcome.returned.is_ok(), "{outcome:?}");
    (outcome, lines)
}

#[tokio::test]
async fn packages_are_imported_once_and_instances_share_nothing_else() {
    let functions = start().await;
    let environment = environment(&functions, &[("pandas", "2.3"), ("numpy", "2.3")]).await;
    let source = "
import os, sys
imported = 'pandas' in sys.modules
import pandas
calls = []
def f():
    calls.append(1)
    first = not hasattr(pandas, 'spoilt') and not os.path.exists('/tmp/spoilt') and 'SPOILT' not in os.environ
    pandas.spoilt = True
    os.environ['SPOILT'] = '1'
    open('/tmp/spoilt', 'w').close()
    return imported and first and len(calls) == 1
";
    assert!(functions.zygotes().is_empty());
    for index in 0..5 {
        let (outcome, lines) = run_whole(&functions, ask(&environment, source)).await;
        assert!(
            matches!(outcome.returned, Ok(FunctionResult::Bool(true))),
            "{outcome:?} {lines:?}"
        );
        assert_eq!((outcome.is_cold(), lines.len()), (index == 0, 0), "{lines:?}");
        assert_eq!(functions.zygotes().len(), 1);
    }
}

#[tokio::test]
async fn instances_have_independent_random_numbers() {
    let functions = start().await;
    let environment = environment(&functions, &[("pandas", "2.3"), ("numpy", "2.3")]).await;
    let source = "
import random, ssl, tempfile, uuid
import numpy, pyarrow
def f():
    drawn = [random.random(), numpy.random.random(), numpy.random.default_rng().random(), uuid.uuid1().hex,
        uuid.uuid4().hex, ssl.RAND_bytes(8).hex(), tempfile.mktemp(), random.Random().random()]
    return pyarrow.table({'drawn': [str(one) for one in drawn]})
";
    let mut drawn = BTreeSet::new();
    for _ in 0..6 {
        let (table, _) = answer(&functions, call(&environment, source)).await;
        let batch = &table.mapped().unwrap()[0];
        drawn.extend(batch.column(0).as_string::<i32>().iter().flatten().map(str::to_owned));
    }
    assert_eq!(drawn.len(), 6 * 8, "{drawn:#?}");
}

/// A zygote runs warm-up calls before it is cloned. These calls leave no traces in its clones.
#[tokio::test]
async fn warm_up_calls_leave_no_traces() {
    let functions = start().await;
    let environment = environment(&functions, &[("pandas", "2.3"), ("numpy", "2.3")]).await;
    let source = "
import faulthandler, os, signal, sys, threading, warnings
import pandas
def f():
    left = [name for name in sys.modules if 'warm_up_call' in name]
    paths = [path for path in [*sys.path, *sys.path_importer_cache] if path.startswith('/tmp')]
    files = sorted(os.listdir('/tmp')) + [name for name in os.environ if 'HEADWATER' in name]
    noted = [name for name, module in list(sys.modules.items()) if getattr(module, '__warningregistry__', None)]
    open_ = [os.readlink(f'/proc/self/fd/{name}') for name in os.listdir('/proc/self/fd') if int(name) > 4 and
        os.path.lexists(f'/proc/self/fd/{name}')]
    threads = [threading.active_count(), len(os.listdir('/proc/self/task'))]
    options = pandas.get_option('display.max_rows'), pandas.get_option('mode.chained_assignment')
    print(left, paths, files, noted, open_, threads, options, sys.argv, os.getcwd())
    return (not left and not paths and not files and threads == [1, 1] and options == (60, 'warn')
        and not any('socket' in one or 'memfd' in one for one in open_)
        and not [one for one in noted if not one.startswith('headwater_')]
        and sys.argv[0].endswith('.py') and 'warm_up' not in sys.argv[0] and os.getcwd() == '/project')
";
    for _ in 0..2 {
        let (outcome, lines) = run_whole(&functions, ask(&environment, source)).await;
        assert!(
            matches!(outcome.returned, Ok(FunctionResult::Bool(true))),
            "{outcome:?} {lines:?}"
        );
    }
}

#[tokio::test]
async fn a_package_that_starts_threads_is_imported_by_each_instance() {
    let functions = start().await;
    let environment =
        environment(&functions, &[("pandas", "2.3"), ("polars", "1.38.1"), ("numpy", "2.3")]).await;
    let source = "
import sys
before = 'polars' in sys.modules, 'pandas' in sys.modules
import polars, pandas
def f():
    frame = polars.DataFrame({'x': list(range(100_000)), 'y': [n % 7 for n in range(100_000)]})
    assert frame.group_by('y').agg(polars.col('x').sum())['x'].sum() == sum(range(100_000))
    return before == (False, True)
";
    holds(&functions, ask(&environment, source)).await;
    let report = &functions.zygotes()[0];
    assert_eq!(report.skipped.keys().collect::<Vec<_>>(), ["polars"]);
    assert!(report.skipped["polars"].contains("thread"), "{report:?}");
    assert!(report.memory_bytes > 10 << 20 && report.failure.is_none(), "{report:?}");
    for _ in 0..3 {
        holds(&functions, ask(&environment, source)).await;
    }
}

#[tokio::test]
async fn a_module_of_the_project_takes_precedence_over_a_package() {
    let functions = start().await;
    let environment = environment(&functions, &[("pandas", "2.3"), ("numpy", "2.3")]).await;
    let source = "import pandas\ndef f():\n    return pandas.whose == 'mine'\n";
    let mut invocation = ask(&environment, source);
    let files = Arc::make_mut(&mut invocation.files);
    files.insert("pandas.py".to_owned(), "whose = 'mine'\n".into());
    holds(&functions, invocation).await;
    holds(&functions, ask(&environment, "import pandas\ndef f():\n    return True\n")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_zygote_ends_and_leaves_nothing() {
    let functions = hasty(Duration::from_millis(300), 1 << 40).await;
    let environment = environment(&functions, &[]).await;
    let source = "import time\ndef f():\n    print('here')\n    time.sleep(1000)\n";
    let ((sink, mut lines), cancelled) = (mpsc::channel(16), CancellationToken::new());
    let call = functions.invoke(ask(&environment, source), sink, cancelled.clone());
    let looking = async {
        lines.recv().await.unwrap();
        // The condition is checked immediately, because the zygote may end soon.
        assert!(!own_zygotes().is_empty());
        assert_eq!(functions.zygotes().len(), 1);
        cancelled.cancel();
    };
    tokio::join!(call, looking);
    wait_until("the zygote lives on", || functions.zygotes().is_empty());
    wait_until("its process lives on", || own_zygotes().is_empty());
}

/// A cancelled call leaves no processes, no matter when it was cancelled.
#[tokio::test(flavor = "multi_thread")]
async fn cancelled_calls_leave_no_processes() {
    let functions =
        Functions::start(FunctionsOptions { concurrency: 64, ..options() }).await.unwrap();
    let environment = environment(&functions, &[]).await;
    works(&functions, &environment).await;
    let given_up = (0..60).map(|number| {
        let (functions, environment) = (functions.clone(), environment.clone());
        async move {
            let call = works(&functions, &environment);
            let _ = tokio::time::timeout(Duration::from_millis(number / 2), call).await;
        }
    });
    futures::future::join_all(given_up).await;
    let (outcome, _) = works(&functions, &environment).await;
    assert!(!outcome.is_cold());
    // Only the zygote and one prepared clone remain.
    wait_until("a call lives on", || own_zygotes().len() <= 2);
    drop(functions);
    wait_until("something lives on", || own_zygotes().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_packages_is_part_of_a_calls_time() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let limits = Limits { timeout: Duration::from_millis(20), ..Limits::default() };
    let hasty = Invocation { limits, ..ask(&environment, "def f():\n    return True\n") };
    let began = std::time::Instant::now();
    let (outcome, _) = run_whole(&functions, hasty).await;
    let Err(Error::TimeLimit { importing, .. }) = outcome.returned else { panic!("{outcome:?}") };
    assert!(importing && began.elapsed() < Duration::from_secs(10));
    // The import continues for later calls that have more time.
    wait_until("the packages are not imported", || !functions.zygotes().is_empty());
    assert!(!works(&functions, &environment).await.0.is_cold());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zygote_in_use_does_not_end() {
    let functions = hasty(Duration::from_millis(50), 0).await;
    let environment = environment(&functions, &[]).await;
    let source = "import time\ndef f():\n    time.sleep(1)\n    return True\n";
    holds(&functions, ask(&environment, source)).await;
    wait_until("the zygote lives on", || functions.zygotes().is_empty());
}

#[tokio::test]
async fn zygotes_do_not_exceed_their_memory_limit() {
    let functions = hasty(Duration::from_secs(600), 0).await;
    let first = environment(&functions, &[]).await;
    let second = environment(&functions, &[("numpy", "2.3")]).await;
    works(&functions, &first).await;
    works(&functions, &second).await;
    assert!(functions.zygotes().len() <= 1);
    // A zygote that has ended is started again.
    let (outcome, _) = works(&functions, &first).await;
    assert!(outcome.is_cold());
}

#[tokio::test]
async fn a_crashed_zygote_is_restarted() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    works(&functions, &environment).await;
    let source =
        "import time\ndef f():\n    print('here')\n    time.sleep(1000)\n    return True\n";
    let (sink, mut lines) = mpsc::channel(16);
    let call = functions.invoke(
        Invocation {
            limits: Limits { timeout: Duration::from_secs(60), ..Limits::default() },
            ..ask(&environment, source)
        },
        sink,
        CancellationToken::new(),
    );
    let killing = async {
        lines.recv().await.unwrap();
        // The zygote has the smallest process id, because the other processes are forked from it.
        let zygote = own_zygotes().into_iter().min().unwrap();
        Command::new("kill").args(["-9", &zygote.to_string()]).status().unwrap();
    };
    let (outcome, ()) = tokio::join!(call, killing);
    assert!(outcome.returned.is_err(), "{outcome:?}");
    let (outcome, _) = works(&functions, &environment).await;
    assert!(outcome.is_cold());
    // If the first call finds the zygote while it is ending, the call uses a new process. The next
    // call starts another zygote.
    works(&functions, &environment).await;
    assert!(!works(&functions, &environment).await.0.is_cold());
}

#[tokio::test]
async fn an_ordinary_user_has_zygotes_too() {
    let Some((_folder, options, environment)) = ordinary().await else { return };
    let functions = Functions::start(options).await.unwrap();
    let source = "
import os, resource, sys
def f():
    status = dict(line.split(':', 1) for line in open('/proc/self/status'))
    caps = [int(status[name], 16) for name in ('CapInh', 'CapPrm', 'CapEff', 'CapAmb')]
    print(os.getuid(), caps, resource.getrlimit(resource.RLIMIT_DATA))
    return 'pyarrow' in sys.modules and os.getuid() == 1000 and caps == [0] * 4
";
    for cold in [true, false] {
        let (outcome, lines) = run_whole(&functions, ask(&environment, source)).await;
        assert!(
            matches!(outcome.returned, Ok(FunctionResult::Bool(true))),
            "{outcome:?} {lines:?}"
        );
        assert_eq!(outcome.is_cold(), cold, "{lines:?}");
    }
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
}

#[tokio::test]
async fn none_of_many_short_calls_is_lost() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let limits = Limits { timeout: Duration::from_secs(60), ..Limits::default() };
    let source = "def f():\n    return True\n";
    let caller = |_| async {
        for _ in 0..100 {
            let invocation = Invocation { limits: limits.clone(), ..ask(&environment, source) };
            holds(&functions, invocation).await;
        }
    };
    futures::future::join_all((0..3).map(caller)).await;
}

#[tokio::test]
async fn a_call_knows_its_processor() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let source = "
import ctypes, os
def f():
    for processor in os.sched_getaffinity(0):
        os.sched_setaffinity(0, {processor})
        if ctypes.CDLL(None).sched_getcpu() != processor:
            return False
    return True
";
    holds(&functions, ask(&environment, source)).await;
}

#[tokio::test]
async fn concurrent_calls_are_isolated() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let source = "
import os, time
def f(number):
    open('/tmp/number', 'w').write(str(number))
    time.sleep(0.05)
    found = [int(name) for name in os.listdir('/proc') if name.isdigit()]
    return open('/tmp/number').read() == str(number) and len(found) == 2
";
    let calls = (0..40).map(|number| {
        let mut invocation = ask(&environment, source);
        let value = ArgumentValue::Json(number.into());
        let name = "number".to_owned();
        invocation.arguments = vec![Argument { name, value }];
        holds(&functions, invocation)
    });
    futures::future::join_all(calls).await;
}

/// Returns the processes of the zygotes that the spawners of this process started, and the
/// processes forked from them. Every test runs in a separate process.
fn own_zygotes() -> Vec<i32> {
    let own = std::process::id() as i32;
    let of_this = |pid: &i32| {
        std::iter::successors(Some(*pid), |pid| parent(*pid)).any(|ancestor| ancestor == own)
    };
    processes("headwater_zygote.py").into_iter().filter(of_this).collect()
}

fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split_whitespace().nth(1)?.parse().ok().filter(|pid| *pid > 0)
}
