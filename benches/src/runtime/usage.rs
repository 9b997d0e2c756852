//! Metered processor time of single calls, compared with the kernel's total.

use std::time::Duration;

use headwater_functions::{Functions, Invocation};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::Outcome;
use crate::functions::{Bench, invocation};
use crate::report::Report;

const BUSY: &str = "import time\ndef f():\n    until = time.process_time() + 0.05\n    \
                     while time.process_time() < until:\n        pass\n    return True\n";
const CALLS: usize = 60;

/// Measures the metered processor time, and adds the result to the report.
pub async fn measure(report: &mut Report) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let bench = Bench { folder: folder.path().to_owned(), samples: CALLS };
    let functions = Functions::start(bench.options("lake")).await?;
    let bare = bench.environment(&functions, &[]).await?;
    let call = async |invocation: Invocation| -> Outcome<u64> {
        let (sink, _lines) = mpsc::channel(16);
        let outcome = functions.invoke(invocation, sink, CancellationToken::new()).await;
        outcome.returned?;
        Ok(outcome.usage.cpu_us)
    };
    for _ in 0..10 {
        call(invocation(&bare, "def f():\n    return True\n")).await?;
    }
    let total = async || functions.kernel_cpu_us().await.unwrap_or_default();
    let (before, mut sum) = (total().await, 0);
    for _ in 0..CALLS {
        sum += call(invocation(&bare, BUSY)).await?;
    }
    let kernels = Duration::from_micros(total().await.saturating_sub(before));
    let what = format!("sum of processor time over {CALLS} calls");
    report.ratio(&what, Duration::from_micros(sum), ("the kernel's total", kernels), 1.01);
    Ok(())
}
