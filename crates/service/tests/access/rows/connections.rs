//! The connections of clients.

use headwater_model::{ErrorCode, Principal, Problem};
use headwater_service::{ClientProperties, ConnectionHandle};

use crate::matrix::{Answers, Call, EMPTY, ITEMS, NO, OK, Row, done, every, listed};

/// The answers of a signal to the connection of the owner: only an administrator may send it.
const OWNERS: Answers = [NO, NO, NO, NO, OK];

pub const ROWS: &[Row] = &[
    ("ClientConnections::open", every(OK), |c| done(async move { open(c, &c.by) })),
    ("ClientConnections::list (own)", every(ITEMS), |c| {
        listed(async move {
            let _own = open(c, &c.by)?;
            c.service.connections().list(&c.by)
        })
    }),
    ("ClientConnections::list (of the owner)", [EMPTY, EMPTY, EMPTY, EMPTY, ITEMS], |c| {
        listed(async move {
            let _other = open(c, &Principal::owner())?;
            c.service.connections().list(&c.by)
        })
    }),
    ("ClientConnections::cancel (own)", every(OK), |c| {
        done(async move {
            let own = open(c, &c.by)?;
            let statement = own.begin();
            c.service.connections().cancel(&c.by, own.key.0)?;
            sent(statement.is_cancelled())
        })
    }),
    ("ClientConnections::cancel (of the owner)", OWNERS, |c| {
        done(async move {
            let other = open(c, &Principal::owner())?;
            let statement = other.begin();
            let is_sent = c.service.connections().cancel(&c.by, other.key.0)?;
            assert_eq!(is_sent, statement.is_cancelled());
            sent(is_sent)
        })
    }),
    ("ClientConnections::end (own)", every(OK), |c| {
        done(async move {
            let own = open(c, &c.by)?;
            c.service.connections().end(&c.by, own.key.0)?;
            sent(own.ended().is_cancelled())
        })
    }),
    ("ClientConnections::end (of the owner)", OWNERS, |c| {
        done(async move {
            let other = open(c, &Principal::owner())?;
            let is_sent = c.service.connections().end(&c.by, other.key.0)?;
            assert_eq!(is_sent, other.ended().is_cancelled());
            sent(is_sent)
        })
    }),
];

fn open(call: &Call, by: &Principal) -> Result<ConnectionHandle, Problem> {
    let client =
        ClientProperties { database: "main".into(), application: String::new(), address: None };
    call.service.connections().open(by, client)
}

/// Converts the result of a signal. A signal that was not sent is no error, because the connection
/// may not exist.
fn sent(is_sent: bool) -> Result<(), Problem> {
    let missing = || Problem::new(ErrorCode::Forbidden, "not sent");
    is_sent.then_some(()).ok_or_else(missing)
}
