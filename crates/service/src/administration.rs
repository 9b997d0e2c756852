//! The right to administer users, roles, grants and the tokens of others.

use headwater_model::{Action, ErrorCode, Identity, Object, Principal, Problem};

use crate::service::Components;

/// Checks that a principal may administer the lake.
///
/// Errors: `unauthenticated`; `forbidden`.
pub(crate) fn administer(components: &Components, principal: &Principal) -> Result<(), Problem> {
    let lake = Object::lake();
    if components.access.decide(principal, Action::Administer, &lake).is_allowed() {
        return Ok(());
    }
    Err(refuse(principal))
}

/// Returns the error of a principal without the right to administer the lake.
fn refuse(principal: &Principal) -> Problem {
    match principal.identity() {
        Identity::Anonymous => {
            Problem::new(ErrorCode::Unauthenticated, "the request has no valid credential")
        }
        _ => {
            let message = format!("`{}` may not administer the lake", principal.author());
            let problem = Problem::new(ErrorCode::Forbidden, message);
            problem.with_hint(
                "Ask an administrator for `headwater grant administer --on lake --to NAME`.",
            )
        }
    }
}
