//! The arena: what functions return lies in the file it is handed over in, and is what it would be without.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::TryStreamExt;
use headwater_functions::{
    Environment, Error, Functions, FunctionsOptions, Invocation, SharedTable,
};

use crate::support::{answer, ask, call, environment, holds, options, run, table};

const PACKAGES: [(&str, &str); 3] = [("numpy", "2.3"), ("pandas", "2.3"), ("polars", "1.38.1")];

async fn start() -> Functions {
    Functions::start(FunctionsOptions { arena: true, ..options() }).await.unwrap()
}

async fn made(
    functions: &Functions,
    environment: &Arc<Environment>,
    (source, arena): (&str, bool),
    inputs: &[(&str, &SharedTable)],
) -> SharedTable {
    let arguments = inputs.iter().map(|(name, input)| table(name, input)).collect();
    let invocation = Invocation { arena, arguments, ..call(environment, source) };
    answer(functions, invocation).await.0
}

async fn whole(table: &SharedTable) -> RecordBatch {
    let batches: Vec<_> = table.stream().try_collect().await.unwrap();
    arrow::compute::concat_batches(&table.schema(), &batches).unwrap()
}

const NUMBERS: &str = "
import numpy, pyarrow as pa
def f():
    n = numpy.arange(3_000_000)
    return pa.table({'n': n, 'half': n / 2, 'zero': numpy.zeros(3_000_000),
                     'text': pa.array(n).cast(pa.string()), 'odd': n % 2 == 1})
";

#[tokio::test]
async fn what_is_handed_over_is_what_it_would_be_without_and_is_not_copied() {
    let functions = start().await;
    if !functions.uses_huge_pages() {
        return;
    }
    let environment = environment(&functions, &PACKAGES).await;
    let input = made(&functions, &environment, (NUMBERS, false), &[]).await;
    for (what, body, percent) in [
        (
            "numpy",
            "return pa.table({'n': numpy.arange(8_000_000), 'z': numpy.zeros(8_000_000)})",
            1,
        ),
        ("arrow", "return data.set_column(0, 'n', pc.add(data['n'], 1)).combine_chunks()", 1),
        ("arrow, texts", "return data.filter(pc.greater(data['half'], 100.0))", 100),
        ("polars", "return pl.from_arrow(data).filter(pl.col('n') % 3 == 0)", 10),
        ("polars, more", "return pl.from_arrow(data).with_columns(m=pl.col('n') * 2)", 10),
        ("pandas", "return data.select(['n', 'half']).to_pandas().query('n > 50') * 2", 2),
        ("numpy, more", "return pa.table({'s': numpy.sqrt(data['n'].to_numpy())})", 2),
    ] {
        let source = format!(
            "import numpy, pyarrow as pa, pyarrow.compute as pc, polars as pl\nimport pandas\n\
             def f(data):\n    {body}\n"
        );
        let inputs = [("data", &input)];
        let plain = made(&functions, &environment, (&source, false), &inputs).await;
        let arena = made(&functions, &environment, (&source, true), &inputs).await;
        assert_eq!(whole(&arena).await, whole(&plain).await, "{what}");
        let (copied, bytes) = (arena.bytes_copied(), arena.bytes());
        assert!(copied * 100 <= bytes * percent, "{what}: {copied} of {bytes}");
        // Whoever is given it finds the same, and so does whoever passes it on.
        let source = "def f(data):\n    return data.slice(10)\n";
        let next = made(&functions, &environment, (source, true), &[("data", &arena)]).await;
        let plain = made(&functions, &environment, (source, false), &[("data", &plain)]).await;
        assert_eq!(whole(&next).await, whole(&plain).await, "{what}");
    }
}

#[tokio::test]
async fn what_is_no_table_is_found_out_by_whoever_looks_at_it() {
    let functions = start().await;
    if !functions.uses_huge_pages() {
        return;
    }
    let environment = environment(&functions, &PACKAGES).await;
    let source = "
import numpy, pyarrow as pa
def f():
    bytes = numpy.full(4_000_000, 255, dtype='u1')
    ends = numpy.arange(1_000_001, dtype='i4') * 4
    text = pa.Array.from_buffers(pa.string(), 1_000_000, [None, pa.py_buffer(ends), pa.py_buffer(bytes)])
    return pa.table({'n': numpy.arange(1_000_000), 'text': text})
";
    let table = made(&functions, &environment, (source, true), &[]).await;
    assert_eq!((table.rows(), table.mapped().is_none()), (1_000_000, true));
    // A function that is given it would go where its offsets point, to its secrets perhaps.
    let source = "def f(data):\n    return data['text'].to_pylist()[-1] is not None\n";
    let arguments = vec![self::table("data", &table)];
    let mut given = Invocation { arguments, ..ask(&environment, source) };
    given.limits.variables = BTreeMap::from([("KEY".to_owned(), "secret".to_owned())]).into();
    let (returned, _) = run(&functions, given).await;
    let Err(Error::FunctionRaised { message, frames, .. }) = returned else {
        panic!("{returned:?}")
    };
    assert!(message.contains("what a function returned for `data` is no table"), "{message}");
    assert!(frames.is_empty(), "it is not its fault: {frames:?}");
    let error = table.stream().try_collect::<Vec<_>>().await.unwrap_err().to_string();
    assert!(error.contains("what a function returned is no table"), "{error}");
}

const ORDINARY: [&str; 6] = [
    // A child sees what was there when it was forked, and its parent what it did itself.
    "
    values = numpy.arange(1_000_000)
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(told, 1)
        os._exit(0 if (values == numpy.arange(1_000_000)).all() else 1)
    values[:] = 7
    os.write(tell, b'x')
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code == 0 and bool((values == 7).all())",
    "
    with multiprocessing.get_context('fork').Pool(2) as pool:
        parts = [numpy.full(500_000, n * n) for n in range(6)]
        sums = [int(part.sum()) for part in pool.map(numpy.sqrt, parts)]
    return sums == [n * 500_000 for n in range(6)]",
    "
    held = numpy.ones(1_000_000)
    said = subprocess.run(['/bin/echo', 'x'], capture_output=True, preexec_fn=os.getpid).stdout
    return said.strip() == b'x' and held.sum() == 1_000_000",
    // What was freed takes no memory.
    "
    for n in range(40):
        numpy.full(16 << 20, n, dtype='u8')
    return True",
    "
    def fill(n):
        for _ in range(20):
            values = numpy.full(400_000 + n, n + 1)
            assert (values == n + 1).all()
            values.resize(900_000, refcheck=False)
            assert (values[:400_000 + n] == n + 1).all() and (values[400_000 + n:] == 0).all()
        return n
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        return list(pool.map(fill, range(8))) == list(range(8))",
    // It is on, and huge.
    "
    here = numpy.ones(8 << 20).ctypes.data
    return 'headwater-arena' in open('/proc/self/maps').read() and here % (2 << 20) < 4096",
];

#[tokio::test]
async fn functions_do_what_they_do_without() {
    let functions = start().await;
    if !functions.uses_huge_pages() {
        return;
    }
    let environment = environment(&functions, &PACKAGES).await;
    for body in ORDINARY {
        let source = format!(
            "import concurrent.futures, multiprocessing, os, subprocess\nimport numpy\n\
             def f():{body}\n"
        );
        let mut invocation = Invocation { arena: true, ..ask(&environment, &source) };
        invocation.limits.memory_bytes = 1 << 30;
        holds(&functions, invocation).await;
    }
}

#[tokio::test]
async fn nothing_else_of_a_function_is_handed_over() {
    let functions = start().await;
    if !functions.uses_huge_pages() {
        return;
    }
    let environment = environment(&functions, &PACKAGES).await;
    let source = "
import numpy, pyarrow as pa
SECRETS = []
def f():
    SECRETS.append(numpy.frombuffer(b'a secret' * 500_000, dtype='u1').copy())
    values = numpy.arange(2_000_000)
    SECRETS.append(numpy.frombuffer(b'a secret' * 500_000, dtype='u1').copy())
    return pa.table({'n': values})
";
    let first = made(&functions, &environment, (source, true), &[]).await;
    assert!(first.bytes_copied() * 100 < first.bytes(), "{}", first.bytes_copied());
    // The file as it comes, before the worker closes it: nobody's own code gets that far.
    let source = "
import mmap, os, sys
from headwater_tables import Inputs
def f(data):
    worker = sys.modules.get('headwater_worker') or sys.modules['__main__']
    frame = sys._getframe(1)
    regions = frame.f_locals['inputs']._regions
    assert data['n'].to_pylist() == list(range(2_000_000)), 'other rows'
    spans = [line.split()[0].split('-') for line in open('/proc/self/maps')]
    spans = [(int(start, 16), int(end, 16)) for start, end in spans]
    for address, size, file, offset in regions:
        assert size < 17 << 20, size
    return not [name for name in os.listdir('/proc/self/fd')
                if os.path.isfile('/proc/self/fd/' + name)]
";
    let arguments = vec![table("data", &first)];
    holds(&functions, Invocation { arguments, ..ask(&environment, source) }).await;
}

#[test]
fn the_arena_holds_at_random() {
    let tools = options().tools_dir;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    drop(runtime.block_on(start()));
    let libraries = std::fs::read_dir(&tools).unwrap().flatten().map(|entry| entry.path());
    let is_arena = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("arena-") && name.ends_with(".so")
    };
    let mut libraries: Vec<PathBuf> = libraries.filter(is_arena).collect();
    libraries.sort_by_key(|path| path.metadata().and_then(|found| found.modified()).unwrap());
    let library = libraries.pop().unwrap();
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let program = folder.path().join("fuzz");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/native/fuzz.c");
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let mut compile = Command::new(compiler);
    compile.args(["-O1", "-o"]).arg(&program).arg(source).args(["-ldl", "-lpthread"]);
    assert!(compile.status().unwrap().success());
    for seed in 1..=3 {
        let file = folder.path().join(format!("arena-{seed}"));
        let mut fuzz = Command::new(&program);
        fuzz.arg(file).args(["300", &seed.to_string()]).arg(&library).env("LD_PRELOAD", &library);
        let output = fuzz.output().unwrap();
        assert!(output.status.success(), "seed {seed}: {output:?}");
    }
}
