//! Errors of the command line: the server's problems, and its own in the same shape.

use headwater_model::{ErrorCode, Fault, Problem};

/// The outcome of a command.
pub type Result<T> = std::result::Result<T, Problem>;

/// A problem with an input of the command line.
pub fn invalid(message: impl Into<String>) -> Problem {
    Problem::new(ErrorCode::InvalidArgument, message)
}

/// Turns any room's error into a problem.
pub fn from_fault(fault: impl Fault) -> Problem {
    fault.to_problem()
}

/// Says which action an I/O error stopped.
pub fn from_io(action: &str) -> impl FnOnce(std::io::Error) -> Problem {
    let action = action.to_owned();
    move |error| {
        let code = match error.kind() {
            std::io::ErrorKind::NotFound => ErrorCode::FileNotFound,
            std::io::ErrorKind::StorageFull => ErrorCode::DiskFull,
            _ => ErrorCode::Storage,
        };
        let mut problem = Problem::new(code, format!("cannot {action}"));
        problem.causes.push(error.to_string());
        problem
    }
}

/// A problem with the answer of a server, which a user can only report.
pub fn unexpected(detail: impl std::fmt::Display) -> Problem {
    let mut problem = Problem::new(ErrorCode::Internal, "the server's answer cannot be read");
    problem.causes.push(detail.to_string());
    problem.with_hint("Run `headwater stop` and try again, in case server and command differ.")
}
