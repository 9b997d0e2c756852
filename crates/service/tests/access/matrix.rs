//! Every operation of the service with every kind of principal. An operation that the table lacks
//! fails the test.

use futures::future::LocalBoxFuture;
use headwater_model::{Principal, Problem};
use headwater_service::iceberg::ChangeError;
use headwater_service::{AccessControl, Iceberg, S3Operations, Service};
use libtest_mimic::Trial;

use crate::declared_operations::Mismatches;
use crate::lake::{Known, Lake};
use crate::{rows, trial};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("matrix::every_method_decides_for_every_user", users),
        trial("matrix::no_method_accepts_a_principal_that_is_no_longer_valid", invalid),
    ]
}

/// A row of the matrix: the name of a method, the expected answers, and a call. All rows are
/// executed in order, for one principal after the other. A call uses names that do not exist, or
/// changes only objects that another row created.
pub type Row = (&'static str, Answers, fn(&Call) -> Work<'_>);

/// The five expected answers. Their principals are a token without the scope, a user without a
/// grant, a user with read grants, a user with all grants except administration, and an
/// administrator. An answer is an error code or [`OK`]; for a list, it is an error code, [`EMPTY`]
/// or [`ITEMS`].
pub type Answers = [&'static str; 5];

/// A call in progress.
pub type Work<'a> = LocalBoxFuture<'a, Result<&'static str, Problem>>;

pub const OK: &str = "ok";
pub const EMPTY: &str = "empty";
pub const ITEMS: &str = "items";
pub const NO: &str = "forbidden";

/// The answer to a principal that is not valid.
const INVALID: &str = "unauthenticated";

/// The answers of a list that contains the readable objects.
pub const LISTS: Answers = [EMPTY, EMPTY, ITEMS, ITEMS, ITEMS];

/// The answers of a list that contains the objects that a user may change or use.
pub const LISTS_USABLE: Answers = [EMPTY, EMPTY, EMPTY, ITEMS, ITEMS];

/// Returns the answers of an operation that every user may use.
pub const fn every(answer: &'static str) -> Answers {
    [answer; 5]
}

/// Returns the answers of an operation that reads objects.
pub const fn reads(answer: &'static str) -> Answers {
    [NO, NO, answer, answer, answer]
}

/// Returns the answers of an operation that changes or uses objects.
pub const fn writes(answer: &'static str) -> Answers {
    [NO, NO, NO, answer, answer]
}

/// Returns the answers of an operation of administrators.
pub const fn administers(answer: &'static str) -> Answers {
    [NO, NO, NO, NO, answer]
}

/// A call of a method for one principal.
pub struct Call {
    /// The service.
    pub service: Service,
    /// The principal.
    pub by: Principal,
    /// The objects of the lake.
    pub known: Known,
}

impl Call {
    /// Returns the operations on users and their rights.
    pub fn accounts(&self) -> AccessControl {
        self.service.access_control()
    }

    /// Returns the operations on buckets and objects.
    pub fn s3(&self) -> S3Operations {
        S3Operations::of(&self.service)
    }

    /// Returns the operations of the Iceberg catalog.
    pub fn iceberg(&self) -> Iceberg {
        self.service.iceberg()
    }

    /// Returns the name of the principal's own account.
    pub fn own(&self) -> &str {
        self.by.user_name().unwrap_or("none")
    }
}

/// Awaits an operation.
pub fn done<'a, T>(work: impl Future<Output = Result<T, Problem>> + 'a) -> Work<'a> {
    Box::pin(async move { work.await.map(|_| OK) })
}

/// Awaits an operation that returns a list.
pub fn listed<'a, T>(work: impl Future<Output = Result<Vec<T>, Problem>> + 'a) -> Work<'a> {
    Box::pin(async move { work.await.map(|list| if list.is_empty() { EMPTY } else { ITEMS }) })
}

/// Awaits a change of an Iceberg client.
pub fn changed<'a, T>(work: impl Future<Output = Result<T, ChangeError>> + 'a) -> Work<'a> {
    Box::pin(async move { work.await.map(|_| OK).map_err(|error| error.problem().clone()) })
}

async fn users() {
    let lake = Lake::start().await;
    let mut mismatches = Mismatches::default();
    for (name, by, column) in lake.users().await {
        let call = lake.call(by);
        for (method, answers, operation) in rows::all() {
            let answer = answer(operation(&call).await);
            mismatches.check(&format!("{method} as {name}"), answer, answers[column]);
        }
    }
    let call = lake.call(Principal::owner());
    for (method, _, operation) in rows::all() {
        let answer = answer(operation(&call).await);
        let is_denied = matches!(answer, NO | INVALID);
        let answer = if is_denied { answer } else { "allowed" };
        mismatches.check(&format!("{method} as the owner"), answer, "allowed");
    }
    lake.stop().await;
    mismatches.assert_none();
}

async fn invalid() {
    let lake = Lake::start().await;
    let mut mismatches = Mismatches::default();
    for (name, by) in lake.invalid().await {
        let call = lake.call(by);
        for (method, _, operation) in rows::all() {
            let answer = answer(operation(&call).await);
            mismatches.check(&format!("{method} as {name}"), answer, INVALID);
        }
    }
    mismatches.assert_none();
}

fn answer(result: Result<&'static str, Problem>) -> &'static str {
    result.unwrap_or_else(|problem| problem.code.as_str())
}
