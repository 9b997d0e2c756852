//! Asynchronous calls, which are durable before they are accepted, compared with the number of
//! `fdatasync` calls per second on the same disk.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::lake::{Lake, any_key, invoke};
use super::ministack::MiniStack;
use crate::Outcome;
use crate::callers::{TIME, run};
use crate::invoke::Connection;
use crate::report::Report;
use crate::sample::{SyncProbe, median, wait_until_quiet};

const CALLERS: usize = 64;
const SYNCS: usize = 1_000;
const EVENT: &str = "x-amz-invocation-type: Event\r\n";

/// Bound on the number of events that are accepted in the time of one `fdatasync`.
const RATIO_MIN: f64 = 12.0;

/// Adds the accepted events per second.
pub(super) fn rate(report: &mut Report, lake: &Lake<'_>, stack: &MiniStack) -> Outcome<()> {
    wait_until_quiet()?;
    let mut probe = SyncProbe::new(lake.folder)?;
    let began = Instant::now();
    let syncs = (0..SYNCS).map(|_| probe.sample()).collect::<std::io::Result<Vec<_>>>()?;
    let serial = SYNCS as f64 / began.elapsed().as_secs_f64();
    let request = lake.invoke("nothing", EVENT);
    let (rate, rejected) = accept(|| lake.server.connect(), &request)?;
    let other = any_key().sign(stack.address(), &invoke("nothing", EVENT));
    let (reference, _) = accept(|| stack.connect(), &other)?;
    let median = crate::report::duration(median(syncs));
    report.plain(
        &format!("durable events accepted, callers: {CALLERS}"),
        &format!("{rate:.0} /s"),
        &format!(
            "{:.1} × the {serial:.0} /s of serial fdatasync ({median}); rejected by the full queue: \
             {rejected}; MiniStack, not durable, {reference:.0} /s",
            rate / serial
        ),
        &format!("at least {RATIO_MIN:.0} × fdatasync"),
    );
    Ok(())
}

/// Returns the accepted events per second, and the number of rejected events.
fn accept(connect: impl Fn() -> Outcome<Connection> + Sync, request: &[u8]) -> Outcome<(f64, u64)> {
    let rejected = AtomicU64::new(0);
    let call = |connection: &mut Connection| -> Outcome<Duration> {
        let (status, answer, taken) = connection.exchange(request)?;
        match status {
            202 => Ok(taken),
            429 => {
                rejected.fetch_add(1, Ordering::Relaxed);
                Ok(taken)
            }
            _ => Err(format!("status {status}: {}", String::from_utf8_lossy(&answer)).into()),
        }
    };
    let (_, latencies) = run(CALLERS, connect, call)?;
    let rejected = rejected.into_inner();
    let accepted = latencies.len() as u64 - rejected;
    Ok((accepted as f64 / TIME.as_secs_f64(), rejected))
}
