//! A function cannot see functions of another lake that run on the same machine at the same time.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::fd::AsRawFd as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use headwater_functions::{Environment, Functions, Invocation, ReuseScope, SharedTable};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{probe, source};
use crate::support::{ask, environment, holds, processes, start, table};

/// A function that writes its mark to every location that it can access, until it is stopped.
const NEIGHBOUR: &str = "import mmap
mark = 'KRAM'[::-1]
held = [bytearray(mark * 1000, 'ascii') for _ in range(100)]
private = mmap.mmap(-1, 1 << 20)
private.write(mark.encode() * 1000)
file = os.memfd_create('NAME', 0)
os.write(file, mark.encode() * 1000)
shared = mmap.mmap(file, 0)
open('/dev/shm/NAME', 'w').write(mark)
open('/tmp/NAME', 'w').write(mark)
os.environ['NAME'] = mark
listener = socket.socket(socket.AF_UNIX)
listener.bind('\\0NAME')
listener.listen()
loopback = socket.create_server(('127.0.0.1', 4242))
try:
    segment = LIBC.shmget(0x4857, 1 << 16, 0o1666)
except OSError:
    pass
subprocess.Popen(['/bin/sh', '-c', 'sleep 1000; : NAME'])
assert data['text'][0].as_py().startswith(mark)
print('ready', flush=True)
time.sleep(1000)
return False";

/// Code that searches for the process of the neighbour by all its names, and for its mark in all
/// accessible memory.
const SEARCH: &str = "mark = 'KRAM'[::-1].encode()
found = []
own = {name for name in os.listdir('/proc') if name.isdigit()}
for name in own:
    for link in os.listdir(f'/proc/{name}/fd') if name == str(os.getpid()) else []:
        try:
            target = os.readlink(f'/proc/{name}/fd/{link}')
        except OSError:
            continue
        if 'NAME' in target:
            found.append(target)
    for part in ['cmdline', 'environ', 'maps', 'comm']:
        try:
            text = open(f'/proc/{name}/{part}', 'rb').read()
        except OSError:
            continue
        if mark in text or b'NAM' + b'E' in text:
            found.append((name, part))
for table in ['unix', 'tcp', 'tcp6', 'packet']:
    try:
        text = open('/proc/net/' + table).read()
    except OSError:
        continue
    if 'NAM' + 'E' in text or ':1092 ' in text:
        found.append(table)
for table in ['shm', 'sem', 'msg']:
    path = '/proc/sysvipc/' + table
    if os.path.exists(path) and len(open(path).read().splitlines()) > 1:
        found.append(path)
LIBC.shmget.restype = ctypes.c_int
if LIBC.shmget(0x4857, 0, 0) >= 0:
    found.append('a segment')
for folder in ['/dev/shm', '/tmp', '/dev/mqueue']:
    if os.path.isdir(folder) and os.listdir(folder):
        found.append(folder)
for place in ['\\0NAME', '/tmp/NAME', '/dev/shm/NAME']:
    one = socket.socket(socket.AF_UNIX)
    if not fails(one.connect, place):
        found.append(place)
if not fails(socket.create_connection, ('127.0.0.1', 4242), 5):
    found.append('its port')
held = ctypes.create_string_buffer(64)
word = ctypes.addressof(held)
for pid in PIDS:
    if str(pid) in own:
        continue
    for attempt in [(os.kill, pid, 0), (os.pidfd_open, pid), (open, f'/proc/{pid}/mem', 'rb'),
            (os.listdir, f'/proc/{pid}/fd'), (os.sched_getaffinity, pid), (os.getpgid, pid), (os.getsid, pid)]:
        if not fails(*attempt):
            found.append((pid, attempt[0].__name__))
    for name, arguments in [('process_vm_readv', (pid, word, 1, word, 1, 0)), ('ptrace', (16, pid, 0, 0)),
            ('kcmp', (pid, os.getpid(), 0, 0, 0)), ('move_pages', (pid, 1, word, 0, word, 0))]:
        if call(name, *arguments) == 0:
            found.append((pid, name))
# The process's own memory: inherited from the zygote, and pages that another process used before.
fresh = bytearray(1)
import mmap
pages = mmap.mmap(-1, 64 << 20)
if pages.find(mark) >= 0:
    found.append('fresh pages')
print(found)
return not found";

/// Returns a random word that occurs nowhere else in this process.
fn mark() -> String {
    format!("neighbour-{}-{}", std::process::id(), uuid::Uuid::new_v4().simple())
}

/// Replaces the placeholders of a probe. The mark is reversed, so that the source does not contain
/// it.
fn with(body: &str, mark: &str, name: &str, pids: &[i32]) -> String {
    let backwards: String = mark.chars().rev().collect();
    let body = body.replace("KRAM", &backwards).replace("PIDS", &format!("{pids:?}"));
    body.replace("NAME", name)
}

fn neighbour(environment: &Arc<Environment>, body: &str, input: &SharedTable) -> Invocation {
    let mut invocation = probe(environment, body);
    let changed = source(body).replace("def f():", "def f(data):");
    Arc::make_mut(&mut invocation.files).insert("models/m.py".to_owned(), changed.into());
    invocation.arguments = vec![table("data", input)];
    invocation
}

/// Returns true if a process has these bytes in its memory.
fn has(pid: i32, mark: &[u8]) -> bool {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let Ok(mut memory) = fs::File::open(format!("/proc/{pid}/mem")) else { return false };
    let spans = maps.lines().filter_map(|line| line.split_once(' ')?.0.split_once('-'));
    spans.into_iter().any(|(start, end)| {
        let address = |text| u64::from_str_radix(text, 16).unwrap_or_default();
        let (start, end) = (address(start), address(end));
        let mut bytes = vec![0; usize::try_from((end - start).min(64 << 20)).unwrap()];
        memory.seek(SeekFrom::Start(start)).is_ok()
            && memory.read(&mut bytes).is_ok()
            && bytes.windows(mark.len()).any(|window| window == mark)
    })
}

/// Checks that the mark and the names exist, because otherwise a search without a result would
/// prove nothing.
fn is_there(mark: &str, name: &str) {
    let pids = processes("headwater_zygote.py");
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let holds = |pid: &&i32| {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut links = files.filter_map(|file| fs::read_link(file.path()).ok());
        links.any(|link| link.to_string_lossy().contains(&format!("memfd:{name}")))
    };
    let holder = pids.iter().find(holds).expect("no process has the memory file");
    assert!(has(*holder, mark.as_bytes()), "the mark is not in its memory");
}

async fn nothing_is_found(one: &Functions, other: &Functions, fresh: bool) {
    let (mark, name) = (mark(), format!("name{}", uuid::Uuid::new_v4().simple()));
    let text: ArrayRef = Arc::new(StringArray::from(vec![mark.repeat(1000); 100]));
    let batch = RecordBatch::try_from_iter([("text", text)]).unwrap();
    let input = SharedTable::write(batch.schema(), [Ok(batch)]).unwrap();
    // The mark is also the name of an abstract socket on the host.
    let hosts = SocketAddr::from_abstract_name(format!("host{name}")).unwrap();
    let hosts = UnixListener::bind_addr(&hosts).unwrap();
    assert!(hosts.as_raw_fd() > 0);

    let theirs = environment(other, &[]).await;
    let body = with(NEIGHBOUR, &mark, &name, &[]);
    let (sink, mut lines) = mpsc::channel(16);
    let cancelled = CancellationToken::new();
    let running = other.invoke(neighbour(&theirs, &body, &input), sink, cancelled.clone());
    let searching = async {
        lines.recv().await.expect("the neighbour did not begin");
        is_there(&mark, &name);
        let own = std::process::id() as i32;
        let mut pids = [processes("headwater"), processes(&name)].concat();
        pids.push(own);
        pids.retain(|pid| *pid > 100);
        let mine = environment(one, &[]).await;
        for name in [name.clone(), format!("host{name}")] {
            let body = with(SEARCH, &mark, &name, &pids);
            holds(one, probe(&mine, &body)).await;
            let again = Invocation { reuse: ReuseScope::SameFunction, ..probe(&mine, &body) };
            holds(one, again).await;
        }
        // A call of another function of the same lake does not find the mark.
        if fresh {
            holds(other, probe(&theirs, &with(SEARCH, &mark, &name, &pids))).await;
        }
        cancelled.cancel();
    };
    let (outcome, ()) = tokio::join!(running, searching);
    assert!(outcome.returned.is_err(), "{outcome:?}");
    // After the neighbour has ended, the memory that it freed does not contain the mark.
    holds(other, ask(&theirs, "def f():\n    return True\n")).await;
    let body = with(SEARCH, &mark, &name, &[]);
    holds(other, probe(&theirs, &body)).await;
}

#[tokio::test]
async fn a_running_call_of_another_lake_is_invisible() {
    let (one, other) = (start().await, start().await);
    Box::pin(nothing_is_found(&one, &other, false)).await;
}

#[tokio::test]
async fn another_running_call_of_the_lake_is_invisible() {
    let functions = start().await;
    Box::pin(nothing_is_found(&functions, &functions, true)).await;
}
