//! Files that are passed between processes: they are sealed, checked, and private to one call.

use std::sync::Arc;
use std::time::Duration;

use super::{held, probe, source};
use crate::support::{answer, ask, call, environment, holds, run, start, table};
use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use headwater_functions::{Error, FunctionResult, Invocation, ReuseScope, SharedTable, TableQuota};

fn numbers() -> SharedTable {
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100_000));
    let batch = RecordBatch::try_from_iter([("n", numbers)]).unwrap();
    SharedTable::write(batch.schema(), [Ok(batch)]).unwrap()
}

#[tokio::test]
async fn a_sealed_input_cannot_be_written() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let input = numbers();
    let before = input.mapped();
    let body = "import fcntl, mmap
files = [line.split()[-1] for line in open('/proc/self/maps') if 'memfd:headwater-table' in line]
spans = [line.split()[0] for line in open('/proc/self/maps') if 'memfd:headwater-table' in line]
assert files and spans
for span in os.listdir('/proc/self/map_files') if os.access('/proc/self/map_files', os.R_OK) else []:
    if span in spans and not fails(os.open, '/proc/self/map_files/' + span, os.O_RDWR):
        return False
start = int(spans[0].split('-')[0], 16)
page = mmap.PAGESIZE
# A private mapping can be made writable: the writes are visible only to its process.
assert LIBC.mprotect(ctypes.c_void_p(start), page, 3) == 0
ctypes.memmove(start, b'overwritten', 11)
return fails(open, '/proc/self/mem', 'r+b')";
    let mut invocation = probe(&environment, body);
    let changed = source(body).replace("def f():", "def f(data):");
    Arc::make_mut(&mut invocation.files).insert("models/m.py".to_owned(), changed.into());
    invocation.arguments = vec![table("data", &input)];
    holds(&functions, invocation).await;
    assert_eq!(input.mapped(), before);
}

#[tokio::test]
async fn a_function_cannot_write_to_the_result_of_another() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let source =
        "import pyarrow as pa\ndef f():\n    return pa.table({'n': list(range(1_000_000))})\n";
    let (input, _) = answer(&functions, call(&environment, source)).await;
    let before = input.mapped();
    let body = "start = data['n'].chunk(0).buffers()[1].address
start -= start % 4096
assert LIBC.mprotect(ctypes.c_void_p(start), 4096, 3) == 0
ctypes.memmove(start, b'overwritten', 11)
for name in os.listdir('/proc/self/fd'):
    path = '/proc/self/fd/' + name
    if os.path.isfile(path) and not fails(os.open, path, os.O_RDWR):
        return False
return fails(open, '/proc/self/mem', 'r+b')";
    let mut invocation = probe(&environment, body);
    let changed = super::source(body).replace("def f():", "def f(data):");
    Arc::make_mut(&mut invocation.files).insert("models/m.py".to_owned(), changed.into());
    invocation.arguments = vec![table("data", &input)];
    holds(&functions, invocation).await;
    assert_eq!(input.mapped(), before);
}

#[tokio::test]
async fn a_table_with_malformed_text_is_refused_at_hand_over() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let source = "
import pyarrow as pa
def f():
    text = pa.py_buffer(bytes([255]) * 4_000_000)
    ends = pa.py_buffer(b''.join((4 * n).to_bytes(4, 'little') for n in range(1_000_001)))
    text = pa.Array.from_buffers(pa.string(), 1_000_000, [None, ends, text])
    return pa.table({'n': pa.array(range(1_000_000)), 'text': text})
";
    let error = run(&functions, call(&environment, source)).await.0.unwrap_err();
    assert!(matches!(error, Error::BadOutput { .. }), "{error:?}");
}

/// Code that writes a table to a file that the server provided, and sends it without the help of
/// the worker.
const HAND_OVER_GIVEN: &str = "
import io, json, mmap, pyarrow
server = socket.socket(fileno=os.dup(3))
server.send(b'{\"said\": \"file\"}')
_, files, _, _ = socket.recv_fds(server, 64, 1)
if not files:
    return None
file = files[0]
server.send(b'{\"said\": \"file\"}')
assert not socket.recv_fds(server, 64, 1)[1], 'a second file'
text = io.BytesIO()
data = pyarrow.table({'n': list(range(1000))})
with pyarrow.ipc.new_file(text, data.schema) as writer:
    writer.write_table(data)
size = os.write(file, text.getvalue())
held = mmap.mmap(file, size)
os.close(file)
def hand_over(extents):
    outline = os.memfd_create('x', os.MFD_ALLOW_SEALING)
    os.write(outline, json.dumps({'bytes': size, 'extents': extents}).encode())
    socket.send_fds(server, [b'{\"said\": \"laid\"}'], [outline])
";

#[tokio::test]
async fn a_file_of_the_server_is_accepted_once_it_has_no_writer() {
    let functions = start().await;
    if !functions.uses_huge_pages() {
        return;
    }
    let environment = environment(&functions, &[]).await;
    let run = async |reuse: ReuseScope, rest: &str| {
        let body = format!("{HAND_OVER_GIVEN}\n{rest}");
        let mut invocation = call(&environment, "");
        invocation.files = probe(&environment, &body).files;
        invocation.reuse = reuse;
        run(&functions, invocation).await.0
    };
    let whole = "hand_over([[0, size, -1, 0]])";
    // The forked process, which could still write to the table, ends with the call.
    let forks = format!("{whole}\nif os.fork() == 0:\n    time.sleep(30)\nos._exit(0)");
    let table = run(ReuseScope::Never, &forks).await;
    let Ok(FunctionResult::Table(table)) = table else { panic!("{table:?}") };
    assert_eq!(table.rows(), 1000);
    // If the function raises an error after the fork, the rows that the forked process wrote are
    // discarded.
    let error = run(ReuseScope::SameFunction, "raise ValueError('it got one')").await.unwrap_err();
    assert!(matches!(&error, Error::NotATable { .. }), "{error:?}");
    for extents in ["[[0, 1 << 40, -1, 0]]", "[[0, size, 0, 0]]", "[]", "[[0, size, -1, 4096]]"] {
        let error = run(ReuseScope::Never, &format!("hand_over({extents})\nos._exit(0)"))
            .await
            .unwrap_err();
        assert!(matches!(error, Error::BadOutput { .. }), "{extents}: {error:?}");
    }
}

#[tokio::test]
async fn reserved_huge_pages_are_rejected() {
    let error = handed_over(&format!(
        "{HAND_OVER}
file = os.memfd_create('x', os.MFD_ALLOW_SEALING | os.MFD_HUGETLB)
os.ftruncate(file, 2 << 20)
hand_over(file)
os._exit(0)"
    ))
    .await;
    assert!(matches!(error, Error::BadOutput { .. }), "{error:?}");
}

/// A file with two tables. The layout that the code sends describes the second table.
const TWO_IN_ONE: &str = "
import io, json, pyarrow
def text_of(n):
    text, data = io.BytesIO(), pyarrow.table({'n': [n] * 1000})
    with pyarrow.ipc.new_file(text, data.schema) as writer:
        writer.write_table(data)
    return text.getvalue()
first, second = text_of(1), text_of(2)
file = os.memfd_create('x', os.MFD_ALLOW_SEALING)
os.pwrite(file, first, 0)
os.pwrite(file, second, 16384)
assert len(first) <= 16384
outline = os.memfd_create('x', os.MFD_ALLOW_SEALING)
text = json.dumps({'bytes': len(second), 'extents': [[0, len(second), -1, 16384]]})
os.write(outline, text.encode())
server = socket.socket(fileno=os.dup(3))
socket.send_fds(server, [b'{\"said\": \"laid\"}'], [outline, file])
os._exit(0)";

#[tokio::test]
async fn the_next_function_reads_the_validated_bytes() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let mut invocation = call(&environment, "");
    invocation.files = probe(&environment, TWO_IN_ONE).files;
    let (given, _) = answer(&functions, invocation).await;
    let source = "def f(data):\n    return data['n'].to_pylist() == [2] * 1000\n";
    let arguments = vec![table("data", &given)];
    holds(&functions, Invocation { arguments, ..ask(&environment, source) }).await;
}

#[tokio::test]
async fn repeated_references_to_the_same_bytes_are_limited() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    for (times, columns) in [("4", 1), ("4", 200), ("10**9", 200)] {
        let source = format!(
            "import headwater_tables, pyarrow as pa\ndef f(data):\n    \
             headwater_tables.REFERRED_TIMES_MAX = {times}\n    \
             return pa.table([data['n']] * {columns}, [str(n) for n in range({columns})])\n"
        );
        let arguments = vec![table("data", &numbers())];
        let invocation = Invocation { arguments, ..call(&environment, &source) };
        match run(&functions, invocation).await.0 {
            Ok(FunctionResult::Table(table)) => {
                assert_eq!((times, table.schema().fields().len()), ("4", columns));
            }
            Err(error) if times == "10**9" => {
                assert!(error.to_string().contains("refers to more bytes in total"), "{error}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn memory_files_of_other_processes_are_inaccessible() {
    held(
        "shown = []
for name in os.listdir('/proc'):
    if name.isdigit() and int(name) != os.getpid():
        try:
            shown += os.listdir(f'/proc/{name}/fd')
        except OSError:
            pass
return not shown and refused('pidfd_getfd')",
    )
    .await;
}

/// Returns the error of a malicious function that sends files itself instead of the worker.
async fn handed_over(body: &str) -> Error {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let mut invocation = call(&environment, "");
    invocation.files = probe(&environment, body).files;
    let (outcome, _) = run(&functions, invocation).await;
    let error = outcome.expect_err("it was taken");
    // After the attack, the server still runs functions.
    holds(&functions, probe(&environment, "return True")).await;
    error
}

const HAND_OVER: &str = "
def hand_over(file):
    with socket.socket(fileno=os.dup(3)) as server:
        socket.send_fds(server, [b'{\"said\": \"table\"}'], [file])
";

#[tokio::test]
async fn a_writable_mapping_cannot_outlive_the_hand_over() {
    let error = handed_over(&format!(
        "{HAND_OVER}
import mmap, pyarrow
file = os.memfd_create('x', os.MFD_ALLOW_SEALING)
data = pyarrow.table({{'n': list(range(1000))}})
with pyarrow.ipc.new_file(os.fdopen(os.dup(file), 'wb'), data.schema) as writer:
    writer.write_table(data)
held = mmap.mmap(file, os.fstat(file).st_size)
if os.fork() == 0:
    time.sleep(30)
hand_over(file)
os._exit(0)"
    ))
    .await;
    assert!(matches!(error, Error::BadOutput { .. }), "{error:?}");
}

#[tokio::test]
async fn descriptors_that_are_not_memory_files_are_rejected() {
    for file in ["os.open('/tmp/x', os.O_RDWR | os.O_CREAT)", "0", "os.pipe()[0]"] {
        let error = handed_over(&format!("{HAND_OVER}\nhand_over({file})\nos._exit(0)")).await;
        assert!(matches!(error, Error::BadOutput { .. }), "{file}: {error:?}");
    }
}

#[tokio::test]
async fn a_file_of_any_size_and_content_is_rejected_without_a_crash() {
    for fill in [
        "os.ftruncate(file, 1 << 45)",
        "os.ftruncate(file, 7)",
        "os.write(file, os.urandom(100000))",
        "os.write(file, b'ARROW1\\0\\0' + os.urandom(1000) + struct.pack('<i', 900) + b'ARROW1')",
        "os.write(file, b'ARROW1\\0\\0' + struct.pack('<i', -5) + b'ARROW1')",
    ] {
        let error = handed_over(&format!(
            "{HAND_OVER}\nfile = os.memfd_create('x', os.MFD_ALLOW_SEALING)\n{fill}\nhand_over(file)\n\
             os._exit(0)"
        ))
        .await;
        assert!(matches!(error, Error::BadOutput { .. }), "{fill}: {error:?}");
    }
}

#[tokio::test]
async fn the_socket_accepts_any_bytes() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let body = "with socket.socket(fileno=os.dup(3)) as server:
    for message in [b'x', b'{}', b'[' * 50000, os.urandom(60000), b'{\"said\": \"nonsense\"}']:
        server.send(message)
    for _ in range(50):
        files = [os.open('/dev/null', os.O_RDONLY) for _ in range(100)]
        socket.send_fds(server, [b'{\"said\": \"line\", \"stream\": \"stdout\", \"text\": \"x\"}'], files)
        for file in files:
            os.close(file)
return True";
    holds(&functions, Invocation { ..probe(&environment, body) }).await;
}

#[tokio::test]
async fn a_function_that_forges_the_last_message_ends_at_its_limit() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let body = "socket.socket(fileno=os.dup(3)).send(b'{\"said\": \"kept\"}')
while True:
    os.write(1, b'\\n' * 4096)
    time.sleep(0.001)";
    let mut invocation = probe(&environment, body);
    invocation.limits.timeout = Duration::from_secs(1);
    let (outcome, _) = run(&functions, invocation).await;
    let error = outcome.expect_err("it never ends by itself");
    assert!(matches!(error, Error::TimeLimit { .. }), "{error:?}");
}

#[tokio::test]
async fn bytes_after_the_table_count_towards_the_quota() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let body = format!(
        "{HAND_OVER}
import pyarrow
def file_of(rows):
    file = os.memfd_create('x', os.MFD_ALLOW_SEALING)
    data = pyarrow.table({{'n': list(range(rows))}})
    with pyarrow.ipc.new_file(os.fdopen(os.dup(file), 'wb'), data.schema) as writer:
        writer.write_table(data)
    return file
server = socket.socket(fileno=os.dup(3))
def part():
    socket.send_fds(server, [b'{{\"said\": \"part\"}}'], [file_of(50_000)])
    return server.recv(64)
assert part() == b'next'
hand_over(file_of(10))
answers = [part() for _ in range(20)]
assert b'stop' in answers, answers
os._exit(0)"
    );
    let folder = tempfile::tempdir().unwrap();
    let table_quota = TableQuota::new(1 << 20, folder.path().to_owned(), 2 << 20);
    let mut invocation = probe(&environment, &body);
    invocation.quota = Some(table_quota.clone());
    let (outcome, printed) = run(&functions, invocation).await;
    let error = outcome.expect_err("no table of its own");
    assert!(!error.to_string().contains("AssertionError"), "{error:?} {printed:?}");
    assert_eq!(table_quota.disk_bytes(), 0);
}
