//! The claims of a token, and the rules that they must satisfy.

use headwater_model::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::config::OidcConfig;
use crate::{Error, Result};

/// Maximum clock difference between provider and server, in seconds.
const SKEW_S: f64 = 60.0;

/// Maximum number of groups read from a token.
const GROUPS_MAX: usize = 1_000;

/// The claims of a token.
#[derive(Debug, Deserialize)]
pub(crate) struct Claims {
    iss: String,
    pub(crate) sub: String,
    aud: OneOrMany,
    exp: f64,
    #[serde(default)]
    nbf: Option<f64>,
    #[serde(default)]
    iat: Option<f64>,
    #[serde(default)]
    azp: Option<String>,
    #[serde(default)]
    pub(crate) nonce: Option<String>,
    #[serde(default)]
    email_verified: Option<Value>,
    /// The claim `events`, which only logout tokens have. A token with this claim is rejected.
    #[serde(default)]
    events: Option<Value>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn contains(&self, wanted: &str) -> bool {
        match self {
            OneOrMany::One(one) => one == wanted,
            OneOrMany::Many(many) => many.iter().any(|one| one == wanted),
        }
    }
}

impl Claims {
    /// Checks the issuer, the audience and the times.
    pub(crate) fn check(&self, config: &OidcConfig, audience: &str, now: Timestamp) -> Result<()> {
        let fail = |reason: &'static str| Err(Error::Token { reason: reason.into() });
        let now = now.timestamp_millis() as f64 / 1_000.0;
        if self.iss != config.issuer {
            return fail("the claim `iss` is not the configured issuer");
        }
        if !self.aud.contains(audience) {
            return fail("the claim `aud` does not contain the configured audience");
        }
        let is_id_token = audience == config.client_id;
        if is_id_token && self.azp.as_ref().is_some_and(|party| *party != config.client_id) {
            return fail("the claim `azp` is not the configured client");
        }
        if self.sub.is_empty() || self.events.is_some() {
            return fail("the token does not identify a user");
        }
        if now >= self.exp + SKEW_S {
            return fail("the token has expired");
        }
        if self.nbf.is_some_and(|from| now < from - SKEW_S) {
            return fail("the token is not valid yet");
        }
        if self.iat.is_some_and(|issued| now < issued - SKEW_S) {
            return fail("the time of issue is in the future");
        }
        Ok(())
    }

    /// Returns the time at which the token expires, plus the maximum clock difference.
    pub(crate) fn expires(&self) -> Result<Timestamp> {
        let seconds = self.exp + SKEW_S;
        let time = Timestamp::from_timestamp(seconds as i64, 0);
        time.ok_or(Error::Token { reason: "the expiry is not a time".into() })
    }

    /// Returns the user's name from the configured `claim`.
    pub(crate) fn user(&self, claim: &str) -> Result<String> {
        let verified = self.email_verified.as_ref();
        let is_unverified = verified.is_some_and(|it| *it == false || *it == "false");
        if claim == "email" && is_unverified {
            return Err(Error::Token { reason: "the e-mail address is not verified".into() });
        }
        if claim == "sub" {
            return Ok(self.sub.clone());
        }
        let found = self.others.get(claim).and_then(Value::as_str);
        found.map(str::to_owned).ok_or_else(|| {
            let reason =
                format!("the claim `{claim}`, which names the user, is missing or not a string");
            Error::Token { reason: reason.into() }
        })
    }

    /// Returns the person's groups from the configured `claim`; none if it is missing.
    pub(crate) fn groups(&self, claim: &str) -> Vec<String> {
        match self.others.get(claim) {
            Some(Value::String(one)) => vec![one.clone()],
            Some(Value::Array(many)) => {
                let texts = many.iter().filter_map(Value::as_str).map(str::to_owned);
                texts.take(GROUPS_MAX).collect()
            }
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Checks valid claims with some of them changed. Returns the reason for the rejection, if any.
    fn check(changes: Value) -> Option<String> {
        let text = "issuer = \"https://login.example\"\nclient_id = \"lake\"\n";
        let config = OidcConfig::parse(text).expect("a configuration");
        let mut claims = json!({"iss": "https://login.example", "sub": "1", "aud": "lake",
            "exp": 1_000, "email": "ana@example.com"});
        for (name, value) in changes.as_object().expect("changes") {
            claims[name] = value.clone();
        }
        let now = Timestamp::from_timestamp(900, 0).expect("a time");
        let Ok(claims) = serde_json::from_value::<Claims>(claims) else {
            return Some("malformed".to_owned());
        };
        let checked =
            claims.check(&config, config.audience(), now).and_then(|()| claims.user("email"));
        match checked {
            Ok(_) => None,
            Err(Error::Token { reason }) => Some(reason.into_owned()),
            Err(_) => Some("another error".to_owned()),
        }
    }

    #[test]
    fn every_claim_must_hold() {
        assert_eq!(check(json!({})), None);
        assert_eq!(check(json!({"aud": ["other", "lake"], "azp": "lake"})), None);
        assert_eq!(check(json!({"exp": 850})), None, "clocks differ by less than a minute");
        for changes in [
            json!({"iss": "https://login.example/"}),
            json!({"iss": "https://evil.example"}),
            json!({"aud": "other"}),
            json!({"aud": []}),
            json!({"azp": "other"}),
            json!({"sub": ""}),
            json!({"events": {}}),
            json!({"exp": 840}),
            json!({"exp": "1000"}),
            json!({"exp": null}),
            json!({"nbf": 961}),
            json!({"iat": 961}),
            json!({"email_verified": false}),
            json!({"email": null}),
            json!({"email": ["ana@example.com"]}),
        ] {
            assert!(check(changes.clone()).is_some(), "{changes}");
        }
        let missing = check(json!({"email": null})).expect("a reason");
        assert!(missing.contains("the claim `email`"), "{missing}");
    }

    #[test]
    fn groups_are_a_text_or_a_list() {
        let claims = |groups: Value| {
            let value = json!({"iss": "", "sub": "1", "aud": "", "exp": 1, "groups": groups});
            serde_json::from_value::<Claims>(value).expect("claims").groups("groups")
        };
        assert_eq!(claims(json!("one")), ["one"]);
        assert_eq!(claims(json!(["one", 2, "three"])), ["one", "three"]);
        assert!(claims(json!({"one": true})).is_empty());
    }
}
