//! An OpenID provider: verification of the tokens that it signs, and its cached keys.

use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_model::Timestamp;
use parking_lot::RwLock;
use serde::Deserialize;

use crate::claims::Claims;
use crate::config::OidcConfig;
use crate::http::{HttpClient, unusable};
use crate::jwt::Jwt;
use crate::keys::{JwksDocument, VerificationKeys};
use crate::{Error, Result};

/// Time after which the keys are fetched again, so that a revoked key is no longer accepted.
const KEYS_LIFETIME: Duration = Duration::from_hours(1);

/// Time for which old keys are used while the provider cannot be reached.
const KEYS_LIFETIME_MAX: Duration = Duration::from_hours(24);

/// Minimum time between two requests for keys, and after a failed request for the discovery
/// document, so that clients without credentials do not cause many requests.
const KEYS_INTERVAL: Duration = Duration::from_secs(5);

/// The identity of a person, as stated in a verified token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The issuer, and the permanent id of the person at this issuer.
    pub subject: String,
    /// The user's name.
    pub user: String,
    /// The groups.
    pub groups: Vec<String>,
    /// The time at which the token expires.
    pub expires: Timestamp,
}

/// The discovery document of a provider.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct DiscoveryDocument {
    issuer: String,
    jwks_uri: String,
    pub(crate) token_endpoint: String,
    #[serde(default)]
    pub(crate) authorization_endpoint: Option<String>,
    #[serde(default)]
    pub(crate) device_authorization_endpoint: Option<String>,
}

impl DiscoveryDocument {
    /// Fetches the discovery document of an issuer, and checks that it names this issuer.
    pub(crate) async fn read(http: &HttpClient, issuer: &str) -> Result<Self> {
        let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let found: DiscoveryDocument = http.get(&url).await?;
        if found.issuer != issuer {
            return Err(unusable(
                &url,
                format!("the discovery document belongs to the issuer `{}`", found.issuer),
            ));
        }
        Ok(found)
    }
}

/// A provider with its keys. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Provider(Arc<ProviderInner>);

#[derive(Debug)]
struct ProviderInner {
    config: OidcConfig,
    http: HttpClient,
    keys: RwLock<CachedKeys>,
    /// The result of the last request for the discovery document, and the time of this request.
    discovery: RwLock<Option<(Instant, Result<DiscoveryDocument>)>>,
    /// A lock that is held while the keys or the discovery document are being fetched.
    reading: tokio::sync::Mutex<()>,
}

#[derive(Debug, Clone, Default)]
struct CachedKeys {
    keys: Arc<VerificationKeys>,
    /// The time at which the keys were fetched; `None` before the first time.
    read: Option<Instant>,
    /// The time of the last attempt to fetch the keys.
    tried: Option<Instant>,
    /// The error of the last attempt, if it failed.
    failed: Option<Error>,
}

impl Provider {
    /// Creates a provider. It sends no request before the first token is verified.
    pub fn new(config: OidcConfig) -> Result<Self> {
        Ok(Provider(Arc::new(ProviderInner {
            config,
            http: HttpClient::new()?,
            keys: RwLock::default(),
            discovery: RwLock::default(),
            reading: tokio::sync::Mutex::default(),
        })))
    }

    /// Returns the configuration.
    pub fn config(&self) -> &OidcConfig {
        &self.0.config
    }

    /// Verifies a token and returns the identity in the token.
    ///
    /// Errors: [`Error::Token`]; [`Error::Unreachable`] and [`Error::Answer`] if the keys cannot be
    /// fetched.
    pub async fn verify(&self, token: &str, now: Timestamp) -> Result<Identity> {
        let jwt = Jwt::parse(token)?;
        let claims: Claims = jwt.claims()?;
        self.check(&jwt, &claims, self.0.config.audience(), now).await?;
        self.identity(&claims)
    }

    /// Verifies the ID token of a browser's login, which must contain the login's nonce.
    pub(crate) async fn verify_login(
        &self,
        token: &str,
        nonce: &str,
        now: Timestamp,
    ) -> Result<Identity> {
        let jwt = Jwt::parse(token)?;
        let claims: Claims = jwt.claims()?;
        self.check(&jwt, &claims, &self.0.config.client_id, now).await?;
        if claims.nonce.as_deref() != Some(nonce) {
            return Err(Error::Token { reason: "the token belongs to another login".into() });
        }
        self.identity(&claims)
    }

    async fn check(
        &self,
        jwt: &Jwt<'_>,
        claims: &Claims,
        audience: &str,
        now: Timestamp,
    ) -> Result<()> {
        // Check the issuer before the keys, so that a token of another issuer causes no request for
        // keys.
        claims.check(&self.0.config, audience, now)?;
        if !self.keys_of(jwt).await?.verify(jwt) {
            return Err(Error::Token { reason: "the signature is invalid".into() });
        }
        Ok(())
    }

    fn identity(&self, claims: &Claims) -> Result<Identity> {
        let config = &self.0.config;
        Ok(Identity {
            subject: format!("{} {}", config.issuer, claims.sub),
            user: claims.user(&config.user_claim)?,
            groups: claims.groups(&config.groups_claim),
            expires: claims.expires()?,
        })
    }

    /// Returns the keys. Fetches them again if they are old or lack the key of the token.
    async fn keys_of(&self, token: &Jwt<'_>) -> Result<Arc<VerificationKeys>> {
        let known = self.0.keys.read().clone();
        if !is_due(&known, token, Instant::now()) {
            return known.usable(Instant::now());
        }
        let _reading = self.0.reading.lock().await;
        let known = self.0.keys.read().clone();
        if !is_due(&known, token, Instant::now()) {
            return known.usable(Instant::now());
        }
        self.0.keys.write().tried = Some(Instant::now());
        match self.read_keys().await {
            Ok(keys) => {
                let now = Some(Instant::now());
                let keys = Arc::new(keys);
                *self.0.keys.write() = CachedKeys { keys, read: now, tried: now, failed: None };
            }
            Err(error) => {
                tracing::warn!("the keys of the OpenID provider cannot be read: {error}");
                self.0.keys.write().failed = Some(error);
            }
        }
        let known = self.0.keys.read().clone();
        known.usable(Instant::now())
    }

    pub(crate) fn http(&self) -> &HttpClient {
        &self.0.http
    }

    /// Returns the discovery document, which is read at most once an hour, by one request at a
    /// time.
    pub(crate) async fn discovery(&self) -> Result<DiscoveryDocument> {
        if let Some(known) = self.known_discovery() {
            return known;
        }
        let _reading = self.0.reading.lock().await;
        if let Some(known) = self.known_discovery() {
            return known;
        }
        let found = DiscoveryDocument::read(&self.0.http, &self.0.config.issuer).await;
        *self.0.discovery.write() = Some((Instant::now(), found.clone()));
        found
    }

    fn known_discovery(&self) -> Option<Result<DiscoveryDocument>> {
        let known = self.0.discovery.read().clone();
        let (read, found) = known?;
        let lifetime = if found.is_ok() { KEYS_LIFETIME } else { KEYS_INTERVAL };
        (read.elapsed() < lifetime).then_some(found)
    }

    async fn read_keys(&self) -> Result<VerificationKeys> {
        let http = &self.0.http;
        let discovery = DiscoveryDocument::read(http, &self.0.config.issuer).await?;
        let set: JwksDocument = http.get(&discovery.jwks_uri).await?;
        Ok(set.into())
    }
}

impl CachedKeys {
    /// Returns true if the keys were fetched less than this time ago.
    fn is_younger_than(&self, age: Duration, now: Instant) -> bool {
        self.read.is_some_and(|read| now.duration_since(read) < age)
    }

    /// Returns the keys; the error of the last attempt if the keys are too old.
    fn usable(&self, now: Instant) -> Result<Arc<VerificationKeys>> {
        match &self.failed {
            Some(error) if !self.is_younger_than(KEYS_LIFETIME_MAX, now) => Err(error.clone()),
            _ => Ok(self.keys.clone()),
        }
    }
}

/// Returns true if the keys must be fetched before this token is verified: they are too old, or
/// lack its key.
fn is_due(cached: &CachedKeys, token: &Jwt<'_>, now: Instant) -> bool {
    let may_try = cached.tried.is_none_or(|tried| now.duration_since(tried) >= KEYS_INTERVAL);
    // A cancelled attempt leaves neither keys nor an error.
    let is_unknown = cached.failed.is_none() && !cached.is_younger_than(KEYS_LIFETIME_MAX, now);
    let is_current = cached.is_younger_than(KEYS_LIFETIME, now);
    (may_try || is_unknown) && !(is_current && cached.keys.has_key_of(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "eyJhbGciOiJFUzI1NiJ9.e30.AAAA";

    #[test]
    fn old_keys_are_not_used_for_more_than_a_day() {
        let token = Jwt::parse(TOKEN).expect("a token");
        let read = Instant::now();
        let reason = "no connection".to_owned();
        let error = Error::Unreachable { url: "https://login.example".to_owned(), reason };
        let hours = |hours| read + Duration::from_hours(hours);
        for (hour, is_usable) in [(2, true), (23, true), (24, false), (30, false)] {
            let (read, tried) = (Some(read), Some(hours(hour)));
            let failed = Some(error.clone());
            let cached = CachedKeys { read, tried, failed, ..CachedKeys::default() };
            let soon = hours(hour) + Duration::from_secs(1);
            assert!(!is_due(&cached, &token, soon), "{hour}");
            assert_eq!(cached.usable(soon).is_ok(), is_usable, "{hour}");
            assert!(is_due(&cached, &token, hours(hour) + KEYS_INTERVAL), "{hour}");
        }
        assert!(is_due(&CachedKeys::default(), &token, read));
        let cancelled = CachedKeys { tried: Some(read), ..CachedKeys::default() };
        assert!(is_due(&cancelled, &token, read));
    }
}
