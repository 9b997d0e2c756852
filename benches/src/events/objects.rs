//! Objects that call a function: the time from the put to the handler, and the time of a burst of
//! objects until all their rows are in a table.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::lake::{BUCKET, LakeServer, any_key, expect};
use super::ministack::MiniStack;
use super::signing::{Key, UnsignedRequest};
use crate::Outcome;
use crate::invoke::Connection;
use crate::report::{Report, duration};
use crate::sample::{SyncProbe, median, wait_until_quiet};

const PUTS: usize = 200;
const UPLOADERS: usize = 16;

/// Maximum number of files for the emulator, which needs 10 ms for each call.
const REFERENCE_FILES_MAX: usize = 1_000;

/// Time without progress after which a burst has failed.
const STALLED: Duration = Duration::from_secs(120);

/// Measures the time from the start of a put to the first line of the handler.
pub(super) fn latency(
    report: &mut Report,
    lake: &LakeServer<'_>,
    stack: &MiniStack,
) -> Outcome<()> {
    wait_until_quiet()?;
    let mut probe = SyncProbe::new(lake.folder)?;
    let mut connection = Connection::open(&lake.s3, "")?;
    let (mut sent, mut syncs) = (Vec::new(), Vec::new());
    for index in 0..PUTS {
        syncs.push(probe.sample()?);
        let request = put(&lake.key, &lake.s3, &format!("latency-{index:04}"), index);
        sent.push(now()?);
        expect(200, &mut connection, &request)?;
        // Wait, so that the commit of one call does not overlap the next put.
        std::thread::sleep(Duration::from_millis(60));
    }
    let started = lake_times(lake)?;
    let taken = differences(&sent, &started)?;
    let mut connection = stack.connect()?;
    let mut sent = Vec::new();
    let before = stack.handled().len();
    for index in 0..PUTS {
        let request = put(&any_key(), stack.address(), &format!("latency-{index:04}"), index);
        sent.push(now()?);
        expect(200, &mut connection, &request)?;
        std::thread::sleep(Duration::from_millis(60));
    }
    wait_for(before + PUTS, || Ok(stack.handled().len()))?;
    let reference = differences(&sent, &stack.handled()[before..])?;
    let sync = median(syncs);
    let name = format!("fdatasync {}, MiniStack {}", duration(sync), duration(median(reference)));
    let millis = Duration::from_millis;
    report.spread("put of an object to its handler", &taken, &name, (millis(5) + sync, millis(50)));
    Ok(())
}

/// Measures the time of a burst: from the first put until the table has the rows of all objects.
pub(super) fn burst(
    report: &mut Report,
    lake: &LakeServer<'_>,
    stack: &MiniStack,
    files: usize,
) -> Outcome<()> {
    wait_until_quiet()?;
    let before = rows(lake)?;
    let endpoint = Endpoint { key: &lake.key, address: &lake.s3 };
    let handled = || Ok(rows(lake)?.saturating_sub(before));
    let (uploaded, taken) = upload_and_wait(endpoint, files, handled)?;
    let doubled = lake.query("SELECT count(*) - count(DISTINCT key) AS n FROM readings")?;
    if doubled[0]["n"] != 0 {
        return Err(format!("rows are not in the table exactly once: {doubled}").into());
    }
    let some = files.min(REFERENCE_FILES_MAX);
    let before = stack.handled().len();
    let key = any_key();
    let endpoint = Endpoint { key: &key, address: stack.address() };
    let handled = || Ok(stack.handled().len() - before);
    let (_, reference) = upload_and_wait(endpoint, some, handled)?;
    let each = |count: usize, taken: Duration| count as f64 / taken.as_secs_f64();
    report.plain(
        &format!("burst of {files} files, rows in a table"),
        &duration(taken),
        &format!(
            "{:.0} files/s, uploaded in {}; MiniStack, without a table, {:.0} files/s of {some}",
            each(files, taken),
            duration(uploaded),
            each(some, reference)
        ),
        "each row exactly once",
    );
    Ok(())
}

/// Puts one object, and waits until its rows are in the table.
pub(super) fn put_and_wait(lake: &LakeServer<'_>, name: &str) -> Outcome<()> {
    let mut connection = Connection::open(&lake.s3, "")?;
    expect(200, &mut connection, &put(&lake.key, &lake.s3, name, 0))?;
    wait_for(1, || rows(lake))
}

/// An S3 endpoint, and the key for it.
struct Endpoint<'a> {
    key: &'a Key,
    address: &'a str,
}

/// Puts files from several connections. Returns the time of the uploads, and the time until all
/// files are handled.
fn upload_and_wait(
    Endpoint { key, address }: Endpoint<'_>,
    files: usize,
    handled: impl Fn() -> Outcome<usize>,
) -> Outcome<(Duration, Duration)> {
    let (next, began) = (AtomicUsize::new(0), Instant::now());
    let upload = || -> Outcome<()> {
        let mut connection = Connection::open(address, "")?;
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= files {
                return Ok(());
            }
            let request = put(key, address, &format!("burst-{index}"), index);
            expect(200, &mut connection, &request)?;
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..UPLOADERS).map(|_| scope.spawn(upload)).collect();
        let ended = threads.into_iter().map(|thread| thread.join());
        ended.into_iter().try_for_each(|ended| ended.map_err(|_| "an upload panicked")?)
    })?;
    let uploaded = began.elapsed();
    wait_for(files, handled)?;
    Ok((uploaded, began.elapsed()))
}

/// Returns a request that puts an object.
fn put(key: &Key, address: &str, name: &str, value: usize) -> Vec<u8> {
    let path = format!("/{BUCKET}/{name}.csv");
    let body = format!("file,value\n{name},{value}\n{name},\n");
    let request =
        UnsignedRequest { service: "s3", method: "PUT", path: &path, headers: "", body: &body };
    key.sign(address, &request)
}

/// Waits until a count is reached. A count that does not grow is an error.
pub(super) fn wait_for(wanted: usize, count: impl Fn() -> Outcome<usize>) -> Outcome<()> {
    let (mut last, mut since) = (0, Instant::now());
    loop {
        let reached = count()?;
        if reached >= wanted {
            return Ok(());
        }
        if reached > last {
            (last, since) = (reached, Instant::now());
        }
        if since.elapsed() > STALLED {
            return Err(format!("{reached} of {wanted} files are handled").into());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn rows(lake: &LakeServer<'_>) -> Outcome<usize> {
    let counted = lake.query("SELECT count(*) AS n FROM readings")?;
    Ok(usize::try_from(counted[0]["n"].as_u64().unwrap_or(0))?)
}

/// Returns the times at which the handler was called for the objects of [`latency`], in order.
fn lake_times(lake: &LakeServer<'_>) -> Outcome<Vec<u64>> {
    let sql = "SELECT started FROM readings WHERE key LIKE 'latency-%' ORDER BY key";
    let read = || -> Outcome<Vec<u64>> {
        let listed = lake.query(sql)?;
        let rows = listed.as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(rows.iter().filter_map(|row| row["started"].as_u64()).collect())
    };
    wait_for(PUTS, || Ok(read()?.len()))?;
    read()
}

pub(super) fn differences(sent: &[u64], started: &[u64]) -> Outcome<Vec<Duration>> {
    if sent.len() != started.len() {
        return Err(format!("{} of {} objects are handled", started.len(), sent.len()).into());
    }
    let pairs = sent.iter().zip(started);
    Ok(pairs.map(|(sent, started)| Duration::from_nanos(started.saturating_sub(*sent))).collect())
}

/// Returns the time in nanoseconds since 1970.
pub(super) fn now() -> Outcome<u64> {
    Ok(u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?)
}
