//! Failures of the object store during a change. The change is retried successfully, or fails
//! within the timeout with a clear error. No data is lost, no change is partial, and a failed
//! change succeeds when it is repeated.

use std::time::{Duration, Instant};

use headwater_model::ToProblem as _;

use crate::fault_proxy::Fault;
use crate::lake::{CloudLake, LONG, SHORT, ids};
use crate::provider::Provider;

/// Parts of URLs that identify the files of an append.
const WRITTEN: [&str; 4] = [".parquet", "snap-", "-m0.avro", ".metadata.json"];

const BUSY: Fault = Fault::Answer(503, "SlowDown");
const DENIED: Fault = Fault::Answer(403, "AccessDenied");

/// Maximum time until an operation reports a fault.
const IN_TIME: Duration = Duration::from_secs(15);

pub async fn transient_faults_are_retried(cloud: Provider) {
    let lake = CloudLake::new(cloud, LONG).await;
    let faults = [
        BUSY,
        Fault::Answer(429, "TooManyRequests"),
        Fault::Answer(500, "InternalError"),
        // The response of a server that has executed an earlier attempt of the same request.
        lake.cloud.words.taken,
        Fault::CutBefore,
        Fault::CutAfter,
        Fault::Hang,
        Fault::HangAfter,
    ];
    let mut expected = vec![1];
    for fault in faults {
        for part in WRITTEN {
            lake.front().fail("PUT", part, fault, 1);
        }
        let (id, (_, before)) = (expected.len() as i64 + 1, lake.front().counts());
        lake.append([id]).await.unwrap();
        expected.push(id);
        assert!(lake.front().counts().1 >= before + 3, "{fault:?} was met");
        lake.front().heal();
        assert_eq!(lake.ids().await, expected, "{fault:?}");
    }
    for fault in [BUSY, Fault::CutBefore, Fault::CutHalf, Fault::Hang] {
        lake.front().fail("GET", ".avro", fault, 2);
        lake.front().fail("GET", ".parquet", fault, 2);
        let (_, before) = lake.front().counts();
        assert_eq!(lake.ids().await, expected, "{fault:?}");
        assert!(lake.front().counts().1 > before, "{fault:?} was met");
        lake.front().heal();
    }
}

pub async fn permanent_write_faults_fail_in_time_and_leave_no_files(cloud: Provider) {
    let lake = CloudLake::new(cloud, SHORT).await;
    let cases = [
        (BUSY, "even after retries"),
        (DENIED, "denies access"),
        (lake.cloud.words.expired, "rejects the credentials"),
        (Fault::CutBefore, "was lost during a request"),
        (Fault::Hang, "timed out"),
    ];
    let (before, place) = (lake.cloud.contents().await, lake.cloud.url("a/public/t-"));
    for (fault, expected) in cases {
        for part in WRITTEN {
            lake.front().fail("PUT", part, fault, 999);
            let begun = Instant::now();
            let problem = lake.append([2]).await.unwrap_err().to_problem();
            assert!(problem.message.contains(expected), "{fault:?} at {part}: {problem:?}");
            assert!(problem.message.contains(&place), "{problem:?}");
            assert!(problem.hint.is_some(), "{problem:?}");
            assert!(begun.elapsed() < IN_TIME, "{:?}", begun.elapsed());
            lake.front().heal();
            assert_eq!(lake.ids().await, [1], "{fault:?} at {part}");
            lake.settle(&before, &format!("{fault:?} at {part}")).await;
        }
    }
    lake.append([2]).await.unwrap();
    assert_eq!(lake.ids().await, [1, 2]);
}

pub async fn permanent_read_faults_fail_in_time(cloud: Provider) {
    let lake = CloudLake::new(cloud, SHORT).await;
    let cases = [
        (BUSY, "even after retries"),
        (Fault::Hang, "timed out"),
        (Fault::HangHalf, "timed out"),
        (Fault::CutHalf, "was lost during a request"),
    ];
    for (fault, expected) in cases {
        for part in [".metadata.json", "snap-", ".parquet"] {
            lake.front().fail("GET", part, fault, 999);
            let fresh = lake.reopened().await;
            let begun = Instant::now();
            let problem = ids(&fresh).await.unwrap_err().to_problem();
            assert!(problem.message.contains(expected), "{fault:?} at {part}: {problem:?}");
            assert!(problem.message.contains(part), "{problem:?}");
            assert!(begun.elapsed() < IN_TIME, "{:?}", begun.elapsed());
            lake.front().heal();
            assert_eq!(ids(&fresh).await.unwrap(), [1], "{fault:?} at {part}");
        }
    }
}

/// Returns random numbers, which compress badly, so that their file is uploaded in several parts.
fn many() -> impl Iterator<Item = i64> {
    let mut state = 7_u64;
    let next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005);
        state = state.wrapping_add(1_442_695_040_888_963_407);
        (state >> 1).cast_signed()
    };
    std::iter::repeat_with(next).take(3_000_000)
}

pub async fn multipart_uploads_leave_no_parts(cloud: Provider) {
    let lake = CloudLake::new(cloud, LONG).await;
    let (words, before) = (&lake.cloud.words, lake.cloud.contents().await);
    let requests = [Some(words.part), Some(words.end_parts), words.begin_parts];
    for (method, part) in requests.into_iter().flatten() {
        lake.front().fail(method, part, DENIED, 999);
        let problem = lake.append(many()).await.unwrap_err().to_problem();
        assert!(problem.message.contains(".parquet"), "{problem:?}");
        lake.front().heal();
        lake.settle(&before, &format!("a refusal of {method} {part}")).await;
    }
    assert_eq!(lake.ids().await, [1]);
    // After a temporary fault, the request is retried successfully, even if only the response to it
    // was lost.
    if let Some((method, part)) = words.begin_parts {
        lake.front().fail(method, part, Fault::CutBefore, 1);
    }
    for fault in [Fault::CutBefore, Fault::CutAfter, BUSY] {
        lake.front().fail(words.part.0, words.part.1, fault, 1);
    }
    lake.front().fail(words.end_parts.0, words.end_parts.1, Fault::CutAfter, 1);
    lake.append(many()).await.unwrap();
    assert_eq!(lake.ids().await.len(), 3_000_001);
    let left = lake.cloud.contents().await;
    assert_eq!(left.len(), before.len() + WRITTEN.len(), "no part is left: {left:?}");
}
