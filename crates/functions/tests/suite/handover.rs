//! Tables passed between functions: each is written once, and mapped by all readers. A result
//! refers to existing columns instead of copying them.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use headwater_functions::{Environment, Functions, Invocation, Limits, SharedTable, TableQuota};

use crate::support::{answer, ask, call, environment, holds, start, table};

/// Number of rows of a column of 16 MiB.
const ROWS: i64 = 2 << 20;

/// Code of a function that returns eight columns, each of 16 MiB.
const WIDE: &str = "
import pyarrow as pa, pyarrow.compute as pc
def f():
    first = pa.array(range(2 << 20), pa.int64())
    return pa.table({f'c{n}': pc.add(first, n) for n in range(8)})
";

async fn wide(functions: &Functions, environment: &Arc<Environment>) -> SharedTable {
    answer(functions, call(environment, WIDE)).await.0
}

fn sum(table: &SharedTable, column: &str) -> i64 {
    let of = |batch: &RecordBatch| -> i64 {
        batch[column].as_primitive::<Int64Type>().values().iter().sum()
    };
    table.mapped().unwrap().iter().map(of).sum()
}

fn sum_of(n: i64) -> i64 {
    ROWS * (ROWS - 1) / 2 + n * ROWS
}

/// Returns a memory limit that is too small for a copy of the table.
fn little() -> Limits {
    Limits { memory_bytes: 100 << 20, ..Limits::default() }
}

/// Returns the number of times that the kernel failed to allocate a huge page for a file.
fn huge_pages_refused() -> u64 {
    let counters = std::fs::read_to_string("/proc/vmstat").unwrap();
    let of =
        |line: &str| line.strip_prefix("thp_file_fallback ").map(|count| count.parse().unwrap());
    counters.lines().find_map(of).unwrap_or_default()
}

#[tokio::test]
async fn many_children_read_what_their_parent_wrote_once() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let refused = huge_pages_refused();
    let written = wide(&functions, &environment).await;
    assert!(written.bytes() >= 128 << 20 && sum(&written, "c3") == sum_of(3));
    // The next function maps huge pages if the host supports them and memory is not fragmented.
    let had = functions.uses_huge_pages() && huge_pages_refused() == refused;
    let huge = if had { "mapped > 100 << 10" } else { "True" };
    let source = format!(
        "
import pyarrow.compute as pc
def f(data):
    total = sum(pc.sum(column).as_py() for column in data.columns)
    mapped = sum(int(line.split()[1]) for line in open('/proc/self/smaps') if 'PmdMapped' in line)
    return total == {} and {huge}
",
        (0..8).map(sum_of).sum::<i64>()
    );
    let table_quota = TableQuota::new(1 << 30, std::env::temp_dir(), 0);
    let written = written.claim_or_spill(&table_quota).await.unwrap();
    let held = table_quota.memory_bytes();
    for _ in 0..3 {
        let arguments = vec![table("data", &written)];
        let invocation = Invocation { arguments, limits: little(), ..ask(&environment, &source) };
        holds(&functions, invocation).await;
    }
    assert_eq!(table_quota.memory_bytes(), held);
    drop(written);
    assert_eq!(table_quota.memory_bytes(), 0);
}

#[tokio::test]
async fn passed_through_data_is_not_written_again() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let table_quota = TableQuota::new(1 << 30, std::env::temp_dir(), 0);
    let first = wide(&functions, &environment).await.claim_or_spill(&table_quota).await.unwrap();
    let held = table_quota.memory_bytes();
    let mut last = first.clone();
    for (number, body) in [
        "return data",
        "return data.select(['c7', 'c1', 'c3'])",
        "return data.append_column('more', pc.add(data['c1'], 1)).slice(1000)",
        "return data.slice(0, data.num_rows // 2)",
    ]
    .into_iter()
    .enumerate()
    {
        let source = format!("import pyarrow.compute as pc\ndef f(data):\n    {body}\n");
        let arguments = vec![table("data", &last)];
        let invocation = Invocation { arguments, limits: little(), ..call(&environment, &source) };
        let (next, outcome) = answer(&functions, invocation).await;
        assert!(outcome.usage.memory_bytes_peak < 80 << 20, "{number}: {outcome:?}");
        last = next.claim_or_spill(&table_quota).await.unwrap();
    }
    // The result refers to the existing columns and adds one column of 16 MiB.
    let more = table_quota.memory_bytes() - held;
    assert!((16 << 20..40 << 20).contains(&more), "{more}");
    let expected: i64 = (1000..1000 + (ROWS - 1000) / 2).map(|n| n + 2).sum();
    assert_eq!(sum(&last, "more"), expected);
    assert_eq!(last.schema().fields().len(), 4);
    // The files to which the result refers still exist, and memory usage is unchanged.
    drop(first);
    assert_eq!(table_quota.memory_bytes(), held + more);
    assert_eq!(sum(&last, "c1"), expected - (ROWS - 1000) / 2);
    let small = TableQuota::new(0, tempfile::tempdir().unwrap().path().to_owned(), 1 << 30);
    let unclaimed = answer(&functions, {
        let source = "def f(data):\n    return data.select(['n', 'n'])\n";
        let arguments = vec![table("data", &numbers(1_000_000))];
        Invocation { arguments, ..call(&environment, source) }
    });
    let moved = unclaimed.await.0.claim_or_spill(&small).await.unwrap();
    assert!(moved.mapped().is_none() && small.disk_bytes() >= 16_000_000);
    drop(last);
    assert_eq!(table_quota.memory_bytes(), 0);
}

fn numbers(rows: i64) -> SharedTable {
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
    let batch = RecordBatch::try_from_iter([("n", numbers)]).unwrap();
    SharedTable::write(batch.schema(), [Ok(batch)]).unwrap()
}

#[tokio::test]
async fn a_column_that_occurs_many_times_is_written() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let first = wide(&functions, &environment).await;
    for times in [3, 20] {
        let source = format!(
            "import pyarrow as pa\ndef f(data):\n    data = data.slice(0, 300_000)\n    \
             return pa.table([data['c0']] * {times}, [f'm{{n}}' for n in range({times})])\n"
        );
        let arguments = vec![table("data", &first)];
        let many = answer(&functions, Invocation { arguments, ..call(&environment, &source) });
        let many = many.await.0;
        assert_eq!(sum(&many, "m2"), 300_000 * 299_999 / 2);
        let written = many.bytes_copied();
        assert_eq!(written > 20 * 300_000 * 8, times == 20, "{written}");
    }
}

#[tokio::test]
async fn an_unselected_column_is_not_read() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let source = "
import pyarrow as pa
def f():
    column = lambda n: pa.py_buffer(bytes([n]) * (16 << 20))
    column = lambda n, made=column: pa.Array.from_buffers(pa.binary(128), 1 << 17, [None, made(n)])
    return pa.table({f'c{n}': column(n) for n in range(8)})
";
    let written = answer(&functions, call(&environment, source)).await.0;
    let source = "
def f(data):
    column = data['c5'].chunk(0).buffers()[1]
    read = column.to_pybytes() == bytes([5]) * (16 << 20)
    for line in open('/proc/self/smaps'):
        words = line.split()
        if '-' in words[0]:
            start, end = (int(word, 16) for word in words[0].split('-'))
            here = start <= column.address < end
        elif words[0] == 'Rss:' and here:
            touched = int(words[1])
    return read and 16 << 10 <= touched <= 24 << 10
";
    let arguments = vec![table("data", &written)];
    holds(&functions, Invocation { arguments, ..ask(&environment, source) }).await;
}

#[tokio::test]
async fn tables_of_any_kind_pass_through() {
    let functions = start().await;
    let environment = environment(&functions, &[("pandas", "2.3"), ("polars", "1.38.1")]).await;
    let source = "
import pyarrow as pa
def f():
    n = 600_000
    numbers = pa.array(range(n))
    return pa.table({
        'n': numbers, 'half': pa.array([None if i % 7 == 0 else i / 2 for i in range(n)], pa.float32()),
        'text': pa.array([f'row {i}' for i in range(n)]),
        'word': pa.array(['a', 'b', None] * (n // 3)).dictionary_encode(),
        'list': pa.array([[i] * (i % 4) for i in range(n)]),
        'pair': pa.array([{'x': i, 'y': str(i)} for i in range(n)]),
        'flag': pa.array([i % 2 == 0 for i in range(n)]),
        'view': pa.array([f'a long text of row {i}' for i in range(n)], pa.string_view()),
    })
";
    let first = answer(&functions, call(&environment, source)).await.0;
    for body in [
        "data",
        "data.slice(100_001, 300_000)",
        "pa.concat_tables([data.slice(400_000), data])",
        "data.drop(['view']).take(pa.array(range(0, 600_000, 3)))",
        "data.combine_chunks()",
    ] {
        let source = format!("import pyarrow as pa\ndef f(data):\n    return {body}\n");
        let arguments = vec![table("data", &first)];
        let next = answer(&functions, Invocation { arguments, ..call(&environment, &source) });
        let next = next.await.0;
        // A function that receives the table gets the rows that the first function computed.
        let source = format!(
            "import pyarrow as pa\ndef f(data, next):\n    next.validate(full=True)\n    \
             return next.equals({body})\n"
        );
        let arguments = vec![table("data", &first), table("next", &next)];
        holds(&functions, Invocation { arguments, ..ask(&environment, &source) }).await;
    }
    for body in ["data.to_pandas()", "pl.from_arrow(data.drop(['pair', 'view']))"] {
        let source = format!("import polars as pl, pandas\ndef f(data):\n    return {body}\n");
        let arguments = vec![table("data", &first)];
        let next = answer(&functions, Invocation { arguments, ..call(&environment, &source) });
        assert_eq!(next.await.0.rows(), 600_000, "{body}");
    }
}
