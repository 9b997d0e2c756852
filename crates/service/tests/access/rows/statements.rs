//! Statements, asynchronous queries, transactions and the shutdown.

use std::time::Duration;

use headwater_model::{Principal, Problem, QueryRequest, RefSpec};
use headwater_service::{AsyncQueries, PreparedStatement, StartedStatement};

use crate::matrix::{
    Answers, Call, ITEMS, NO, OK, Row, Work, administers, done, every, listed, reads, writes,
};

const QUERY: &str = "SELECT * FROM sales.orders";

/// The answers to a principal that did not send the query.
const HIDDEN: &str = "job_not_found";
const OTHERS: Answers = [HIDDEN, HIDDEN, HIDDEN, HIDDEN, OK];

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
    ("AsyncQueries::create", every(OK), |c| {
        done(async move { queries(c).create(&c.by, context("SELECT 1")).await })
    }),
    // The row above has created a query of the same user.
    ("AsyncQueries::list", every(ITEMS), |c| listed(async move { queries(c).list(&c.by) })),
    ("AsyncQueries::get", OTHERS, |c| {
        done(async move { queries(c).get(&c.by, &of_owner(c).await?, Duration::ZERO).await })
    }),
    ("AsyncQueries::rows", OTHERS, |c| {
        done(async move { queries(c).rows(&c.by, &of_owner(c).await?, 0, 1).await })
    }),
    ("AsyncQueries::cancel", OTHERS, |c| {
        done(async move { queries(c).cancel(&c.by, &of_owner(c).await?).await })
    }),
    ("AsyncQueries::delete", OTHERS, |c| {
        done(async move { queries(c).delete(&c.by, &of_owner(c).await?).await })
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

fn queries(call: &Call) -> AsyncQueries {
    call.service.statements().async_queries()
}

/// Returns the id of an asynchronous query of the owner that has ended.
async fn of_owner(call: &Call) -> Result<String, Problem> {
    let owner = Principal::owner();
    let query = queries(call).create(&owner, context(QUERY)).await?;
    queries(call).get(&owner, &query.id, Duration::from_secs(60)).await?;
    Ok(query.id)
}

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
