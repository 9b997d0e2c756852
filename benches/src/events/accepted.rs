//! Asynchronous calls, events and messages per second, all of which are durable before they are
//! accepted. The reference is the number of `fdatasync` calls per second on the same disk in the
//! same run.

use std::fmt::Write as _;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::lake::{LakeServer, any_key, expect, invoke};
use super::ministack::MiniStack;
use super::signing::UnsignedRequest;
use crate::Outcome;
use crate::call_throughput::run;
use crate::commands::{self, headwater};
use crate::invoke::Connection;
use crate::report::{Report, duration};
use crate::sample::{SyncProbe, median, wait_until_quiet};

const CALLERS: usize = 64;
const SYNCS: usize = 1_000;
const EVENT: &str = "x-amz-invocation-type: Event\r\n";

/// Clients that send events in batches, and the number of events in a batch.
const BATCH_CLIENTS: usize = 4;
const BATCH_EVENTS: u64 = 500;

/// The number of clients that send messages, and the number of messages in a request, which is the
/// limit of SQS.
const SENDERS: usize = 16;
const MESSAGES: u64 = 10;

/// Minimum ratio of the accepted events per second to the serial `fdatasync` calls per second.
const RATIO_MIN: f64 = 12.0;

/// The rate of serial `fdatasync` calls.
struct SerialSyncRate {
    rate: f64,
    median: Duration,
}

impl SerialSyncRate {
    fn measure(lake: &LakeServer<'_>) -> Outcome<Self> {
        wait_until_quiet()?;
        let mut probe = SyncProbe::new(lake.folder)?;
        let began = Instant::now();
        let syncs = (0..SYNCS).map(|_| probe.sample()).collect::<std::io::Result<Vec<_>>>()?;
        let rate = SYNCS as f64 / began.elapsed().as_secs_f64();
        Ok(SerialSyncRate { rate, median: median(syncs) })
    }

    /// Adds the rate of accepted events to the report, with its ratio to the rate of `fdatasync`
    /// calls.
    fn add(&self, report: &mut Report, case: &Case<'_>, accepted: &AcceptRate) {
        let Case { what, more, is_bound } = case;
        let (rate, serial, median) = (accepted.rate, self.rate, duration(self.median));
        let bound = format!("at least {RATIO_MIN:.0} × fdatasync");
        report.plain(
            what,
            &format!("{rate:.0} /s"),
            &format!(
                "{:.1} × the {serial:.0} /s of serial fdatasync ({median}); rejected by the full \
                 queue: {}{more}",
                rate / serial,
                accepted.rejected
            ),
            if *is_bound { &bound } else { "" },
        );
    }
}

/// A measurement: its name, its parameters, and true if the bound applies to it.
struct Case<'a> {
    what: &'a str,
    more: String,
    is_bound: bool,
}

/// Accepted events per second, and the number of rejected events.
struct AcceptRate {
    rate: f64,
    rejected: u64,
}

/// Measures the accepted calls, events and messages per second, and adds the rates to the report.
pub(super) fn rate(report: &mut Report, lake: &LakeServer<'_>, stack: &MiniStack) -> Outcome<()> {
    let serial = SerialSyncRate::measure(lake)?;
    messages(report, lake, &serial)?;
    deploy_waiting(lake)?;
    let counter = AtomicU64::new(0);
    for (function, what) in [
        ("waiting", "durable events in batches, function waits"),
        ("nothing", "durable events in batches, function is called"),
    ] {
        wait_until_quiet()?;
        let request = || batch(lake, function, &counter);
        let accepted = accept(BATCH_CLIENTS, BATCH_EVENTS, || lake.server.connect(), request)?;
        let more = format!("; clients: {BATCH_CLIENTS}, events in a request: {BATCH_EVENTS}");
        serial.add(report, &Case { what, more, is_bound: true }, &accepted);
    }
    let request = lake.invoke("nothing", EVENT);
    let accepted = accept(CALLERS, 1, || lake.server.connect(), || request.clone())?;
    let other = any_key().sign(stack.address(), &invoke("nothing", EVENT));
    let reference = accept(CALLERS, 1, || stack.connect(), || other.clone())?;
    let what = format!("durable events, one in a request, callers: {CALLERS}");
    let more = format!("; MiniStack, not durable, {:.0} /s", reference.rate);
    serial.add(report, &Case { what: &what, more, is_bound: false }, &accepted);
    Ok(())
}

/// Returns a request with new events.
fn batch(lake: &LakeServer<'_>, function: &str, counter: &AtomicU64) -> Vec<u8> {
    let first = counter.fetch_add(BATCH_EVENTS, Ordering::Relaxed);
    let mut body = String::with_capacity(BATCH_EVENTS as usize * 200);
    for number in first..first + BATCH_EVENTS {
        let start = if number == first { '[' } else { ',' };
        // Writing to a string cannot fail.
        let _ = write!(
            body,
            "{start}{{\"specversion\":\"1.0\",\"id\":\"order-{number}\",\"source\":\"/shop\",\
             \"type\":\"shop.ordered\",\"data\":{{\"id\":{number},\"product\":\"tea\",\
             \"amount\":3,\"price\":4.5}}}}"
        );
    }
    body.push(']');
    format!(
        "POST /v1/functions/{function}/events HTTP/1.1\r\nhost: localhost\r\n\
         authorization: Bearer {}\r\ncontent-type: application/cloudevents-batch+json\r\n\
         content-length: {}\r\n\r\n{body}",
        lake.server.token(),
        body.len()
    )
    .into_bytes()
}

/// Deploys the function `waiting`, which is not called because its concurrency is 0. Its events
/// stay in the queue, so that no calls affect the measurement.
fn deploy_waiting(lake: &LakeServer<'_>) -> Outcome<()> {
    let folder = lake.folder.join("waiting");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("app.py"), "def handler(event, context):\n    return True\n")?;
    let mut command = headwater(lake.folder);
    command.args(["function", "deploy", "waiting"]).arg(&folder);
    command.args(["--handler", "app.handler", "--runtime", "python3.11"]);
    commands::run(command.stdin(Stdio::null()))?;
    let request = UnsignedRequest {
        service: "lambda",
        method: "PUT",
        path: "/2017-10-31/functions/waiting/concurrency",
        headers: "content-type: application/json\r\n",
        body: r#"{"ReservedConcurrentExecutions":0}"#,
    };
    let request = lake.key.sign(lake.server.address(), &request);
    expect(200, &mut lake.server.connect()?, &request).map(drop)
}

/// Measures the messages per second that a queue accepts from `SendMessageBatch`.
fn messages(report: &mut Report, lake: &LakeServer<'_>, serial: &SerialSyncRate) -> Outcome<()> {
    let create = sqs(lake, "CreateQueue", r#"{"QueueName":"bench"}"#);
    expect(200, &mut lake.server.connect()?, &create)?;
    let entry =
        |id: u64| format!(r#"{{"Id":"{id}","MessageBody":"{{\"id\":{id},\"product\":\"tea\"}}"}}"#);
    let entries: Vec<String> = (0..MESSAGES).map(entry).collect();
    let url = format!("http://{}/000000000000/bench", lake.server.address());
    let body = format!(r#"{{"QueueUrl":"{url}","Entries":[{}]}}"#, entries.join(","));
    let request = sqs(lake, "SendMessageBatch", &body);
    wait_until_quiet()?;
    let accepted = accept(SENDERS, MESSAGES, || lake.server.connect(), || request.clone())?;
    let what = format!("durable messages by SendMessageBatch, clients: {SENDERS}");
    let more = format!("; messages in a request: {MESSAGES}");
    serial.add(report, &Case { what: &what, more, is_bound: false }, &accepted);
    Ok(())
}

fn sqs(lake: &LakeServer<'_>, operation: &str, body: &str) -> Vec<u8> {
    let headers = format!(
        "content-type: application/x-amz-json-1.0\r\nx-amz-target: AmazonSQS.{operation}\r\n"
    );
    let request =
        UnsignedRequest { service: "sqs", method: "POST", path: "/", headers: &headers, body };
    lake.key.sign(lake.server.address(), &request)
}

/// Sends requests with `count` events each from several clients.
fn accept(
    clients: usize,
    count: u64,
    connect: impl Fn() -> Outcome<Connection> + Sync,
    request: impl Fn() -> Vec<u8> + Sync,
) -> Outcome<AcceptRate> {
    let rejected = AtomicU64::new(0);
    let call = |connection: &mut Connection| -> Outcome<Duration> {
        let (status, answer, taken) = connection.exchange(&request())?;
        match status {
            200 | 202 => Ok(taken),
            429 => {
                rejected.fetch_add(1, Ordering::Relaxed);
                Ok(taken)
            }
            _ => Err(format!("status {status}: {}", String::from_utf8_lossy(&answer)).into()),
        }
    };
    let (rate, latencies) = run(clients, connect, call)?;
    let rejected = rejected.into_inner();
    let share = 1.0 - rejected as f64 / latencies.len().max(1) as f64;
    Ok(AcceptRate { rate: rate * share * count as f64, rejected: rejected * count })
}
