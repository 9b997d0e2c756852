//! Statements on roles and grants: CREATE ROLE, DROP ROLE, GRANT, REVOKE, SHOW ROLES and SHOW
//! GRANTS.
//!
//! This module has its own parser. Its privileges are Headwater's actions, and sqlparser's syntax
//! tree has no nodes for some types of objects (branches, functions, secrets). The service executes
//! these statements, because the engine stores no roles and grants.

use headwater_model::{Action, ObjectKind, ObjectPattern, Permission, PermissionError};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use crate::alter_table::expected;
use crate::error::{Error, Result};
use crate::restriction_statement::{self, RestrictionStatement};
use crate::unsupported_clauses::unset;

/// Maximum number of pairs of an object or role and a grantee in a statement. The server checks and
/// stores each pair.
const PAIRS_MAX: usize = 10_000;

/// A statement on roles and grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessStatement {
    /// CREATE ROLE.
    CreateRole {
        /// Name of the role.
        name: String,
        /// True with IF NOT EXISTS.
        if_not_exists: bool,
    },
    /// DROP ROLE.
    DropRoles {
        /// Names of the roles.
        names: Vec<String>,
        /// True with IF EXISTS.
        if_exists: bool,
    },
    /// GRANT or REVOKE of roles.
    Roles {
        /// True for GRANT, false for REVOKE.
        grants: bool,
        /// The roles to grant or revoke.
        roles: Vec<String>,
        /// The users and roles that receive or lose the roles.
        grantees: Vec<String>,
    },
    /// GRANT or REVOKE of actions on objects.
    Permissions {
        /// True for GRANT, false for REVOKE.
        grants: bool,
        /// The permissions to grant or revoke, one for each object.
        permissions: Vec<Permission>,
        /// The users and roles that receive or lose the permissions.
        grantees: Vec<String>,
    },
    /// SHOW ROLES.
    ShowRoles,
    /// SHOW GRANTS, optionally only of one user or role.
    ShowGrants(Option<String>),
    /// A statement on row filters or column masks.
    Restrictions(RestrictionStatement),
}

impl AccessStatement {
    /// Returns the name of the statement.
    pub fn name(&self) -> &'static str {
        match self {
            AccessStatement::CreateRole { .. } => "CREATE ROLE",
            AccessStatement::DropRoles { .. } => "DROP ROLE",
            AccessStatement::Roles { grants: true, .. }
            | AccessStatement::Permissions { grants: true, .. } => "GRANT",
            AccessStatement::Roles { .. } | AccessStatement::Permissions { .. } => "REVOKE",
            AccessStatement::ShowRoles => "SHOW ROLES",
            AccessStatement::ShowGrants(_) => "SHOW GRANTS",
            AccessStatement::Restrictions(statement) => statement.name(),
        }
    }
}

/// Returns true if the parser is at a statement on roles and grants.
pub(crate) fn is_next(parser: &Parser) -> bool {
    let [first, second] = parser.peek_tokens_ref().map(|token| &token.token);
    let of = |words: &[&str]| words.iter().any(|word| is_word(second, word));
    is_word(first, "GRANT")
        || is_word(first, "REVOKE")
        || (["CREATE", "DROP", "ALTER"].iter().any(|word| is_word(first, word))
            && of(&["ROLE", "USER"]))
        || (is_word(first, "SHOW") && of(&["ROLES", "GRANTS"]))
        || restriction_statement::is_next(parser)
}

/// Parses a whole statement on roles, grants and restrictions. `sql` is the text of the statement.
pub(crate) fn parse(parser: &mut Parser, sql: &str) -> Result<AccessStatement> {
    let [first, second] = parser.peek_tokens_ref().map(|token| &token.token);
    if is_word(second, "USER") || is_word(first, "ALTER") {
        let what = format!("{first} {second}").to_uppercase();
        let hint = "Use `headwater user` or the HTTP API: a statement must not contain a password.";
        return Err(Error::Unsupported { what, hint: Some(hint.to_owned()), position: None });
    }
    let statement = if restriction_statement::is_next(parser) {
        AccessStatement::Restrictions(restriction_statement::parse(parser, sql)?)
    } else if takes(parser, "CREATE") {
        create_role(parser)?
    } else if takes(parser, "DROP") {
        drop_roles(parser)?
    } else if takes(parser, "SHOW") {
        show(parser)?
    } else {
        let grants = takes(parser, "GRANT");
        if !grants {
            parser.advance_token();
        }
        grant(parser, grants)?
    };
    let _ = parser.consume_token(&Token::SemiColon);
    if parser.peek_token_ref().token != Token::EOF {
        return Err(expected(parser, "the end of the statement").into());
    }
    Ok(statement)
}

fn create_role(parser: &mut Parser) -> Result<AccessStatement> {
    parser.advance_token();
    let if_not_exists = takes_all(parser, &["IF", "NOT", "EXISTS"]);
    let name = name(parser, "a role")?;
    if parser.peek_token_ref().token != Token::EOF
        && parser.peek_token_ref().token != Token::SemiColon
    {
        return Err(Error::Unsupported {
            what: "an option of CREATE ROLE".to_owned(),
            hint: Some("Users log in, roles do not: see `headwater user create`.".to_owned()),
            position: None,
        });
    }
    Ok(AccessStatement::CreateRole { name, if_not_exists })
}

fn drop_roles(parser: &mut Parser) -> Result<AccessStatement> {
    parser.advance_token();
    let if_exists = takes_all(parser, &["IF", "EXISTS"]);
    Ok(AccessStatement::DropRoles { names: names(parser, "a role")?, if_exists })
}

fn show(parser: &mut Parser) -> Result<AccessStatement> {
    if takes(parser, "ROLES") {
        return Ok(AccessStatement::ShowRoles);
    }
    parser.advance_token();
    if takes(parser, "ON") {
        return Err(Error::Unsupported {
            what: "SHOW GRANTS ON".to_owned(),
            hint: Some("Write SHOW GRANTS, or SHOW GRANTS FOR and a user or role.".to_owned()),
            position: None,
        });
    }
    let of_one = takes(parser, "FOR") || takes(parser, "TO");
    let grantee = if of_one { Some(grantee(parser)?) } else { None };
    Ok(AccessStatement::ShowGrants(grantee))
}

fn grant(parser: &mut Parser, grants: bool) -> Result<AccessStatement> {
    let option = takes_all(parser, &["GRANT", "OPTION", "FOR"]);
    unset(option, "GRANT OPTION")?;
    let is_all = takes(parser, "ALL");
    let granted = if is_all {
        let _ = takes(parser, "PRIVILEGES");
        Vec::new()
    } else {
        // The word `ROLE` may precede the names of roles.
        let _ = takes(parser, "ROLE");
        names(parser, "an action or a role")?
    };
    let names_action = granted.iter().any(|name| name.parse::<Action>().is_ok());
    let objects = if is_all || names_action || is_word(&parser.peek_token_ref().token, "ON") {
        Some(objects(parser)?)
    } else {
        None
    };
    let preposition = if grants { "TO" } else { "FROM" };
    if !takes(parser, preposition) {
        return Err(expected(parser, preposition).into());
    }
    let grantees = listed(parser, grantee)?;
    unset(takes_all(parser, &["WITH", "GRANT", "OPTION"]), "WITH GRANT OPTION")?;
    unset(takes_all(parser, &["WITH", "ADMIN", "OPTION"]), "WITH ADMIN OPTION")?;
    unset(takes(parser, "CASCADE"), "CASCADE in REVOKE")?;
    let Some(objects) = objects else {
        check_number(granted.len(), grantees.len())?;
        return Ok(AccessStatement::Roles { grants, roles: granted, grantees });
    };
    check_number(objects.len(), grantees.len())?;
    let actions = granted.iter().map(|text| action(text)).collect::<Result<Vec<_>, _>>();
    let mut actions = actions.map_err(|error| invalid(&error))?;
    // A repeated action would be copied for each object.
    actions.sort_unstable();
    actions.dedup();
    let permission = |object: ObjectPattern| {
        let actions = if is_all { object.kind().actions().to_vec() } else { actions.clone() };
        Permission { actions, object }.checked()
    };
    let permissions = objects.into_iter().map(permission).collect::<Result<_, _>>();
    Ok(AccessStatement::Permissions {
        grants,
        permissions: permissions.map_err(|error| invalid(&error))?,
        grantees,
    })
}

/// Checks the number of pairs of a statement, before the pairs take memory.
fn check_number(granted: usize, grantees: usize) -> Result<()> {
    let pairs = granted.saturating_mul(grantees);
    if pairs <= PAIRS_MAX {
        return Ok(());
    }
    let message = format!(
        "the statement has {granted} objects or roles and {grantees} grantees, which are {pairs} \
         grants (limit {PAIRS_MAX})"
    );
    let hint = "Use several statements, a pattern such as 'sales.*', or a role for the grantees.";
    Err(Error::Invalid { message, hint: Some(hint.to_owned()), position: None })
}

/// Parses the name of an action. `EXECUTE` is the name of `invoke` in PostgreSQL.
fn action(text: &str) -> Result<Action, PermissionError> {
    if text.eq_ignore_ascii_case("EXECUTE") { Ok(Action::Invoke) } else { text.parse() }
}

/// Parses `ON`, the object type (`TABLE` by default), and the list of names or patterns of objects.
fn objects(parser: &mut Parser) -> Result<Vec<ObjectPattern>> {
    if !takes(parser, "ON") {
        return Err(expected(parser, "ON").into());
    }
    if takes(parser, "ALL") {
        return Err(Error::Unsupported {
            what: "ON ALL … IN SCHEMA".to_owned(),
            hint: Some(
                "Write ON TABLE 'sales.*' or ON NAMESPACE sales; both include later tables."
                    .to_owned(),
            ),
            position: None,
        });
    }
    let kind = kind(parser).unwrap_or(ObjectKind::Table);
    let pattern = |text: &str| ObjectPattern::new(kind, text).map_err(|error| invalid(&error));
    if kind == ObjectKind::Lake {
        return Ok(vec![pattern("")?]);
    }
    let found = listed(parser, |parser| object_name(parser, kind))?;
    found.iter().map(|text| pattern(text)).collect()
}

/// Consumes the next word if it is an object type, such as `BRANCH`, that a name follows.
fn kind(parser: &mut Parser) -> Option<ObjectKind> {
    let [first, second] = parser.peek_tokens_ref().map(|token| token.token.clone());
    let starts_name = matches!(second, Token::Word(_) | Token::SingleQuotedString(_));
    let is_preposition = is_word(&second, "TO") || is_word(&second, "FROM");
    let of = |kind: &ObjectKind| is_word(&first, kind.as_str());
    let found = ObjectKind::ALL.into_iter().find(of);
    let found = found.or_else(|| is_word(&first, "SCHEMA").then_some(ObjectKind::Namespace))?;
    if starts_name && (found == ObjectKind::Lake) == is_preposition {
        parser.advance_token();
        return Some(found);
    }
    None
}

/// Parses the name of an object: either parts separated by dots, or a quoted pattern.
fn object_name(parser: &mut Parser, kind: ObjectKind) -> Result<String> {
    if let Token::SingleQuotedString(text) = &parser.peek_token_ref().token {
        let text = text.clone();
        parser.advance_token();
        return Ok(text);
    }
    let mut parts = vec![name(parser, &format!("a {kind}"))?];
    while parser.consume_token(&Token::Period) {
        let is_any = parser.consume_token(&Token::Mul);
        parts.push(if is_any { "*".to_owned() } else { name(parser, "a name")? });
    }
    Ok(parts.join("."))
}

pub(crate) fn grantee(parser: &mut Parser) -> Result<String> {
    let [first, second] = parser.peek_tokens_ref().map(|token| token.token.clone());
    let names_kind = is_word(&first, "ROLE") || is_word(&first, "USER");
    if names_kind && matches!(second, Token::Word(_) | Token::SingleQuotedString(_)) {
        parser.advance_token();
    }
    unset(takes(parser, "PUBLIC"), "PUBLIC as a grantee")?;
    name(parser, "a user or role")
}

pub(crate) fn names(parser: &mut Parser, what: &str) -> Result<Vec<String>> {
    listed(parser, |parser| name(parser, what))
}

pub(crate) fn listed<T>(
    parser: &mut Parser,
    one: impl Fn(&mut Parser) -> Result<T>,
) -> Result<Vec<T>> {
    let mut found = vec![one(parser)?];
    while parser.consume_token(&Token::Comma) {
        found.push(one(parser)?);
    }
    Ok(found)
}

/// Parses a name: a word, or text in quotes.
pub(crate) fn name(parser: &mut Parser, what: &str) -> Result<String> {
    let text = match &parser.peek_token_ref().token {
        Token::Word(word) => word.value.clone(),
        Token::SingleQuotedString(text) => text.clone(),
        _ => return Err(expected(parser, what).into()),
    };
    parser.advance_token();
    Ok(text)
}

fn invalid(error: &PermissionError) -> Error {
    use headwater_model::ToProblem;
    Error::Invalid { message: error.to_string(), hint: error.hint(), position: None }
}

pub(crate) fn is_word(token: &Token, text: &str) -> bool {
    matches!(token, Token::Word(word)
        if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(text))
}

/// Consumes the next word if it equals `text`.
pub(crate) fn takes(parser: &mut Parser, text: &str) -> bool {
    takes_all(parser, &[text])
}

/// Consumes the next words if they equal `words`.
pub(crate) fn takes_all(parser: &mut Parser, words: &[&str]) -> bool {
    let is_next = |(at, text): (usize, &&str)| is_word(&parser.peek_nth_token_ref(at).token, text);
    let found = words.iter().enumerate().all(is_next);
    if found {
        for _ in words {
            parser.advance_token();
        }
    }
    found
}
