//! `headwater event send`: sends the events of a file to a function.

use std::io::Read;
use std::path::Path;

use headwater_model::{AcceptedEvent, ErrorCode, Problem};
use serde_json::value::RawValue;

use crate::api::{ApiClient, segment};
use crate::api_output;
use crate::arguments::EventSend;
use crate::context::Context;
use crate::error::{self, Result};
use crate::output;

/// Maximum number and total size in bytes of the events of one request.
const REQUEST_EVENTS_MAX: usize = 1_000;
const REQUEST_BYTES_MAX: usize = 4 << 20;

/// Runs `headwater event send`.
pub async fn send(context: &Context, api: &ApiClient, arguments: &EventSend) -> Result<()> {
    let text = read(&arguments.file)?;
    let events = events(&text)?;
    let path = format!("/v1/functions/{}/events", segment(&arguments.function));
    let mut accepted: Vec<AcceptedEvent> = Vec::with_capacity(events.len());
    for request in requests(&events) {
        let answer: Vec<AcceptedEvent> =
            api.post(&path, &request).await.map_err(|problem| partly(problem, accepted.len()))?;
        accepted.extend(answer);
    }
    if api_output::is_printed(context, &accepted) {
        return Ok(());
    }
    for event in &accepted {
        output::line(&event.event);
    }
    let duplicates = accepted.iter().filter(|event| event.duplicate).count();
    let added = accepted.len() - duplicates;
    context.style.say(format!("{added} events are accepted; {duplicates} were sent before"));
    Ok(())
}

/// Adds a cause to the error of a request: the number of events in earlier requests, which the
/// server has already accepted.
fn partly(mut problem: Problem, accepted: usize) -> Problem {
    if accepted > 0 {
        problem.causes.push(format!(
            "the first {accepted} events are accepted; a repeated command does not add them again"
        ));
    }
    problem
}

fn read(file: &Path) -> Result<String> {
    if file != Path::new("-") {
        let what = format!("read `{}`", file.display());
        return std::fs::read_to_string(file).map_err(error::from_io(&what));
    }
    let mut text = String::new();
    let read = std::io::stdin().read_to_string(&mut text);
    read.map(|_| text).map_err(error::from_io("read the events from standard input"))
}

/// Returns the events in a text: a JSON array, or one event per line.
fn events(text: &str) -> Result<Vec<Box<RawValue>>> {
    let parsed = if text.trim_start().starts_with('[') {
        serde_json::from_str(text)
    } else {
        serde_json::Deserializer::from_str(text).into_iter().collect()
    };
    parsed.map_err(|error| {
        let message = format!("the events cannot be parsed: {error}");
        let hint = "Write an array of JSON objects, or one object per line.";
        Problem::new(ErrorCode::InvalidArgument, message).with_hint(hint)
    })
}

/// Splits the events into requests, each within the limits of number and size.
fn requests(events: &[Box<RawValue>]) -> Vec<&[Box<RawValue>]> {
    let mut requests = Vec::new();
    let mut rest = events;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fitting = rest.iter().take(REQUEST_EVENTS_MAX).take_while(|event| {
            bytes += event.get().len();
            bytes <= REQUEST_BYTES_MAX
        });
        let (request, left) = rest.split_at(fitting.count().max(1));
        requests.push(request);
        rest = left;
    }
    requests
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_from_an_array_or_from_lines() {
        let of = |text| events(text).map(|all| all.iter().map(|one| one.get().len()).collect());
        let sizes: Vec<usize> = of("[{}, {\"a\": 1}]").expect("events");
        assert_eq!(sizes, [2, 8]);
        let sizes: Vec<usize> = of("{}\n{\"a\": 1}\n\n").expect("events");
        assert_eq!(sizes, [2, 8]);
        for wrong in ["[{}", "{} {", "a"] {
            assert!(events(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn requests_are_bounded_by_number_and_size() {
        let event = |size: usize| serde_json::value::to_raw_value(&"x".repeat(size)).expect("JSON");
        let counts = |sizes: Vec<usize>| {
            let events: Vec<_> = sizes.into_iter().map(event).collect();
            requests(&events).iter().map(|request| request.len()).collect::<Vec<_>>()
        };
        assert_eq!(counts(vec![1; 1_001]), [1_000, 1]);
        assert_eq!(counts(vec![3 << 20, 2 << 20, 5 << 20]), [1, 1, 1]);
        assert_eq!(counts(Vec::new()), [0; 0]);
    }
}
