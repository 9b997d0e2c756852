//! Sessions of the console: a browser logs in once and sends a cookie with each request.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Timestamp;

/// Request for a session. Exactly one field is set.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct CreateSession {
    /// The server's token.
    pub token: Option<String>,
    /// A single-use code from `POST /v1/session/codes`.
    pub code: Option<String>,
    /// The code of an OpenID provider, after `POST /v1/login`.
    pub login: Option<LoginCode>,
}

/// Request to start a login at the OpenID provider of the server.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct StartLogin {
    /// The address to which the provider redirects the browser after the login. The address must be
    /// registered with the provider.
    pub redirect: String,
}

/// A started login at an OpenID provider. The browser opens `address`, and keeps the other values
/// until the provider redirects it back.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct LoginStart {
    /// The page of the provider.
    pub address: String,
    /// The state value. The browser must check that the provider's redirect contains this value.
    pub state: String,
    /// The nonce, which the provider's token must contain.
    pub nonce: String,
    /// The verifier (PKCE), which proves that this browser requested the code.
    pub verifier: String,
}

/// The authorization code that an OpenID provider returned in its redirect.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct LoginCode {
    /// The code.
    pub code: String,
    /// The address of the redirect: the same as in the request that started the login.
    pub redirect: String,
    /// The nonce of the login.
    pub nonce: String,
    /// The PKCE verifier of the login.
    pub verifier: String,
}

impl fmt::Debug for LoginStart {
    /// Omits the secrets, which must not be logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LoginStart")
    }
}

impl fmt::Debug for LoginCode {
    /// Omits the secrets, which must not be logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LoginCode")
    }
}

/// A browser's session.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct BrowserSession {
    /// The author of the session's commits and jobs. Absent if the client can choose the author.
    pub author: Option<String>,
    /// The value of the header `x-headwater-session`, which requests need in addition to the
    /// cookie. It is returned only in the login response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The latest time at which the session ends. Absent if the session needed no login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires: Option<Timestamp>,
}

/// A single-use login code.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SessionCode {
    /// The code.
    pub code: String,
    /// The time after which the code is invalid.
    #[schema(value_type = String, format = DateTime)]
    pub expires: Timestamp,
}

/// The login methods for people, in addition to access tokens and passwords.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct LoginMethods {
    /// The OpenID provider of the server, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oidc: Option<OidcLogin>,
}

/// The settings of an OpenID provider that a client needs for a login.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct OidcLogin {
    /// The URL of the provider.
    pub issuer: String,
    /// The id of this server at the provider.
    pub client_id: String,
    /// The scopes to request, separated by spaces.
    pub scopes: String,
    /// Maximum lifetime, in seconds, of an access token created after such a login.
    pub token_lifetime_s: u64,
}
