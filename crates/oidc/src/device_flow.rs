//! The device flow (RFC 8628): a person confirms the login of a command-line client in any browser.

use std::time::{Duration, Instant};

use headwater_model::OidcLogin;
use serde::Deserialize;

use crate::http::HttpClient;
use crate::provider::DiscoveryDocument;
use crate::{Error, Result};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// Default interval between two requests that check whether the login is confirmed. This time is
/// also added to the interval each time the provider asks for slower requests.
const INTERVAL: Duration = Duration::from_secs(5);

/// Minimum interval. A provider that sends the interval 0 would otherwise receive requests
/// continuously.
const INTERVAL_MIN: Duration = Duration::from_secs(1);

/// Maximum time to wait for the confirmation.
const LIFETIME_MAX: Duration = Duration::from_mins(30);

/// A login that is waiting for its confirmation.
#[derive(Debug)]
pub struct DeviceLogin {
    http: HttpClient,
    token_endpoint: String,
    client_id: String,
    code: DeviceAuthorization,
    expires: Instant,
}

/// The tokens of a confirmed login.
#[derive(Clone, Deserialize)]
pub struct DeviceTokens {
    /// The ID token.
    pub id_token: String,
}

impl std::fmt::Debug for DeviceTokens {
    /// Omits the secret, which must not be logged.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DeviceTokens")
    }
}

#[derive(Deserialize)]
struct DeviceAuthorization {
    device_code: String,
    user_code: String,
    verification_uri: String,
    #[serde(default)]
    verification_uri_complete: Option<String>,
    #[serde(default)]
    expires_in: Option<u64>,
    #[serde(default)]
    interval: Option<u64>,
}

impl DeviceAuthorization {
    /// Returns the interval between two requests that check whether the login is confirmed.
    fn polling_interval(&self) -> Duration {
        let interval = self.interval.map_or(INTERVAL, Duration::from_secs);
        interval.clamp(INTERVAL_MIN, LIFETIME_MAX)
    }
}

impl std::fmt::Debug for DeviceAuthorization {
    /// Omits the secret, which must not be logged.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DeviceCode")
    }
}

/// The response of a provider: a value, or an OAuth 2.0 error.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum ProviderResponse<T> {
    Value(T),
    Failure {
        error: String,
        #[serde(default)]
        error_description: Option<String>,
    },
}

impl DeviceLogin {
    /// Begins a login.
    ///
    /// Errors: [`Error::NoDeviceFlow`]; [`Error::Refused`] if the provider does not accept the
    /// client.
    pub async fn begin(login: &OidcLogin) -> Result<Self> {
        let http = HttpClient::new()?;
        let discovery = DiscoveryDocument::read(&http, &login.issuer).await?;
        let missing = || Error::NoDeviceFlow { issuer: login.issuer.clone() };
        let endpoint = discovery.device_authorization_endpoint.ok_or_else(missing)?;
        let form = [("client_id", &*login.client_id), ("scope", &*login.scopes)];
        let code: DeviceAuthorization = match http.post(&endpoint, &form).await?.1 {
            ProviderResponse::Value(code) => code,
            ProviderResponse::Failure { error, error_description } => {
                return Err(refused(error, error_description));
            }
        };
        let lifetime = Duration::from_secs(code.expires_in.unwrap_or(300)).min(LIFETIME_MAX);
        Ok(DeviceLogin {
            http,
            token_endpoint: discovery.token_endpoint,
            client_id: login.client_id.clone(),
            code,
            expires: Instant::now() + lifetime,
        })
    }

    /// Returns the URL that the person opens to confirm the login.
    pub fn address(&self) -> &str {
        self.code.verification_uri_complete.as_deref().unwrap_or(&self.code.verification_uri)
    }

    /// Returns the code that the person enters at this URL, or compares with the code shown there.
    pub fn user_code(&self) -> &str {
        &self.code.user_code
    }

    /// Waits until the person has confirmed the login.
    ///
    /// Errors: [`Error::Refused`], [`Error::Expired`].
    pub async fn wait(self) -> Result<DeviceTokens> {
        let mut interval = self.code.polling_interval();
        let form = [
            ("grant_type", GRANT),
            ("device_code", &*self.code.device_code),
            ("client_id", &*self.client_id),
        ];
        while Instant::now() < self.expires {
            tokio::time::sleep(interval).await;
            let answer = self.http.post(&self.token_endpoint, &form).await;
            let (error, description) = match answer {
                Ok((_, ProviderResponse::Value(tokens))) => return Ok(tokens),
                Ok((_, ProviderResponse::Failure { error, error_description })) => {
                    (error, error_description)
                }
                // The confirmation may take minutes, so a short network failure must not end the
                // login.
                Err(Error::Unreachable { .. }) => continue,
                Err(error) => return Err(error),
            };
            match error.as_str() {
                "authorization_pending" => {}
                "slow_down" => interval += INTERVAL,
                "expired_token" => return Err(Error::Expired),
                _ => return Err(refused(error, description)),
            }
        }
        Err(Error::Expired)
    }
}

pub(crate) fn refused(error: String, description: Option<String>) -> Error {
    Error::Refused { reason: description.unwrap_or(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_that_of_the_provider_but_at_least_a_second() {
        let seconds = |interval| {
            let code = DeviceAuthorization {
                device_code: String::new(),
                user_code: String::new(),
                verification_uri: String::new(),
                verification_uri_complete: None,
                expires_in: None,
                interval,
            };
            code.polling_interval().as_secs()
        };
        assert_eq!([None, Some(0), Some(1), Some(7)].map(seconds), [5, 1, 1, 7]);
        assert_eq!(seconds(Some(u64::MAX)), LIFETIME_MAX.as_secs());
    }
}
