//! Errors of logins at an OpenID provider.

use std::borrow::Cow;

use headwater_model::{ErrorCode, ToProblem};

/// A result with the error type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a login at an OpenID provider.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The configuration is invalid.
    #[error("the configuration of the OpenID provider is invalid: {reason}")]
    Config {
        /// The cause.
        reason: String,
    },
    /// The provider did not respond.
    #[error("the OpenID provider at `{url}` cannot be reached")]
    Unreachable {
        /// The requested URL.
        url: String,
        /// The cause.
        reason: String,
    },
    /// The provider sent a response that violates the protocol.
    #[error("the OpenID provider sent an unusable response from `{url}`: {reason}")]
    Answer {
        /// The requested URL.
        url: String,
        /// The cause.
        reason: String,
    },
    /// The token is invalid.
    #[error("the token of the OpenID provider is invalid: {reason}")]
    Token {
        /// The violated rule.
        reason: Cow<'static, str>,
    },
    /// The person or the provider refused the login.
    #[error("the OpenID provider rejected the login: {reason}")]
    Refused {
        /// The provider's reason.
        reason: String,
    },
    /// The provider does not support the device flow.
    #[error("the OpenID provider `{issuer}` offers no login by device code")]
    NoDeviceFlow {
        /// The provider.
        issuer: String,
    },
    /// The provider has no login for browsers.
    #[error("the OpenID provider `{issuer}` offers no login for browsers")]
    NoAuthorization {
        /// The provider.
        issuer: String,
    },
    /// The address to which a browser should return is invalid.
    #[error("the login cannot redirect to the address of this page: {reason}")]
    Redirect {
        /// The violated rule.
        reason: &'static str,
    },
    /// The operating system has no random bytes.
    #[error("no random bytes are available")]
    NoRandom,
    /// The login was not confirmed in time.
    #[error("the login was not confirmed in time")]
    Expired,
}

impl ToProblem for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Error::Config { .. } | Error::Redirect { .. } => ErrorCode::InvalidArgument,
            Error::Unreachable { .. } | Error::Answer { .. } => ErrorCode::Unavailable,
            Error::Token { .. } | Error::Refused { .. } | Error::Expired => {
                ErrorCode::Unauthenticated
            }
            Error::NoDeviceFlow { .. } | Error::NoAuthorization { .. } => {
                ErrorCode::UnsupportedStatement
            }
            Error::NoRandom => ErrorCode::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Error::Config { .. } => "Correct the file that `--oidc` names.",
            Error::Unreachable { .. } => "Check the network and the provider, and try again.",
            Error::Answer { .. } => {
                "Check that `issuer` in the configuration is the issuer that the provider's \
                 discovery document (`ISSUER/.well-known/openid-configuration`) names."
            }
            Error::Token { .. } | Error::Refused { .. } | Error::Expired => "Log in again.",
            Error::NoDeviceFlow { .. } => "Log in with an access token: `headwater login --token`.",
            Error::NoAuthorization { .. } => "Log in with an access token.",
            Error::Redirect { .. } => {
                "Open the console by HTTPS, or on this machine by the address 127.0.0.1."
            }
            Error::NoRandom => "Try again.",
        };
        Some(hint.to_owned())
    }
}
