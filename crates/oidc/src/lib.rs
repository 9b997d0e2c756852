//! Login of people at an OpenID provider: discovery, keys, tokens, the authorization code flow, and
//! the device flow.
//!
//! [`Provider`] verifies the tokens that a provider signs, and logs in browsers, for a server.
//! [`DeviceLogin`] logs a person in at a provider, for a command line client. These two types are
//! independent of the server's users: [`Identity`] contains the claims of a token. Only signatures
//! with public keys are accepted, so that a token cannot select a weaker algorithm.

mod authorization_code;
mod claims;
mod config;
mod device_flow;
mod error;
mod http;
mod jwt;
mod keys;
mod provider;

pub use config::OidcConfig;
pub use device_flow::{DeviceLogin, DeviceTokens};
pub use error::{Error, Result};
pub use jwt::is_jwt;
pub use provider::{Identity, Provider};
