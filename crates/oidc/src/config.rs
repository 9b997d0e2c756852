//! Configuration of an OpenID provider: a TOML file.

use std::collections::BTreeMap;
use std::time::Duration;

use headwater_model::{OidcLogin, parse_duration};
use serde::Deserialize;

use crate::http::check_url;
use crate::{Error, Result};

/// Upper limit of the setting `token_lifetime`.
const LIFETIME_MAX: Duration = Duration::from_hours(90 * 24);

/// The configuration of an OpenID provider: how its tokens map to users, groups and roles of this
/// server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcConfig {
    /// The provider's URL, equal to the claim `iss` of its tokens.
    pub issuer: String,
    /// The id under which the provider knows this server.
    pub client_id: String,
    /// The accepted value of the claim `aud`; by default the client id.
    #[serde(default)]
    pub audience: Option<String>,
    /// The claim with the user's name.
    #[serde(default = "user_claim")]
    pub user_claim: String,
    /// The claim with the groups of the person.
    #[serde(default = "groups_claim")]
    pub groups_claim: String,
    /// The role for each group. A login grants the roles of the person's groups, and revokes the
    /// roles of all other groups in this map.
    #[serde(default)]
    pub roles: BTreeMap<String, String>,
    /// True if a login creates a missing user.
    #[serde(default)]
    pub create_users: bool,
    /// The scopes that a login requests.
    #[serde(default = "scopes")]
    pub scopes: String,
    /// The maximum lifetime of access tokens that a user creates after a login at the provider.
    #[serde(default = "token_lifetime")]
    pub token_lifetime: String,
}

fn user_claim() -> String {
    "email".to_owned()
}

fn groups_claim() -> String {
    "groups".to_owned()
}

fn scopes() -> String {
    "openid profile email".to_owned()
}

fn token_lifetime() -> String {
    "12h".to_owned()
}

impl OidcConfig {
    /// Parses the text of a configuration file.
    ///
    /// Errors: [`Error::Config`], with the line of the mistake.
    pub fn parse(text: &str) -> Result<Self> {
        let config: OidcConfig = toml::from_str(text)
            .map_err(|error| Error::Config { reason: error.to_string().trim_end().to_owned() })?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        check_url(&self.issuer).map_err(|reason| Error::Config {
            reason: format!("`issuer` is `{}`: {reason}", self.issuer),
        })?;
        let texts = [
            ("client_id", &self.client_id),
            ("user_claim", &self.user_claim),
            ("groups_claim", &self.groups_claim),
        ];
        if let Some((name, _)) = texts.into_iter().find(|(_, text)| text.is_empty()) {
            return Err(Error::Config { reason: format!("`{name}` is empty") });
        }
        if !self.scopes.split(' ').any(|scope| scope == "openid") {
            return Err(Error::Config { reason: "`scopes` must contain `openid`".to_owned() });
        }
        self.lifetime().map(drop)
    }

    /// Returns the maximum lifetime of access tokens that a user creates after a login at the
    /// provider.
    pub fn lifetime(&self) -> Result<Duration> {
        let text = &self.token_lifetime;
        let parsed = parse_duration(text).map_err(|reason| Error::Config {
            reason: format!("`token_lifetime` is `{text}`: {reason}"),
        })?;
        if parsed > LIFETIME_MAX || parsed.as_secs() == 0 {
            let reason = format!("`token_lifetime` must be between 1s and 90d, not `{text}`");
            return Err(Error::Config { reason });
        }
        Ok(parsed)
    }

    /// Returns the settings that a client needs to log in.
    pub fn login(&self) -> OidcLogin {
        OidcLogin {
            issuer: self.issuer.clone(),
            client_id: self.client_id.clone(),
            scopes: self.scopes.clone(),
            token_lifetime_s: self.lifetime().unwrap_or_default().as_secs(),
        }
    }

    /// Returns the accepted value of the claim `aud`.
    pub(crate) fn audience(&self) -> &str {
        self.audience.as_deref().unwrap_or(&self.client_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: &str = "issuer = \"https://login.example\"\nclient_id = \"lake\"\n";

    #[test]
    fn missing_settings_have_defaults() {
        let config = OidcConfig::parse(SHORT).expect("a configuration");
        assert_eq!((config.audience(), &*config.user_claim), ("lake", "email"));
        assert!(!config.create_users && config.roles.is_empty());
        assert_eq!(config.login().token_lifetime_s, 12 * 3600);
    }

    #[test]
    fn mistakes_are_named() {
        for (line, expected) in [
            ("issuers = 1", "unknown field `issuers`"),
            ("user_claim = \"\"", "`user_claim` is empty"),
            ("scopes = \"profile\"", "must contain `openid`"),
            ("token_lifetime = \"soon\"", "`token_lifetime` is `soon`"),
            ("token_lifetime = \"91d\"", "between 1s and 90d"),
        ] {
            let error = OidcConfig::parse(&format!("{SHORT}{line}\n")).expect_err(line);
            assert!(error.to_string().contains(expected), "{error}");
        }
        for issuer in ["http://login.example", "login.example", "ftp://x", "https://a:b@x"] {
            let text = SHORT.replace("https://login.example", issuer);
            let error = OidcConfig::parse(&text).expect_err(issuer);
            assert!(error.to_string().contains("`issuer` is"), "{error}");
        }
        let loopback = SHORT.replace("https://login.example", "http://127.0.0.1:8080/realm");
        OidcConfig::parse(&loopback).expect("a provider on this machine");
    }
}
