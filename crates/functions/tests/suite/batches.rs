//! Rows that a function reads batch by batch while they are computed.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Int64Type, SchemaRef};
use arrow::error::ArrowError;
use futures::{StreamExt, stream};
use headwater_functions::{
    Argument, ArgumentValue, Error, FunctionResult, Functions, FunctionsOptions, Invocation,
    Isolation, Limits, RowStream, SharedTable, StreamedInput, TableQuota,
};

use crate::support::{answer, ask, call, environment, holds, options, run, start, wait_until};

/// Number of rows of each computed batch.
const STEP: i64 = 8_192;

/// A producer of the numbers from 0, each with its decimal text.
#[derive(Clone)]
struct Numbers {
    count: i64,
    /// Number of the batch for which the producer fails.
    fails_at: i64,
    table_quota: TableQuota,
    begun: Arc<AtomicUsize>,
    at_work: Arc<AtomicUsize>,
    made: Arc<AtomicI64>,
    /// The maximum number of bytes that were charged to the quota.
    held: Arc<AtomicU64>,
}

struct AtWork(Arc<AtomicUsize>);

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn batch(from: i64, count: i64) -> RecordBatch {
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(from..from + count));
    let texts = (from..from + count).map(|n| (n % 5 != 0).then(|| format!("number {n}")));
    let texts: ArrayRef = Arc::new(texts.collect::<StringArray>());
    RecordBatch::try_from_iter_with_nullable([("n", numbers, false), ("s", texts, true)]).unwrap()
}

impl Numbers {
    fn new(count: i64) -> Numbers {
        Numbers {
            count,
            fails_at: i64::MAX,
            table_quota: TableQuota::new(1 << 30, std::env::temp_dir(), 0),
            begun: Arc::default(),
            at_work: Arc::default(),
            made: Arc::default(),
            held: Arc::default(),
        }
    }

    fn schema() -> SchemaRef {
        batch(0, 0).schema()
    }

    fn rows(&self) -> RowStream {
        self.begun.fetch_add(1, Ordering::SeqCst);
        self.at_work.fetch_add(1, Ordering::SeqCst);
        let (of, guard) = (self.clone(), AtWork(self.at_work.clone()));
        let next = move |(at, guard): (i64, AtWork)| {
            let of = of.clone();
            async move {
                of.held.fetch_max(of.table_quota.memory_bytes(), Ordering::SeqCst);
                if at >= of.count {
                    return None;
                }
                if at >= of.fails_at {
                    let error = ArrowError::ComputeError("the disk is on fire".to_owned());
                    return Some((Err(error), (of.count, guard)));
                }
                let rows = STEP.min(of.count - at);
                of.made.fetch_max(at + rows, Ordering::SeqCst);
                Some((Ok(batch(at, rows)), (at + rows, guard)))
            }
        };
        stream::unfold((0, guard), next).boxed()
    }

    fn argument(&self) -> Vec<Argument> {
        let numbers = self.clone();
        let streamed = StreamedInput::new(Self::schema(), move || numbers.rows()).unwrap();
        let value = ArgumentValue::Streamed(streamed);
        vec![Argument { name: "data".to_owned(), value }]
    }

    fn fed(&self, invocation: Invocation) -> Invocation {
        let (arguments, quota) = (self.argument(), Some(self.table_quota.clone()));
        Invocation { arguments, quota, ..invocation }
    }

    /// Returns true if the producer has ended and all its memory is released.
    fn is_over(&self) -> bool {
        self.at_work.load(Ordering::SeqCst) == 0 && self.table_quota.memory_bytes() == 0
    }
}

/// A Python function that checks a batch of numbers from `at` on. Returns the next number.
const CHECKED: &str = "
import pyarrow as pa, pyarrow.compute as pc
def checked(batch, at):
    assert isinstance(batch, pa.RecordBatch) and batch.schema.names == ['n', 's']
    batch.validate(full=True)
    assert batch.column(0).equals(pa.array(range(at, at + len(batch)))), at
    for row in (0, len(batch) // 2, len(batch) - 1):
        n = at + row
        assert batch.column(1)[row].as_py() == (f'number {n}' if n % 5 else None), n
    return at + len(batch)
";

fn source(body: &str) -> String {
    format!("{CHECKED}\ndef f(data):\n{}\n", body.trim_matches('\n'))
}

#[tokio::test]
async fn rows_are_read_in_large_batches_in_order_with_bounded_memory() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let numbers = Numbers::new(3_000_001);
    let source = source(
        "
    at, sizes = 0, []
    assert data.schema.names == ['n', 's'] and not data.schema.field('n').nullable
    for batch in data.to_batches():
        at = checked(batch, at)
        sizes.append(len(batch))
    print(sizes)
    return at == 3_000_001 and min(sizes[:-1]) > 100_000 and max(sizes) <= 131_072
",
    );
    let limits = Limits { memory_bytes: 300 << 20, ..Limits::default() };
    let invocation = numbers.fed(Invocation { limits, ..ask(&environment, &source) });
    let (returned, lines) = run(&functions, invocation).await;
    assert!(matches!(returned, Ok(FunctionResult::Bool(true))), "{returned:?} {lines:?}");
    let held = numbers.held.load(Ordering::SeqCst);
    assert!((1 << 20..40 << 20).contains(&held), "{held}");
    wait_until("files are left", || numbers.is_over());
}

#[tokio::test]
async fn a_second_iteration_reads_all_rows_again() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let numbers = Numbers::new(500_000);
    let source = source(
        "
    for time in range(2):
        at = 0
        for batch in data:
            at = checked(batch, at)
        assert at == 500_000
    assert data.to_reader().read_all().num_rows == 500_000
    assert sum(len(batch) for batch in data.to_batches(max_chunksize=1000)) == 500_000
    first, second = iter(data), iter(data)
    checked(next(second), 0)
    try:
        next(first)
    except RuntimeError as error:
        assert 'finish one iteration before the next' in str(error)
    else:
        raise ValueError('two at once')
    try:
        data.num_rows
    except AttributeError as error:
        assert 'leave out `batches=True`' in str(error)
    return [] == [batch for batch in iter(data) if not len(batch)]
",
    );
    let (outcome, lines) =
        crate::support::run_whole(&functions, numbers.fed(ask(&environment, &source))).await;
    assert!(matches!(outcome.returned, Ok(FunctionResult::Bool(true))), "{outcome:?} {lines:?}");
    assert_eq!(numbers.begun.load(Ordering::SeqCst), 6);
    assert!(outcome.usage.bytes_in > 5 * 500_000 * 8, "{:?}", outcome.usage);
    wait_until("files are left", || numbers.is_over());
}

#[tokio::test]
async fn a_function_that_stops_reading_ends_the_producer() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let numbers = Numbers::new(i64::MAX);
    let source = source(
        "
    for batch in data:
        checked(batch, 0)
        break
    import time
    time.sleep(1)
    return True
",
    );
    let watched = numbers.clone();
    let ended = async {
        while watched.begun.load(Ordering::SeqCst) == 0
            || watched.at_work.load(Ordering::SeqCst) > 0
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        std::time::Instant::now()
    };
    let called = async {
        holds(&functions, numbers.fed(ask(&environment, &source))).await;
        std::time::Instant::now()
    };
    let (ended, called) = tokio::join!(ended, called);
    assert!(ended < called, "it goes on as long as the function does");
    assert!(numbers.made.load(Ordering::SeqCst) < 3_000_000);
    wait_until("files are left", || numbers.is_over());
}

#[tokio::test]
async fn no_rows_are_produced_if_none_are_requested() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let numbers = Numbers::new(i64::MAX);
    let source = source("    return data.schema.names == ['n', 's']");
    holds(&functions, numbers.fed(ask(&environment, &source))).await;
    assert_eq!(numbers.begun.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_error_of_the_producer_is_the_error_of_the_call() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let numbers = Numbers { fails_at: 400_000, ..Numbers::new(1 << 40) };
    for body in [
        "    return sum(len(batch) for batch in data) > 0",
        "    try:\n        return sum(len(batch) for batch in data) > 0\n    \
         except Exception as error:\n        print(error)\n        return True",
    ] {
        let (returned, lines) =
            run(&functions, numbers.fed(ask(&environment, &source(body)))).await;
        let Err(Error::Arrow(error)) = &returned else { panic!("{returned:?} {lines:?}") };
        assert!(error.to_string().contains("the disk is on fire"), "{error}");
        let told = lines.iter().any(|line| line.3.contains("the disk is on fire"));
        assert_eq!(told, body.contains("print"), "{lines:?}");
    }
    // The producer would fail later, but the function requests only the first batch.
    let body = "    checked(next(iter(data)), 0)\n    return True";
    holds(&functions, numbers.fed(ask(&environment, &source(body)))).await;
    wait_until("files are left", || numbers.is_over());
}

#[tokio::test]
async fn batches_that_a_function_keeps_do_not_change() {
    let functions = start().await;
    let environment = environment(&functions, &[("polars", "1.38.1")]).await;
    let numbers = Numbers::new(2_000_000);
    let source = source(
        "
    import polars
    kept = [polars.from_arrow(batch) if number % 2 else batch for number, batch in enumerate(data)]
    at = 0
    for rows in kept:
        whole = rows if isinstance(rows, pa.RecordBatch) else rows.to_arrow().cast(data.schema)
        for batch in [whole] if isinstance(whole, pa.RecordBatch) else whole.combine_chunks().to_batches():
            at = checked(batch, at)
    total = pa.Table.from_batches([rows for rows in kept if isinstance(rows, pa.RecordBatch)])
    del kept, rows, whole, batch
    assert sum(len(batch) for batch in data) == at == 2_000_000
    return total.num_rows > 900_000 and pc.sum(total['n']).as_py() > 0
",
    );
    holds(&functions, numbers.fed(ask(&environment, &source))).await;
    assert!(numbers.held.load(Ordering::SeqCst) > 40 << 20);
    wait_until("files are left", || numbers.is_over());
}

#[tokio::test]
async fn batches_beyond_the_memory_quota_are_on_disk_within_a_limit() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let folder = tempfile::tempdir().unwrap();
    let small = |disk| Numbers {
        table_quota: TableQuota::new(12 << 20, folder.path().to_owned(), disk),
        ..Numbers::new(2_000_000)
    };
    let body = "
    kept, at = list(data), 0
    for batch in kept:
        at = checked(batch, at)
    return at == 2_000_000
";
    let numbers = small(1 << 30);
    holds(&functions, numbers.fed(ask(&environment, &source(body)))).await;
    wait_until("files are left", || numbers.is_over() && numbers.table_quota.disk_bytes() == 0);
    assert!(numbers.table_quota.disk_bytes_ever() > 20 << 20);
    let numbers = small(10 << 20);
    let (returned, _) = run(&functions, numbers.fed(ask(&environment, &source(body)))).await;
    let error = returned.unwrap_err();
    assert_eq!(headwater_model::ToProblem::code(&error), headwater_model::ErrorCode::DiskFull);
    // A function that keeps no rows does not exceed this limit.
    let body = "    return sum(len(batch) for batch in data) == 2_000_000";
    holds(&functions, numbers.fed(ask(&environment, &source(body)))).await;
    wait_until("files are left", || numbers.is_over() && numbers.table_quota.disk_bytes() == 0);
}

#[tokio::test]
async fn a_forked_process_keeps_its_batches() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let numbers = Numbers::new(2_000_000);
    let source = source(
        "
    import os, time
    read, write = os.pipe()
    at, batches = 0, iter(data)
    first = next(batches)
    child = os.fork()
    if child == 0:
        try:
            next(batches)
        except RuntimeError as error:
            assert 'iterate in the function' in str(error)
        os.close(write)
        os.read(read, 1)
        checked(first, 0)
        os._exit(7)
    at = checked(first, 0)
    del first
    for batch in batches:
        at = checked(batch, at)
    os.close(write)
    return at == 2_000_000 and os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
",
    );
    holds(&functions, numbers.fed(ask(&environment, &source))).await;
    wait_until("files are left", || numbers.is_over());
}

#[tokio::test]
async fn a_crashed_or_timed_out_function_leaves_nothing() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let killed = "
    import os
    kept = []
    for batch in data:
        kept.append(batch)
        if len(kept) == 5:
            os.kill(os.getpid(), 9)
";
    let numbers = Numbers::new(i64::MAX);
    let (returned, _) = run(&functions, numbers.fed(ask(&environment, &source(killed)))).await;
    assert!(matches!(returned, Err(Error::InstanceDied { .. })), "{returned:?}");
    wait_until("files are left", || numbers.is_over());

    let slow = "    return [len(batch) for batch in data] and True";
    let limits = Limits { timeout: Duration::from_secs(2), ..Limits::default() };
    let numbers = Numbers::new(i64::MAX);
    let invocation = Invocation { limits, ..ask(&environment, &source(slow)) };
    let (returned, _) = run(&functions, numbers.fed(invocation)).await;
    let Err(Error::TimeLimit { frames, .. }) = &returned else { panic!("{returned:?}") };
    assert!(frames.iter().any(|frame| frame.source.contains("for batch in data")), "{frames:?}");
    wait_until("files are left", || numbers.is_over());
}

#[tokio::test]
async fn rows_are_passed_through_batch_by_batch() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let limits = Limits { memory_bytes: 300 << 20, ..Limits::default() };
    for body in [
        "    return data",
        "    for batch in data:\n        yield batch",
        "    return (batch.slice(0) for batch in data.to_reader())",
    ] {
        let numbers = Numbers::new(1_000_000);
        let invocation = Invocation { limits: limits.clone(), ..call(&environment, &source(body)) };
        let (table, _) = answer(&functions, numbers.fed(invocation)).await;
        let mut at = 0;
        for batch in table.mapped().unwrap() {
            let found = batch.column(0).as_primitive::<Int64Type>();
            assert!(found.values().iter().copied().eq(at..at + found.len() as i64), "{body} {at}");
            at += found.len() as i64;
        }
        assert_eq!(at, 1_000_000, "{body}");
        drop(table);
        wait_until("files are left", || numbers.is_over());
    }
}

#[tokio::test]
async fn a_stored_table_is_passed_with_the_same_schema() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let table = SharedTable::write(Numbers::schema(), [Ok(batch(0, 300_000))]).unwrap();
    let value = ArgumentValue::Batches(table.clone());
    let arguments = vec![Argument { name: "data".to_owned(), value }];
    let source = source(
        "
    for time in range(2):
        at, sizes = 0, []
        for batch in data:
            at = checked(batch, at)
            sizes.append(len(batch))
        assert at == 300_000 and max(sizes) <= 131_072, sizes
    return data.to_reader().schema == data.schema
",
    );
    let invocation = Invocation { arguments: arguments.clone(), ..ask(&environment, &source) };
    holds(&functions, invocation).await;
    let through = Invocation { arguments, ..call(&environment, "def f(data):\n    return data\n") };
    assert_eq!(answer(&functions, through).await.0.rows(), 300_000);
}

/// Code that keeps the descriptor of every received file, as a malicious function can.
const GREEDY: &str = "
import headwater_batches, os
kept = []
closed = os.close
headwater_batches.os = type('os', (), {**vars(os), 'close': staticmethod(kept.append)})
";

#[tokio::test]
async fn an_input_cannot_be_written_while_it_is_read() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let numbers = Numbers::new(1_000_000);
    let source = format!(
        "{GREEDY}{}",
        source(
            "
    import ctypes, fcntl, mmap
    libc = ctypes.CDLL(None, use_errno=True)
    def refused(work):
        try:
            work()
        except (OSError, ValueError):
            return True
    at = 0
    for batch in data:
        at = checked(batch, at)
        address = batch.column(0).buffers()[1].address & -4096
        assert libc.mprotect(ctypes.c_void_p(address), 4096, 3) in (0, -1)
        for file in kept:
            assert refused(lambda: os.pwrite(file, b'x' * 4096, 0))
            assert refused(lambda: os.ftruncate(file, 0))
            assert refused(lambda: mmap.mmap(file, 4096, flags=mmap.MAP_SHARED))
            assert refused(lambda: fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE))
            assert refused(lambda: os.pwrite(os.open(f'/proc/self/fd/{file}', os.O_RDWR), b'x', 0))
    return at == 1_000_000 and len(kept) > 1
"
        )
    );
    holds(&functions, numbers.fed(ask(&environment, &source))).await;
    wait_until("files are left", || numbers.is_over());
}

#[tokio::test]
async fn invalid_messages_get_no_reply_and_hold_only_the_quota() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    for said in [
        "b'{'",
        "b'{\"next\": -1}'",
        "b'{\"free\": [1, 2, 3], \"lost\": [9], \"next\": 1}'",
        "b'{\"end\": true}'",
        "b'{\"next\": 3}'",
    ] {
        let numbers = Numbers {
            table_quota: TableQuota::new(40 << 20, std::env::temp_dir(), 0),
            ..Numbers::new(i64::MAX)
        };
        let source = source(&format!(
            "
    import time
    line = data._source._socket
    line.setblocking(False)
    try:
        for time in range(2000):
            line.send({said})
    except OSError:
        pass
    return True
"
        ));
        let (returned, lines) = run(&functions, numbers.fed(ask(&environment, &source))).await;
        let as_wanted = matches!(returned, Ok(FunctionResult::Bool(true)) | Err(Error::Arrow(_)));
        assert!(as_wanted, "{said}: {returned:?} {lines:?}");
        assert!(numbers.held.load(Ordering::SeqCst) <= 40 << 20);
        wait_until("files are left", || numbers.is_over());
    }
    // After the invalid messages, the server still runs functions.
    let numbers = Numbers::new(100_000);
    let body = "    return sum(len(batch) for batch in data) == 100_000";
    holds(&functions, numbers.fed(ask(&environment, &source(body)))).await;
}

#[tokio::test]
async fn endless_invalid_messages_end_at_the_time_limit() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let numbers = Numbers::new(i64::MAX);
    let source = source("    while True:\n        data._source._socket.send(b'{}')");
    let limits = Limits { timeout: Duration::from_secs(2), ..Limits::default() };
    let invocation = Invocation { limits, ..numbers.fed(ask(&environment, &source)) };
    let (returned, _) = run(&functions, invocation).await;
    assert!(matches!(returned, Err(Error::TimeLimit { .. })), "{returned:?}");
    wait_until("files are left", || numbers.is_over());
}

#[tokio::test]
async fn a_function_that_keeps_too_many_batches_gets_an_error() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let numbers = Numbers::new(1);
    let source = source("    return len([list(data) for _ in range(2_000)]) > 0");
    let (returned, _) = run(&functions, numbers.fed(ask(&environment, &source))).await;
    let Err(Error::Arrow(error)) = &returned else { panic!("{returned:?}") };
    assert!(error.to_string().contains("keeps more than 1024 batches"), "{error}");
    wait_until("files are left", || numbers.is_over());
}

#[tokio::test]
async fn rows_are_streamed_without_a_sandbox() {
    let options = FunctionsOptions { isolation: Isolation::Process, ..options() };
    let functions = Functions::start(options).await.unwrap();
    let environment = environment(&functions, &[]).await;
    let numbers = Numbers::new(500_000);
    let body = "
    at = 0
    for batch in data:
        at = checked(batch, at)
    return at == 500_000
";
    holds(&functions, numbers.fed(ask(&environment, &source(body)))).await;
    wait_until("files are left", || numbers.is_over());
}

/// Code that makes a member of a module raise a `TimeoutError` on its next use.
const INTERRUPTED: &str = "
import headwater_batches
def interrupt(module, name):
    usual = getattr(module, name)
    def raises(*arguments):
        setattr(module, name, usual)
        raise TimeoutError
    setattr(module, name, raises)
";

#[tokio::test]
async fn a_batch_lost_to_an_exception_can_be_read_again() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let lost = "
    kept, batches = [], iter(data)
    rooms = headwater_batches.tables, headwater_batches.json, pa.ipc
    for place in zip(rooms, ('Mapped', 'loads', 'read_record_batch')):
        batches = iter(data)
        kept.append(next(batches))
        interrupt(*place)
        try:
            kept.extend(batches)
            raise ValueError('not interrupted')
        except TimeoutError:
            pass
";
    let restarted = format!(
        "{lost}
    at = 0
    for batch in data:
        at = checked(batch, at)
    return at == 1_000_000
"
    );
    let on = format!(
        "{lost}
    try:
        kept.extend(batches)
    except headwater_batches.InputFailed as error:
        print(error)
    return True
"
    );
    let limits = Limits { timeout: Duration::from_secs(30), ..Limits::default() };
    for (body, well) in [(restarted, true), (on, false)] {
        let numbers = Numbers::new(1_000_000);
        let source = format!("{INTERRUPTED}{}", source(&body));
        let invocation = Invocation { limits: limits.clone(), ..ask(&environment, &source) };
        let (returned, lines) = run(&functions, numbers.fed(invocation)).await;
        match returned {
            Ok(FunctionResult::Bool(true)) => assert!(well, "{lines:?}"),
            Err(Error::Arrow(error)) => {
                assert!(!well && error.to_string().contains("lost a batch"), "{error}");
                assert!(lines.iter().any(|line| line.3.contains("iterate again")), "{lines:?}");
            }
            other => panic!("{other:?} {lines:?}"),
        }
        wait_until("files are left", || numbers.is_over());
    }
}

#[tokio::test]
async fn an_interrupted_wait_loses_no_batch() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let slow = || {
        let rows = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            Ok(batch(0, 10_000))
        };
        stream::once(rows).boxed()
    };
    let streamed = StreamedInput::new(Numbers::schema(), slow).unwrap();
    let value = ArgumentValue::Streamed(streamed);
    let arguments = vec![Argument { name: "data".to_owned(), value }];
    let source = source(
        "
    import signal
    class Late(Exception):
        pass
    def late(*_):
        raise Late
    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    at, batches = 0, iter(data)
    while True:
        try:
            at = checked(next(batches), at)
        except Late:
            continue
        except StopIteration:
            return at == 10_000
",
    );
    holds(&functions, Invocation { arguments, ..ask(&environment, &source) }).await;
}

#[tokio::test]
async fn a_failed_notification_about_rows_fails_the_call() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let numbers = Numbers::new(1);
    // The function does not read replies, so the socket's buffer fills up.
    let source = source(
        "
    line, number = data._source._socket, 0
    try:
        while True:
            number += 1
            line.send(b'{\"free\": [1, 2, 3], \"next\": %d}' % number)
    except OSError:
        return True
",
    );
    let (returned, lines) = run(&functions, numbers.fed(ask(&environment, &source))).await;
    let Err(Error::Arrow(error)) = &returned else { panic!("{returned:?} {lines:?}") };
    assert!(error.to_string().contains("the input stream ended early"), "{error}");
    wait_until("files are left", || numbers.is_over());
}

#[tokio::test]
async fn an_exhausted_quota_fails_before_more_rows_are_produced() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let folder = tempfile::tempdir().unwrap();
    let table_quota = TableQuota::new(0, folder.path().to_owned(), 1 << 16);
    // The stream returns more than one batch, and then blocks.
    let rows = || stream::once(async { Ok(batch(0, 200_000)) }).chain(stream::pending()).boxed();
    let streamed = StreamedInput::new(Numbers::schema(), rows).unwrap();
    let value = ArgumentValue::Streamed(streamed);
    let arguments = vec![Argument { name: "data".to_owned(), value }];
    let limits = Limits { timeout: Duration::from_secs(30), ..Limits::default() };
    let asked = ask(&environment, &source("    return next(iter(data)) is not None"));
    let invocation = Invocation { arguments, limits, quota: Some(table_quota), ..asked };
    let (returned, _) = run(&functions, invocation).await;
    let error = returned.unwrap_err();
    assert_eq!(headwater_model::ToProblem::code(&error), headwater_model::ErrorCode::DiskFull);
}
