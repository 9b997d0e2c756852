//! `headwater token`.

use chrono::{DateTime, NaiveDate, Utc};
use headwater_model::{
    AccessToken, CreateToken, CreatedToken, Permission, Timestamp, parse_duration,
};

use crate::api::{ApiClient, segment};
use crate::api_output::{self, fetch};
use crate::arguments::{Token, TokenCreate};
use crate::context::Context;
use crate::error::{self, Result};
use crate::output::{self, Grid};

/// Runs `headwater token`.
pub async fn token(context: &Context, api: &ApiClient, arguments: Token) -> Result<()> {
    match arguments {
        Token::Ls { user } => list(context, api, user.as_deref()).await,
        Token::Create(arguments) => {
            let created: CreatedToken = api.post("/v1/tokens", &request(arguments)?).await?;
            show(context, &created);
            Ok(())
        }
        Token::Revoke { id } => {
            api.delete(format!("/v1/tokens/{}", segment(&id))).await?;
            crate::commands::branch::removed(context, "token", &id);
            Ok(())
        }
    }
}

pub(super) fn request(arguments: TokenCreate) -> Result<CreateToken> {
    let TokenCreate { user, label, expires, scopes } = arguments;
    let scopes: Result<Vec<_>> = scopes.iter().map(|text| parse_permission(text)).collect();
    let scopes = Some(scopes?).filter(|scopes| !scopes.is_empty());
    let expires = expires.as_deref().map(parse_expiry).transpose()?;
    Ok(CreateToken { user, label, scopes, expires })
}

/// Parses `select, insert on table:sales.*`.
fn parse_permission(text: &str) -> Result<Permission> {
    let Some((actions, object)) = text.split_once(" on ") else {
        return Err(error::invalid(format!("`{text}` is not a permission"))
            .with_hint("Write the scope as `select on table:sales.*`."));
    };
    let parse = |word: &str| word.trim().parse().map_err(error::from_error);
    let actions = actions.split(',').map(parse).collect::<Result<_>>()?;
    let object = object.trim().parse().map_err(error::from_error)?;
    Ok(Permission { actions, object })
}

/// Parses a time, or a duration from now.
fn parse_expiry(text: &str) -> Result<Timestamp> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.to_utc());
    }
    if let Some(midnight) = text.parse::<NaiveDate>().ok().and_then(|day| day.and_hms_opt(0, 0, 0))
    {
        return Ok(midnight.and_utc());
    }
    let duration = parse_duration(text).ok().and_then(|it| chrono::Duration::from_std(it).ok());
    duration.and_then(|duration| Utc::now().checked_add_signed(duration)).ok_or_else(|| {
        error::invalid(format!("`{text}` is not a duration or time"))
            .with_hint("Write `90d`, `2027-01-31` or `2027-01-31T12:00:00Z`.")
    })
}

async fn list(context: &Context, api: &ApiClient, user: Option<&str>) -> Result<()> {
    let query = user.map(|user| format!("?user={}", segment(user))).unwrap_or_default();
    let Some(tokens) =
        fetch::<Vec<AccessToken>>(context, api, format!("/v1/tokens{query}")).await?
    else {
        return Ok(());
    };
    let columns = ["TOKEN", "USER", "LABEL", "SCOPES", "EXPIRES", "LAST USED", "STATE"];
    let mut grid = Grid::new(context.answer_style, &columns);
    for token in tokens {
        let scopes = token.scopes.unwrap_or_default();
        let scopes: Vec<_> = scopes.iter().map(ToString::to_string).collect();
        let state = if token.revoked.is_some() { "revoked" } else { "valid" };
        let (expires, used) = (
            output::format_time_or_never(token.expires),
            output::format_time_or_never(token.last_used),
        );
        let scopes = scopes.join("; ");
        grid.row([token.id, token.user, token.label, scopes, expires, used, state.to_owned()]);
    }
    grid.print("no tokens; create one with `headwater token create --user NAME`");
    Ok(())
}

/// Prints only the secret to standard output, so that a program can store it.
fn show(context: &Context, created: &CreatedToken) {
    if api_output::is_printed(context, created) {
        return;
    }
    let token = &created.token;
    context.style.say(format!(
        "created token {} of user {}; the secret is not shown again:",
        token.id, token.user
    ));
    output::line(&created.secret);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_and_expiries_are_parsed() {
        let permission = parse_permission("insert, select on table:sales.*").expect("valid");
        assert_eq!(permission.actions.len(), 2);
        assert_eq!(permission.object.to_string(), "table:sales.*");
        for text in ["select", "select table:t", "fly on table:t", "select on place:t"] {
            assert!(parse_permission(text).is_err(), "{text}");
        }
        for text in ["1h30m", "2027-01-31", "2027-01-31T12:00:00Z"] {
            assert!(parse_expiry(text).is_ok(), "{text}");
        }
        for text in ["", "soon", "2027-13-01", "-1d"] {
            assert!(parse_expiry(text).is_err(), "{text}");
        }
    }
}
