//! Inputs that a reused process still holds after its call: the process is ended, either
//! immediately or, if its inputs are small, after a few calls.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use headwater_functions::{Invocation, SharedTable};

use crate::support::{environment, start, table};
use crate::warm::{again, answers};

/// The memory of inputs belongs to the server and does not count towards the function's limit.
#[tokio::test]
async fn a_process_that_keeps_its_inputs_is_not_reused() {
    let functions = start().await;
    let environment = environment(&functions, &[("numpy", "2.3")]).await;
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100_000));
    let batch = RecordBatch::try_from_iter([("n", numbers)]).unwrap();
    let input = SharedTable::write(batch.schema(), [Ok(batch)]).unwrap();
    for (what, keeps, goes_on) in [
        ("nothing", "data.num_rows", true),
        ("the table", "KEPT.append(data)", false),
        ("a column, seen by numpy", "KEPT.append(data.column('n').chunk(0).to_numpy())", false),
        ("its file", "KEPT.append(keep_open())", false),
        ("a socket that it may be in", "KEPT.append(__import__('socket').socketpair())", false),
    ] {
        let source = format!(
            "
import os
KEPT = []
CALLS = []
def keep_open():
    for name in os.listdir('/proc/self/fd'):
        try:
            path = os.readlink(f'/proc/self/fd/{{name}}')
        except OSError:
            continue
        if 'table' in path:
            return os.open(f'/proc/self/fd/{{name}}', os.O_RDONLY)
    for line in open('/proc/self/maps'):
        if 'table' in line:
            return os.open('/proc/self/map_files/' + line.split()[0], os.O_RDONLY)
def f(data):
    CALLS.append(1)
    assert data.num_rows == 100_000
    try:
        {keeps}
    except PermissionError:
        KEPT.append(data)
    return len(CALLS) > 1
"
        );
        let call = || Invocation {
            arguments: vec![table("data", &input)],
            ..again(&environment, &source)
        };
        assert!(!answers(&functions, call()).await.0);
        assert_eq!(answers(&functions, call()).await.0, goes_on, "{what}");
    }
}

/// Small inputs of several calls are checked together. Until then they remain charged.
#[tokio::test]
async fn a_process_that_keeps_small_inputs_is_reused_until_they_exceed_a_limit() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..10_000));
    let batch = RecordBatch::try_from_iter([("n", numbers)]).unwrap();
    let input = SharedTable::write(batch.schema(), [Ok(batch)]).unwrap();
    let source = |keeps: &str| {
        format!(
            "KEPT = []\nCALLS = []\ndef f(data):\n    CALLS.append(1)\n    \
             if len(CALLS) > 1:\n        {keeps}\n    return len(CALLS) > 1\n"
        )
    };
    for (keeps, ends) in [("KEPT.append(data)", true), ("data.num_rows", false)] {
        let source = source(keeps);
        let mut warm = Vec::new();
        for _ in 0..8 {
            let arguments = vec![table("data", &input)];
            let call = Invocation { arguments, ..again(&environment, &source) };
            let (found, outcome, _) = answers(&functions, call).await;
            assert!(outcome.usage.cpu_us > 0 && outcome.usage.bytes_in >= 80_000, "{outcome:?}");
            warm.push(found);
        }
        // The first call is cold. If the function keeps its inputs, a later call is cold too: the
        // process ends when the kept inputs exceed 256 KiB.
        let cold = [0, 5].into_iter().filter(|call| *call == 0 || ends);
        let cold: Vec<usize> = cold.collect();
        let expected: Vec<bool> = (0..8).map(|call| !cold.contains(&call)).collect();
        assert_eq!(warm, expected, "{keeps}");
    }
}
