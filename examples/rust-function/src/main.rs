//! Prices an order: a function for `headwater function deploy`, written with AWS's crate
//! `lambda_runtime`.

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde::{Deserialize, Serialize};

/// Value-added tax, in percent.
const TAX: u64 = 20;

/// The event.
#[derive(Deserialize)]
struct Order {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    /// Price of one piece, in cents.
    price: u64,
    count: u64,
}

/// The response.
#[derive(Serialize)]
struct Price {
    cents: u64,
    /// Fields of the context, which AWS Lambda also sets.
    request: String,
    function: String,
    milliseconds_left: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    run(service_fn(price)).await
}

async fn price(event: LambdaEvent<Order>) -> Result<Price, Error> {
    let (order, context) = event.into_parts();
    if order.items.is_empty() {
        return Err("the order has no items".into());
    }
    let net: u64 = order.items.iter().map(|item| item.price * item.count).sum();
    println!("priced {} items", order.items.len());
    let deadline = context.deadline();
    let left = deadline.duration_since(std::time::SystemTime::now()).unwrap_or_default();
    Ok(Price {
        cents: net + net * TAX / 100,
        request: context.request_id,
        function: context.invoked_function_arn,
        milliseconds_left: u64::try_from(left.as_millis())?,
    })
}
