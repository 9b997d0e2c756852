//! Calls of functions: tables in and out, prints, errors, limits.

use std::sync::Arc;
use std::time::Duration;

use crate::support::{
    answer, ask, call, environment, holds, not_checked, options, run, run_whole, start, table,
};
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use headwater_functions::{
    Argument, ArgumentValue, Error, FunctionResult, Functions, FunctionsOptions, Invocation,
    Limits, ResultKind, SharedTable, TableQuota,
};
use headwater_model::{LogStream, ToProblem};
use tokio_util::sync::CancellationToken;

fn numbers(count: i64) -> SharedTable {
    let texts = StringArray::from_iter_values((0..count).map(|n| n.to_string()));
    let batch = RecordBatch::try_from_iter([
        ("n", Arc::new(Int64Array::from_iter_values(0..count)) as ArrayRef),
        ("s", Arc::new(texts) as ArrayRef),
    ])
    .unwrap();
    SharedTable::write(batch.schema(), [Ok(batch)]).unwrap()
}

fn sum(table: &SharedTable, column: usize) -> i64 {
    let values = table.mapped().unwrap();
    values
        .iter()
        .flat_map(|batch| batch.column(column).as_primitive::<Int64Type>().iter().flatten())
        .sum()
}

#[tokio::test]
async fn a_function_returns_a_table_with_its_usage() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let source = "import pyarrow as pa\ndef f():\n    return pa.table({'x': [1, 2, 3]})\n";
    let (table, outcome) = answer(&functions, call(&environment, source)).await;
    assert_eq!((table.rows(), sum(&table, 0)), (3, 6));
    assert!(outcome.is_cold() && outcome.usage.wall_ms > 0 && outcome.usage.cpu_us > 1000);
    assert!(outcome.usage.memory_bytes_peak > 1 << 20, "{:?}", outcome.usage);
}

#[tokio::test]
async fn inputs_are_mapped_and_not_copied() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let input = numbers(4_000_000);
    let source = "
import os
import pyarrow as pa

def f(data, scale):
    assert pa.total_allocated_bytes() == 0, pa.total_allocated_bytes()
    address = data.column('n').chunk(0).buffers()[1].address
    lines = open('/proc/self/maps').read().splitlines()
    lines = [line for line in lines if 'memfd:headwater-table' in line]
    spans = [[int(end, 16) for end in line.split()[0].split('-')] for line in lines]
    assert any(start <= address < end for start, end in spans), (address, spans)
    return pa.table({'rows': [data.num_rows * scale]})
";
    let mut invocation = call(&environment, source);
    let scale = Argument { name: "scale".to_owned(), value: ArgumentValue::Json(2.into()) };
    invocation.arguments = vec![table("data", &input), scale];
    let (output, _) = answer(&functions, invocation).await;
    assert_eq!(sum(&output, 0), 8_000_000);
}

#[tokio::test]
async fn every_supported_table_type_is_returned() {
    let functions = start().await;
    let environment =
        environment(&functions, &[("pandas", "2.3"), ("polars", "1.38.1"), ("numpy", "2.3")]).await;
    let input = numbers(10);
    for body in [
        "data",
        "data.to_batches()[0]",
        "data.to_reader()",
        "data.to_pandas()",
        "data.to_pandas().groupby('n').count()",
        "pl.from_arrow(data)",
        "pl.from_arrow(data).lazy().filter(pl.col('n') >= 0)",
        "data.to_pylist()",
        "data.slice(3, 0)",
        "pl.from_arrow(data).with_columns(pl.col('s').cast(pl.Categorical))",
    ] {
        let source = format!("import polars as pl\ndef f(data):\n    return {body}\n");
        let mut invocation = call(&environment, &source);
        invocation.arguments = vec![table("data", &input)];
        let (output, _) = answer(&functions, invocation).await;
        let rows = if body.contains("slice") { 0 } else { 10 };
        assert_eq!(output.rows(), rows, "{body}");
        assert_eq!(output.schema().fields().len(), 2, "{body}");
    }
}

#[tokio::test]
async fn return_values_that_are_not_tables_are_named() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    for (body, named) in [
        ("None", "`None`"),
        ("{'a': 1}", "`dict`"),
        ("[]", "`f` returned a `list` that is not a table: an empty list has no columns"),
        ("[1]", "item 1 is `1` (int), but each item must be a dict"),
        ("[{'a': 1}, None]", "item 2 is `None` (NoneType), but each item must be a dict"),
        ("[{1: 1}]", "a row has the key `1` (int), but column names must be strings"),
        (
            "[{'a': 1, 'b': None}, {'b': 2}, {'b': 'x' * 99}]",
            "column `b` has `2` (int) in row 2, and `'xxx",
        ),
        ("[{'a': 1}, {'a': 1 << 70}]", "(int) in row 2, which does not fit in 64 bits"),
        ("[{'a': object()}]", "(object) in row 1, which cannot be converted: "),
        ("True", "`bool`"),
    ] {
        let source = format!("def f():\n    return {body}\n");
        let (outcome, _) = run(&functions, call(&environment, &source)).await;
        let error = outcome.unwrap_err();
        assert!(matches!(error, Error::NotATable { .. }), "{error:?}");
        assert!(error.to_string().contains(named), "{error}");
    }
    let (outcome, _) = run(&functions, ask(&environment, "def f():\n    return 'yes'\n")).await;
    assert_eq!(
        outcome.unwrap_err().to_string(),
        "`f` returned `str`, which is not `True` or `False`"
    );
}

#[tokio::test]
async fn an_empty_list_gets_a_hint() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let returned = |value: &str| format!("import pyarrow\n\ndef f():\n    return {value}\n");
    let (outcome, _) = run(&functions, call(&environment, &returned("[]"))).await;
    let hint = outcome.unwrap_err().hint().unwrap();
    let (_, works) = hint.split_once('`').unwrap();
    let works = works.trim_end_matches("`.");
    let (table, _) = answer(&functions, call(&environment, &returned(works))).await;
    assert_eq!((table.rows(), table.schema().fields().len()), (0, 1), "{works}");
}

#[tokio::test]
async fn decimals_of_python_have_a_type_that_no_value_changes() {
    let functions = start().await;
    let environment = environment(&functions, &[("pandas", "2.3")]).await;
    for (made, column) in [
        ("[{'a': Decimal('1.50')}, {'a': None}]", "Decimal128(38, 2)"),
        ("[{'a': Decimal('1234567.89')}]", "Decimal128(38, 2)"),
        ("pandas.DataFrame({'a': [Decimal('7'), None]})", "Decimal128(38, 0)"),
        ("pandas.DataFrame({'a': [Decimal('123456789.25')]})", "Decimal128(38, 2)"),
        ("pandas.DataFrame({'a': [[Decimal('1.5')], []]})", "List(Decimal128(38, 1))"),
        ("pandas.DataFrame({'a': [{'b': Decimal('1.5')}]})", "Struct(\"b\": Decimal128(38, 1))"),
        ("pyarrow.table({'a': pyarrow.array([1], pyarrow.decimal128(5, 2))})", "Decimal128(5, 2)"),
    ] {
        let source = format!(
            "from decimal import Decimal\nimport pandas, pyarrow\n\ndef f():\n    return {made}\n"
        );
        let (table, _) = answer(&functions, call(&environment, &source)).await;
        assert_eq!(table.schema().field(0).data_type().to_string(), column, "{made}");
    }
}

#[tokio::test]
async fn counting_processors_prints_nothing() {
    let functions = start().await;
    let environment = environment(&functions, &[("scikit-learn", "1.7")]).await;
    let source = "
import os

def f():
    from sklearn.cluster import KMeans
    from sklearn.neighbors import KNeighborsClassifier
    assert os.environ['OMP_NUM_THREADS'] == os.environ['LOKY_MAX_CPU_COUNT']
    rows = [[n, n % 3] for n in range(60)]
    kinds = [n % 2 for n in range(60)]
    KMeans(2, n_init=1).fit(rows)
    KNeighborsClassifier().fit(rows, kinds).predict(rows)
    return True
";
    for _ in 0..2 {
        let (outcome, lines) = run(&functions, ask(&environment, source)).await;
        assert!(matches!(outcome, Ok(FunctionResult::Bool(true))), "{outcome:?} {lines:?}");
        assert!(lines.is_empty(), "{lines:?}");
    }
}

#[tokio::test]
async fn unsupported_return_values_are_named() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    for (body, named) in [
        ("float('nan')", "`f` returned a `float` that cannot be stored: Out of range float"),
        ("{'a': {1, 2}}", "`f` returned a `set` that cannot be stored: JSON cannot represent it"),
        ("b'x'", "`f` returned a `bytes` that cannot be stored: JSON cannot represent it"),
    ] {
        let source = format!("def f():\n    return {body}\n");
        let invocation = Invocation { kind: ResultKind::Any, ..call(&environment, &source) };
        let error = run(&functions, invocation).await.0.unwrap_err();
        assert!(error.to_string().starts_with(named), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("JSON")), "{:?}", error.hint());
    }
    let large = call(&environment, "def f():\n    return 'x' * (64 << 20)\n");
    let large = Invocation { kind: ResultKind::Any, ..large };
    let error = run(&functions, large).await.0.unwrap_err();
    assert_eq!(error.to_string(), "`m` returned a value larger than the limit of 64 MiB as JSON");
    assert_eq!(error.hint().as_deref(), Some("Return a table, which can be larger."));
}

#[tokio::test]
async fn prints_arrive_with_file_and_line() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let source = "
import os, sys, subprocess, logging
logging.basicConfig(level=logging.INFO, format='%(message)s')

def f():
    print('one', 'two')
    print('three\\nfour', file=sys.stderr)
    logging.info('logged')
    print('10%\\r100%')
    os.write(1, b'native\\n')
    subprocess.run(['/bin/sh', '-c', 'echo child'], check=True)
    print('no end', end='')
    return True
";
    let (outcome, lines) = run(&functions, ask(&environment, source)).await;
    outcome.unwrap();
    let printed = |stream, line: u32, text: &str| {
        let file = Some("models/m.py".to_owned());
        let wanted = (stream, file, Some(line), text.to_owned());
        assert!(lines.contains(&wanted), "{wanted:?} is not in {lines:#?}");
    };
    printed(LogStream::Stdout, 6, "one two");
    printed(LogStream::Stderr, 7, "three");
    printed(LogStream::Stderr, 7, "four");
    printed(LogStream::Stderr, 8, "logged");
    printed(LogStream::Stdout, 9, "100%");
    printed(LogStream::Stdout, 12, "no end");
    for text in ["native", "child"] {
        assert!(lines.contains(&(LogStream::Stdout, None, None, text.to_owned())), "{lines:#?}");
    }
}

#[tokio::test]
async fn the_output_of_a_function_is_limited() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let source = "
import os
def f():
    for _ in range(300):
        print('x' * 400_000)
        os.write(2, b'y' * 1000 + b'\\n')
    return True
";
    let (outcome, lines) = run(&functions, ask(&environment, source)).await;
    outcome.unwrap();
    let bytes: usize = lines.iter().map(|line| line.3.len()).sum();
    assert!(bytes <= 65 << 20, "{bytes} bytes");
    let remark = lines.iter().filter(|line| line.0 == LogStream::System).count();
    assert_eq!(remark, 1);
}

#[tokio::test]
async fn an_exception_shows_the_users_own_frames() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let source = "
import json
def deeper(text):
    return json.loads(text)

def f():
    return deeper('{')
";
    let (outcome, _) = run(&functions, call(&environment, source)).await;
    let Err(Error::FunctionRaised { exception, message, frames, .. }) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(exception, "json.decoder.JSONDecodeError");
    assert!(message.starts_with("Expecting property name"), "{message}");
    let seen: Vec<_> = frames
        .iter()
        .map(|frame| {
            (frame.file.as_str(), frame.line, frame.function.as_str(), frame.source.as_str())
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("models/m.py", 7, "f", "return deeper('{')"),
            ("models/m.py", 4, "deeper", "return json.loads(text)"),
        ]
    );
}

#[tokio::test]
async fn errors_at_import_say_where_and_what_to_do() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let check = async |source: &str, exception: &str, line: u32, hint: Option<&str>| {
        let (outcome, _) = run(&functions, call(&environment, source)).await;
        let Err(Error::FunctionRaised { exception: found, frames, hint: advice, .. }) = outcome
        else {
            panic!("{outcome:?}")
        };
        assert_eq!(found, exception);
        assert_eq!(frames.last().map(|frame| frame.line), Some(line).filter(|line| *line > 0));
        assert_eq!(advice.as_deref(), hint);
    };
    check("x = 1\ndef f(:\n", "SyntaxError", 2, None).await;
    let hint = "Add `\"scikit-learn\"` to `pip={...}` in the function's `@headwater.python`.";
    check("\nimport sklearn\n", "ModuleNotFoundError", 2, Some(hint)).await;
    check("def g(): pass\n", "AttributeError", 0, None).await;
    check("def f():\n    raise SystemExit(3)\n", "SystemExit", 2, None).await;
}

#[tokio::test]
async fn modules_of_the_project_and_the_sdk_can_be_imported() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let source = "
import headwater
from helpers import seven
from shared.names import NAME

@headwater.expectation()
@headwater.python('3.11', pip={'polars': '1.38'})
def f(data=headwater.Model('flights')):
    return seven() == 7 and NAME == 'n' and data == 5
";
    let mut invocation = ask(&environment, source);
    let files = Arc::make_mut(&mut invocation.files);
    files.insert("models/helpers.py".to_owned(), "def seven():\n    return 7\n".into());
    files.insert("shared/names.py".to_owned(), "NAME = 'n'\n".into());
    invocation.arguments =
        vec![Argument { name: "data".to_owned(), value: ArgumentValue::Json(5.into()) }];
    holds(&functions, invocation).await;
}

#[tokio::test]
async fn a_timeout_error_contains_the_line_that_was_running() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    // The packages are imported first, because the import counts towards the time limit.
    holds(&functions, ask(&environment, "def f():\n    return True\n")).await;
    let timeout = Duration::from_secs(3);
    let limits = Limits { timeout, ..Limits::default() };
    let source = "def f():\n    while True:\n        pass\n";
    let invocation = Invocation { limits: limits.clone(), ..call(&environment, source) };
    let (outcome, _) = run(&functions, invocation).await;
    let Err(Error::TimeLimit { frames, limit, .. }) = outcome else { panic!("{outcome:?}") };
    assert_eq!((limit, frames[0].file.as_str()), (timeout, "models/m.py"));

    let stubborn = "
import signal, time
def f():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(1000)
";
    let invocation = Invocation { limits, ..call(&environment, stubborn) };
    let started = std::time::Instant::now();
    let (outcome, _) = run(&functions, invocation).await;
    assert!(matches!(outcome, Err(Error::TimeLimit { .. })), "{outcome:?}");
    assert!(started.elapsed() < Duration::from_secs(60));
}

#[tokio::test]
async fn usage_is_reported_for_every_outcome() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let work = "held = bytes(range(256)) * (64 << 12)\n    sum(range(3_000_000))";
    let busy = "while True: sum(range(1000))";
    for end in ["raise ValueError()", "import os; os._exit(3)", "return 7", busy] {
        let source = format!("def f():\n    {work}\n    {end}\n");
        let limits = Limits { timeout: Duration::from_secs(5), ..Limits::default() };
        let invocation = Invocation { limits, ..call(&environment, &source) };
        let (outcome, _) = run_whole(&functions, invocation).await;
        assert!(outcome.returned.is_err(), "{end}: {outcome:?}");
        let usage = outcome.usage;
        assert!(usage.cpu_us > 20_000 && usage.wall_ms > 20, "{end}: {usage:?}");
        assert!(usage.memory_bytes_peak > 64 << 20, "{end}: {usage:?}");
    }
}

#[tokio::test]
async fn out_of_memory_errors_contain_the_limit() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let limits = Limits { memory_bytes: 256 << 20, ..Limits::default() };
    let eater = "
def f():
    eaten = []
    while True:
        eaten.append(bytearray(16 << 20))
";
    let invocation = Invocation { limits: limits.clone(), ..call(&environment, eater) };
    let (outcome, _) = run(&functions, invocation).await;
    let Err(Error::MemoryLimit { limit, retried_with, used, .. }) = &outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!((*limit, *retried_with, *used > 100 << 20), (256 << 20, Some(512 << 20), true));
    let told = outcome.unwrap_err().to_string();
    let both = "its limit of 256 MiB and its retry limit of 512 MiB; it had used";
    assert!(told.contains(both), "{told}");

    let greedy = "def f():\n    return bytearray(1 << 50)\n";
    let invocation = Invocation { limits, ..call(&environment, greedy) };
    let (outcome, _) = run(&functions, invocation).await;
    assert!(matches!(outcome, Err(Error::MemoryLimit { .. })), "{outcome:?}");
}

#[tokio::test]
async fn a_call_out_of_memory_is_retried_once_with_a_notice() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let limits = Limits { memory_bytes: 256 << 20, ..Limits::default() };
    let source = "def f():\n    return len(bytearray(b'x') * (300 << 20)) > 0\n";
    let invocation = Invocation { limits, ..ask(&environment, source) };
    let (outcome, lines) = run_whole(&functions, invocation).await;
    assert!(outcome.returned.is_ok(), "{outcome:?}");
    let (stream, _, _, text) = &lines[0];
    assert!(*stream == LogStream::System && text.contains("`memory`"), "{lines:?}");
    assert!(text.contains("256 MiB") && text.contains("512 MiB"), "{text}");
    assert!(outcome.usage.memory_bytes_peak > 300 << 20, "{outcome:?}");
    assert_eq!((outcome.usage.calls, outcome.usage.retries), (2, 1));

    // With this option, all functions together have no memory for a larger second attempt.
    let small = FunctionsOptions { memory_bytes_total: 300 << 20, ..options() };
    let functions = Functions::start(small).await.unwrap();
    let limits = Limits { memory_bytes: 256 << 20, ..Limits::default() };
    let (outcome, lines) =
        run_whole(&functions, Invocation { limits, ..ask(&environment, source) }).await;
    assert!(matches!(outcome.returned, Err(Error::MemoryLimit { .. })), "{outcome:?}");
    assert!(lines.is_empty(), "{lines:?}");
}

#[tokio::test]
async fn yielded_rows_may_be_larger_than_memory() {
    let functions = start().await;
    let environment = environment(&functions, &[("pandas", "2.3"), ("numpy", "2.3")]).await;
    let folder = tempfile::tempdir().unwrap();
    let table_quota = TableQuota::new(32 << 20, folder.path().to_owned(), 1 << 30);
    let source = "
import pyarrow as pa
def f(data):
    for batch in data.to_batches():
        for part in range(75):
            yield pa.table({'n': batch.column(0), 'part': pa.array([part] * len(batch))})
";
    let rows = 250_000;
    let input = numbers(rows);
    let limits = Limits { memory_bytes: 200 << 20, ..Limits::default() };
    let invocation = Invocation {
        arguments: vec![table("data", &input)],
        quota: Some(table_quota.clone()),
        limits,
        ..call(&environment, source)
    };
    let (output, outcome) = answer(&functions, invocation).await;
    assert_eq!(output.rows(), 75 * rows as u64);
    assert!(output.bytes() > 280 << 20 && output.mapped().is_none(), "{}", output.bytes());
    assert!(outcome.usage.memory_bytes_peak <= 200 << 20, "{outcome:?}");
    assert!(table_quota.disk_bytes() > 250 << 20);
    // Another function reads the table in pieces.
    let source =
        "def f(data):\n    return sum(len(b) for b in data.to_batches()) == 75 * 250_000\n";
    let limits = Limits { memory_bytes: 200 << 20, ..Limits::default() };
    let arguments = vec![table("data", &output)];
    holds(&functions, Invocation { arguments, limits, ..ask(&environment, source) }).await;
    drop((output, outcome));
    assert_eq!(table_quota.disk_bytes(), 0);
}

#[tokio::test]
async fn yielded_tables_of_any_type_are_combined() {
    let functions = start().await;
    let environment =
        environment(&functions, &[("pandas", "2.3"), ("polars", "1.38.1"), ("numpy", "2.3")]).await;
    let input = numbers(10);
    for (body, wanted) in [
        ("yield data; yield data.to_pandas(); yield pl.from_arrow(data)", Ok(30)),
        ("yield [{'n': 1, 's': 'x'}]; yield data.slice(0, 0); yield data.to_batches()[0]", Ok(11)),
        ("yield data.to_reader()", Ok(10)),
        ("return iter([data, data])", Ok(20)),
        ("yield data.set_column(1, 's', data.column('s').dictionary_encode()); yield data", Ok(20)),
        ("yield data; yield data.select(['n'])", Err("does not have the columns of the first")),
        ("yield data.select(['n']); yield data", Err("which the first does not have")),
        ("yield data; yield None; yield data", Err("None")),
        ("yield from ()", Err("the generator yields nothing")),
        ("yield 7", Err("`int`")),
        ("yield data; raise KeyError('no')", Err("KeyError")),
    ] {
        let source = format!("import polars as pl\ndef f(data):\n    {body}\n");
        let mut invocation = call(&environment, &source);
        invocation.arguments = vec![table("data", &input)];
        match (run(&functions, invocation).await.0, wanted) {
            (Ok(FunctionResult::Table(table)), Ok(rows)) => {
                assert_eq!(table.rows(), rows, "{body}");
            }
            (Err(error), Err(named)) => assert!(error.to_string().contains(named), "{error}"),
            (outcome, _) => panic!("{body}: {outcome:?}"),
        }
    }
}

#[tokio::test]
async fn table_parts_that_do_not_match_only_cause_an_error() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let folder = tempfile::tempdir().unwrap();
    let send = "
import os, socket, json, pyarrow as pa
def part(table, said='part', seal=True):
    file = os.memfd_create('x', os.MFD_ALLOW_SEALING)
    with open(file, 'wb', closefd=False) as out, pa.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table)
    server = socket.socket(fileno=os.dup(3))
    socket.send_fds(server, [json.dumps({'said': said}).encode()], [file])
    return server.recv(64) if said == 'part' else b''
def f():
";
    for body in [
        "part(pa.table({'a': [1]})); part(pa.table({'b': ['x']})); part(pa.table({'a': [1]}), 'table'); \
         os._exit(0)",
        "assert part(pa.table({'a': [1]})) == b'next'; os._exit(0)",
        "big = pa.table({'a': list(range(100_000))})\n    while part(big) == b'next': pass\n    os._exit(0)",
    ] {
        let table_quota = TableQuota::new(1 << 20, folder.path().to_owned(), 2 << 20);
        let source = format!("{send}    {body}\n");
        let invocation =
            Invocation { quota: Some(table_quota.clone()), ..call(&environment, &source) };
        let (outcome, _) = run(&functions, invocation).await;
        let error = outcome.unwrap_err();
        let told = matches!(error, Error::BadOutput { .. } | Error::InstanceDied { .. })
            || headwater_model::ToProblem::code(&error) == headwater_model::ErrorCode::DiskFull;
        assert!(told, "{body}: {error:?}");
        assert_eq!(table_quota.disk_bytes(), 0);
    }
}

#[tokio::test]
async fn a_file_may_have_the_name_of_its_folder() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let mut invocation = ask(&environment, "");
    let source = "from helper import yes\ndef f():\n    return yes\n";
    let files = [("models/models.py", source), ("models/helper.py", "yes = True\n")];
    let files = files.map(|(path, text)| (path.to_owned(), text.into()));
    invocation.files = Arc::new(files.into());
    invocation.module = "models/models.py".to_owned();
    holds(&functions, invocation).await;
}

#[tokio::test]
async fn a_full_tmp_error_has_the_limit_and_the_usage() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let limits = Limits { temp_bytes: 8 << 20, ..Limits::default() };
    let source = "def f():\n    open('/tmp/x', 'wb').write(bytes(16 << 20))\n";
    let (outcome, _) = run(&functions, Invocation { limits, ..call(&environment, source) }).await;
    let error = outcome.unwrap_err();
    let Error::TempLimit { limit, used, ref frames, .. } = error else { panic!("{error:?}") };
    assert_eq!((limit, used > 7 << 20, frames[0].line), (8 << 20, true, 2));
    assert!(headwater_model::ToProblem::hint(&error).unwrap().contains("`tmp`"), "{error}");
    assert_eq!(headwater_model::ToProblem::code(&error).exit_code(), 6, "as every limit");
}

#[tokio::test]
async fn errors_of_open_files_and_threads_name_their_limits() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let files =
        "def f():\n    held = []\n    while True:\n        held.append(open('/dev/null'))\n";
    let (outcome, _) = run(&functions, call(&environment, files)).await;
    let hint = headwater_model::ToProblem::hint(&outcome.unwrap_err()).unwrap();
    assert!(hint.starts_with("Close unused files") && hint.contains("open at a time"), "{hint}");
    let threads = "def f():\n    raise RuntimeError(\"can't start new thread\")\n";
    let (outcome, _) = run(&functions, call(&environment, threads)).await;
    let hint = headwater_model::ToProblem::hint(&outcome.unwrap_err()).unwrap();
    assert!(hint.contains("at most 4,096"), "{hint}");
}

#[tokio::test]
async fn a_function_cannot_exceed_its_processor_limit() {
    let functions = start().await;
    if functions.warnings().iter().any(|warning| warning.contains("processors")) {
        return not_checked("no control group holds back a function's CPU time");
    }
    let environment = environment(&functions, &[]).await;
    let source = "
import time
def f():
    until = time.monotonic() + 1
    while time.monotonic() < until:
        pass
    return time.process_time() < 0.5
";
    let limits = Limits { cpu_millis: Some(200), ..Limits::default() };
    holds(&functions, Invocation { limits, ..ask(&environment, source) }).await;
}

#[tokio::test]
async fn environment_variables_belong_to_one_call_and_are_hidden() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let source = "
import os, subprocess
def f(value):
    shown = subprocess.run(['/bin/sh', '-c', 'printf %s \"$TOKEN\"'], capture_output=True).stdout
    return os.environ.get('TOKEN', '') == value == shown.decode()
";
    for value in ["first secret", "second secret", ""] {
        let variables = std::collections::BTreeMap::from([("TOKEN".to_owned(), value.to_owned())]);
        let limits = match value {
            "" => Limits::default(),
            _ => Limits { variables: variables.into(), ..Limits::default() },
        };
        assert!(!format!("{limits:?}").contains("secret"), "{limits:?}");
        let value = ArgumentValue::Json(value.into());
        let arguments = vec![Argument { name: "value".to_owned(), value }];
        holds(&functions, Invocation { limits, arguments, ..ask(&environment, source) }).await;
    }
}

#[tokio::test]
async fn a_crashed_process_reports_its_reason() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    for (body, reason) in [
        ("import os; os._exit(3)", "the process exited with code 3"),
        ("import os; os.kill(os.getpid(), 11)", "SIGSEGV"),
        ("import os; os.write(3, b'garbage'); os._exit(0)", "the process exited with code 0"),
    ] {
        let source = format!("def f():\n    {body}\n");
        let (outcome, _) = run(&functions, call(&environment, &source)).await;
        let error = outcome.unwrap_err();
        assert!(matches!(error, Error::InstanceDied { .. }), "{error:?}");
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[tokio::test]
async fn a_hostile_output_only_causes_an_error() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let source = "
import os, socket, json
def f():
    file = os.memfd_create('x', os.MFD_ALLOW_SEALING)
    os.write(file, b'ARROW1' + b'\\xff' * 4096 + b'ARROW1')
    socket.send_fds(socket.socket(fileno=3), [json.dumps({'said': 'table'}).encode()], [file])
    os._exit(0)
";
    let (outcome, _) = run(&functions, call(&environment, source)).await;
    assert!(matches!(outcome, Err(Error::BadOutput { .. })), "{outcome:?}");
}

#[tokio::test]
async fn a_call_can_be_cancelled() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let source = "import time\ndef f():\n    print('begun')\n    time.sleep(1000)\n";
    let (sink, mut lines) = tokio::sync::mpsc::channel(16);
    let cancel = CancellationToken::new();
    let invoked = functions.invoke(call(&environment, source), sink, cancel.clone());
    let cancelled = async {
        let begun = lines.recv().await;
        cancel.cancel();
        begun
    };
    let (outcome, begun) = tokio::join!(invoked, cancelled);
    assert!(begun.is_some());
    assert!(matches!(outcome.returned, Err(Error::Cancelled { .. })), "{outcome:?}");
    assert!(outcome.usage.cpu_us > 0 && outcome.usage.wall_ms > 0, "{outcome:?}");
}

#[tokio::test]
async fn concurrent_calls_do_not_exceed_the_limit() {
    let functions =
        Functions::start(FunctionsOptions { concurrency: 1, ..options() }).await.unwrap();
    let environment = environment(&functions, &[]).await;
    let source = "import time\ndef f():\n    time.sleep(0.3)\n    return True\n";
    let (one, other) = tokio::join!(
        run_whole(&functions, ask(&environment, source)),
        run_whole(&functions, ask(&environment, source))
    );
    let waited = one.0.usage.queue_ms.max(other.0.usage.queue_ms);
    assert!(waited >= 300, "{waited} ms");

    // Calls that failed or were cancelled also report their waiting time.
    let fails = "def f():\n    raise ValueError()\n";
    let (leaves, sink) = (CancellationToken::new(), tokio::sync::mpsc::channel(16).0);
    let gone = functions.invoke(ask(&environment, source), sink, leaves.clone());
    let (_, failed, gone, ()) = tokio::join!(
        run_whole(&functions, ask(&environment, source)),
        run_whole(&functions, ask(&environment, fails)),
        gone,
        async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            leaves.cancel();
        },
    );
    assert!(failed.0.returned.is_err() && failed.0.usage.queue_ms >= 250, "{failed:?}");
    assert!(gone.returned.is_err() && gone.usage.queue_ms >= 100, "{gone:?}");
    assert_eq!((failed.0.usage.calls, gone.usage.calls), (1, 0));
}

#[tokio::test]
async fn numpys_and_arrows_booleans_are_booleans() {
    let functions = start().await;
    for numpy in ["1.26", "2.3"] {
        let environment = environment(&functions, &[("numpy", numpy)]).await;
        for body in ["numpy.array([1, 2]).all()", "pyarrow.scalar(True)"] {
            let source = format!("import numpy, pyarrow\ndef f():\n    return {body}\n");
            holds(&functions, ask(&environment, &source)).await;
        }
    }
}

#[tokio::test]
async fn processes_that_a_function_starts_behave_normally() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let spawned = |kind: &str| {
        format!(
            "
import concurrent.futures, multiprocessing
def double(n):
    return 2 * n
def f():
    context = multiprocessing.get_context('{kind}')
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return list(pool.map(double, [1, 2])) == [2, 4]
"
        )
    };
    let forked = "
import os
def f():
    pid = os.fork()
    if pid == 0:
        raise ValueError('of the child')
    return os.waitpid(pid, 0)[1] == 256
";
    for source in [spawned("spawn"), spawned("forkserver"), forked.to_owned()] {
        let (outcome, lines) = run_whole(&functions, ask(&environment, &source)).await;
        assert!(
            matches!(outcome.returned, Ok(FunctionResult::Bool(true))),
            "{outcome:?} {lines:?}"
        );
        let told = |text: &str| lines.iter().any(|(_, _, _, line)| line.contains(text));
        assert_eq!(told("ValueError: of the child"), source == forked, "{lines:?}");
    }
}
