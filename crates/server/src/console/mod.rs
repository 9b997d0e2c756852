//! The console: the page at `/`, and the sessions of its browsers.
//!
//! The page's sources are in `console/` at the root of the repository, and its built files in
//! `console/dist`. The page uses the HTTP API like any other client.

mod assets;
mod cookie;
mod sessions;

pub use assets::{is_asset, router};
pub use cookie::{expired_cookie, presented_session, session_cookie};
pub use sessions::{NewSession, PresentedSession, Sessions};
