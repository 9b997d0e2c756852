//! The cookie of a console session, and the additional header that requests must contain.
//!
//! A browser sends a host's cookies to every port, so another server on the same machine can
//! receive the cookie. The header prevents misuse by such a server: the page stores the header's
//! value in the browser per origin, which includes the port. So a page of another origin does not
//! have the value.

use axum::http::HeaderMap;
use axum::http::header::{COOKIE, HOST};

use super::sessions::{NewSession, PresentedSession};

/// Header with the session's key.
pub const SESSION_HEADER: &str = "x-headwater-session";

/// Attributes of the cookie: scripts cannot read it, and browsers omit the cookie from requests
/// that other sites cause.
const ATTRIBUTES: &str = "Path=/; HttpOnly; SameSite=Strict";

/// Returns the `set-cookie` value that sets the cookie of a new session.
pub fn session_cookie(headers: &HeaderMap, session: &NewSession, is_https: bool) -> String {
    let (secret, seconds) = (&session.secret, session.lifetime.as_secs());
    let secure = if is_https { "; Secure" } else { "" };
    format!("{}={secret}; {ATTRIBUTES}{secure}; Max-Age={seconds}", name(headers))
}

/// Returns the `set-cookie` value that removes a session's cookie.
pub fn expired_cookie(headers: &HeaderMap) -> String {
    format!("{}=; {ATTRIBUTES}; Max-Age=0", name(headers))
}

/// Returns the session secrets of a request, from its cookie and its header.
pub fn presented_session(headers: &HeaderMap) -> Option<PresentedSession<'_>> {
    let key = headers.get(SESSION_HEADER)?.to_str().ok()?;
    let name = name(headers);
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut cookies = cookies.flat_map(|cookies| cookies.split(';'));
    let secret = cookies.find_map(|cookie| {
        let (found, secret) = cookie.trim().split_once('=')?;
        (found == name).then_some(secret)
    })?;
    Some(PresentedSession { secret, key })
}

/// Returns the name of the session cookie. The name contains the port, because browsers send a
/// host's cookies to servers on all ports of the host.
fn name(headers: &HeaderMap) -> String {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
    let port = host.rsplit_once(':').map_or("", |(_, port)| port);
    let port = port.parse::<u16>().unwrap_or(80);
    format!("headwater-{port}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_request_shows_the_session_of_its_port() {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, "127.0.0.1:4280".parse().expect("a value"));
        let cookies = "other=1; headwater-4281=wrong; headwater-4280=secret";
        headers.insert(COOKIE, cookies.parse().expect("a value"));
        assert!(
            presented_session(&headers).is_none(),
            "a cookie without the session key is not a session"
        );
        headers.insert(SESSION_HEADER, "key".parse().expect("a value"));
        let shown = presented_session(&headers).expect("a session");
        assert_eq!((shown.secret, shown.key), ("secret", "key"));
        headers.insert(HOST, "[::1]".parse().expect("a value"));
        assert!(presented_session(&headers).is_none());
    }

    #[test]
    fn a_cookie_is_hidden_from_scripts_and_other_sites() {
        let lifetime = Duration::from_secs(60);
        let session = NewSession { secret: "abc".to_owned(), key: String::new(), lifetime };
        let cookie = session_cookie(&HeaderMap::new(), &session, false);
        assert_eq!(cookie, "headwater-80=abc; Path=/; HttpOnly; SameSite=Strict; Max-Age=60");
        assert!(session_cookie(&HeaderMap::new(), &session, true).contains("; Secure;"));
    }
}
