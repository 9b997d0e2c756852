//! Statements, transactions and the shutdown.

use headwater_model::{Principal, Problem, QueryRequest, RefSpec};
use headwater_service::{PreparedStatement, StartedStatement};

use crate::matrix::{Call, NO, OK, Row, Work, administers, done, reads, writes};

const QUERY: &str = "SELECT * FROM sales.orders";

pub const ROWS: &[Row] = &[
    ("Statements::start", reads("ok"), |c| start(c, QUERY)),
    ("Statements::start (INSERT)", writes("ok"), |c| {
        start(c, "INSERT INTO sales.orders SELECT id FROM sales.orders WHERE false")
    }),
    ("Statements::start (COPY TO)", writes("ok"), |c| start(c, "COPY (SELECT 1) TO 'out.csv'")),
    ("Statements::start (GRANT)", administers("ok"), |c| {
        start(c, "GRANT SELECT ON TABLE none TO masked")
    }),
    ("Statements::start (SHOW ROLES)", administers("ok"), |c| start(c, "SHOW ROLES")),
    ("Statements::describe", reads("ok"), |c| {
        let statement = PreparedStatement::parse(QUERY).expect("a statement");
        done(
            async move { c.service.statements().describe(&c.by, &context(QUERY), &statement).await },
        )
    }),
    ("Statements::start_prepared", reads("ok"), |c| {
        let statement = PreparedStatement::parse(QUERY).expect("a statement");
        done(async move {
            let context = context(QUERY);
            rows(c.service.statements().start_prepared(&c.by, &context, statement).await).await
        })
    }),
    ("Transactions::begin", reads("ok"), |c| {
        done(
            async move { c.service.statements().transactions().begin(&c.by, &RefSpec::main()).await },
        )
    }),
    ("Transactions::prepare_write", writes("ok"), |c| {
        done(async move {
            let transactions = c.service.statements().transactions();
            let mut open = transactions.begin(&Principal::owner(), &RefSpec::main()).await?;
            let prepared = transactions.prepare_write(&c.by, &mut open).await;
            transactions.roll_back(open).await;
            prepared
        })
    }),
    ("Transactions::commit", writes("ok"), |c| {
        done(async move {
            let transactions = c.service.statements().transactions();
            let mut open = transactions.begin(&Principal::owner(), &RefSpec::main()).await?;
            transactions.prepare_write(&Principal::owner(), &mut open).await?;
            transactions.commit(&c.by, open).await
        })
    }),
    ("Service::authorize_shutdown", [NO, NO, NO, NO, OK], |c| {
        done(async move { c.service.authorize_shutdown(&c.by) })
    }),
];

fn context(sql: &str) -> QueryRequest {
    QueryRequest { sql: sql.to_owned(), ..QueryRequest::default() }
}

fn start<'a>(call: &'a Call, sql: &'a str) -> Work<'a> {
    done(async move {
        let started = call.service.statements().start(&call.by, &context(sql)).await;
        rows(started).await
    })
}

/// Reads all rows of a statement.
async fn rows(started: Result<StartedStatement, Problem>) -> Result<(), Problem> {
    let mut rows = started?.rows?;
    while rows.next().await?.is_some() {}
    Ok(())
}
