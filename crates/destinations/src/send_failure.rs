//! Failures of attempts to send a record.

use headwater_model::{ErrorCode, Problem};
use headwater_secrets::Redactor;
use headwater_triggers::with_retryable;

/// Maximum length of a quoted response in an error message, in characters.
const RESPONSE_CHARACTERS_MAX: usize = 300;

/// Returns the problem of a server that cannot be reached, or that requests another attempt.
pub(crate) fn temporary(message: String) -> Problem {
    let problem = Problem::new(ErrorCode::Unavailable, message);
    with_retryable(problem.with_hint("Check the server of the destination."), true)
}

/// Returns the problem of a record that the destination rejects.
pub(crate) fn rejected(message: String) -> Problem {
    let hint = "Correct the cause, and send the record again with `headwater event replay`.";
    let problem = Problem::new(ErrorCode::PreconditionFailed, message);
    with_retryable(problem.with_hint(hint), false)
}

/// Returns the problem of a result whose type or structure the destination does not support.
pub(crate) fn unsuitable(message: String, hint: &str) -> Problem {
    let problem = Problem::new(ErrorCode::InvalidArgument, message);
    with_retryable(problem.with_hint(hint), false)
}

/// Removes the values of secrets from a problem.
pub(crate) fn redacted(problem: Problem, values: &Redactor) -> Problem {
    let redact = |text: String| values.redact(&text).into_owned();
    Problem {
        message: redact(problem.message),
        causes: problem.causes.into_iter().map(redact).collect(),
        ..problem
    }
}

/// Returns an error with its causes as one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// Returns the beginning of a response as one line, without the value of a secret.
pub(crate) fn excerpt(response: &str, secret: Option<&str>) -> String {
    // Remove the secret before the text is cut off: the cut could leave a part of the secret.
    let values = Redactor::new(secret);
    let text = values.redact(response).split_whitespace().collect::<Vec<_>>().join(" ");
    let text = text.chars().filter(|c| !c.is_control());
    text.take(RESPONSE_CHARACTERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_contains_no_secret_and_a_response_is_one_short_line() {
        let values = Redactor::new(["s3cr3t-token"]);
        let problem = temporary("the server answers `bad s3cr3t-token`".to_owned());
        let shown = redacted(problem, &values);
        assert_eq!(shown.message, "the server answers `bad ***`");
        assert_eq!(shown.context["retryable"], true);
        assert_eq!(excerpt("a\r\n\u{1b}[31m  b\n", None), "a [31m b");
        assert_eq!(excerpt(&"x".repeat(1_000), None).len(), RESPONSE_CHARACTERS_MAX);
        let cut = format!("{}s3cr3t-token", "x".repeat(RESPONSE_CHARACTERS_MAX - 5));
        assert!(excerpt(&cut, Some("s3cr3t-token")).ends_with("x***"));
    }
}
