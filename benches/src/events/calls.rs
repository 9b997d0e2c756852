//! Synchronous calls of a warm no-op function through Lambda's API.

use std::time::Duration;

use super::lake::{LakeServer, any_key, expect, invoke};
use super::ministack::MiniStack;
use crate::Outcome;
use crate::call_throughput::{CALLERS, RATE_MIN, run};
use crate::invoke::Connection;
use crate::report::{Report, duration};
use crate::sample::{median, percentile, wait_until_quiet};

const CALLS: usize = 2_000;

/// Number of calls to the emulator. The number is small, because the emulator needs tens of
/// milliseconds for each call.
const REFERENCE_CALLS: usize = 100;

/// Numbers of concurrent callers for which the emulator is measured, too.
const REFERENCE_CALLERS: [usize; 2] = [1, 16];

/// Measures sequential calls on one connection, and adds the latency to the report.
pub(super) fn latency(
    report: &mut Report,
    lake: &LakeServer<'_>,
    stack: &MiniStack,
) -> Outcome<()> {
    let request = lake.invoke("nothing", "");
    let mut connection = lake.server.connect()?;
    for _ in 0..20 {
        expect(200, &mut connection, &request)?;
    }
    wait_until_quiet()?;
    let (mut taken, mut round_trips) = (Vec::new(), Vec::new());
    for _ in 0..CALLS {
        taken.push(expect(200, &mut connection, &request)?);
        round_trips.push(connection.request("GET", "/health", "")?);
    }
    let request = any_key().sign(stack.address(), &invoke("nothing", ""));
    let mut connection = stack.connect()?;
    let calls = (0..REFERENCE_CALLS).map(|_| expect(200, &mut connection, &request));
    let reference = median(calls.collect::<Outcome<Vec<_>>>()?);
    let round_trip = median(round_trips);
    let name = format!("GET /health {}, MiniStack {}", duration(round_trip), duration(reference));
    let millis = Duration::from_millis;
    let bounds = (millis(1) + round_trip, millis(5) + round_trip);
    report.spread("warm call through Lambda's API", &taken, &name, bounds);
    Ok(())
}

/// Measures concurrent callers, and adds the calls per second to the report.
pub(super) fn rates(report: &mut Report, lake: &LakeServer<'_>, stack: &MiniStack) -> Outcome<()> {
    let request = lake.invoke("nothing", "");
    let other = any_key().sign(stack.address(), &invoke("nothing", ""));
    for callers in CALLERS {
        wait_until_quiet()?;
        let call = |connection: &mut Connection| expect(200, connection, &request);
        let (rate, latencies) = run(callers, || lake.server.connect(), call)?;
        let reference = if REFERENCE_CALLERS.contains(&callers) {
            let call = |connection: &mut Connection| expect(200, connection, &other);
            let (rate, _) = run(callers, || stack.connect(), call)?;
            format!("; MiniStack {rate:.0} /s")
        } else {
            String::new()
        };
        let at = |share| duration(percentile(&latencies, share));
        report.plain(
            &format!("warm calls through Lambda's API, callers: {callers}"),
            &format!("{rate:.0} /s"),
            &format!("p50 {}, p99 {}{reference}", at(50), at(99)),
            &format!("at least {RATE_MIN} /s"),
        );
    }
    Ok(())
}
