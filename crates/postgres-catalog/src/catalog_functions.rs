//! PostgreSQL's catalog functions, translated to expressions in Headwater's dialect.

use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use headwater_model::{ErrorCode, Problem};
use sqlparser::ast::{BinaryOperator, Expr, Value};

use crate::pg_catalog::{OWNER, OWNER_OID, USER_OID};
use crate::translate::{ConnectionProperties, parse, quote};
use crate::types::PgType;

/// The time of the first call of `pg_postmaster_start_time`, in seconds since 1970. Clients notice
/// a restart of the server by this value.
static STARTED: LazyLock<u64> =
    LazyLock::new(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()));

/// Functions that check whether the user has a privilege.
const PRIVILEGES: [&str; 12] = [
    "has_table_privilege",
    "has_schema_privilege",
    "has_database_privilege",
    "has_column_privilege",
    "has_any_column_privilege",
    "has_function_privilege",
    "has_type_privilege",
    "has_sequence_privilege",
    "has_tablespace_privilege",
    "has_language_privilege",
    "has_foreign_data_wrapper_privilege",
    "has_server_privilege",
];

/// Functions that return a property as text, such as a comment on an index. Objects of a lake have
/// none of these properties, so the functions return null.
const WITHOUT_TEXT: [&str; 26] = [
    "obj_description",
    "col_description",
    "shobj_description",
    "pg_get_expr",
    "pg_get_indexdef",
    "pg_get_constraintdef",
    "pg_get_functiondef",
    "pg_get_partkeydef",
    "pg_get_serial_sequence",
    "pg_tablespace_location",
    "pg_get_triggerdef",
    "pg_get_ruledef",
    "pg_size_pretty",
    "pg_get_function_result",
    "pg_get_function_arguments",
    "pg_get_function_identity_arguments",
    "pg_get_function_arg_default",
    "pg_get_function_sqlbody",
    "pg_get_partition_constraintdef",
    "pg_get_statisticsobjdef",
    "pg_get_statisticsobjdef_columns",
    "pg_get_statisticsobjdef_expressions",
    "pg_describe_object",
    "pg_collation_for",
    "inet_server_addr",
    "inet_client_addr",
];

/// Returns the expression that replaces a call; `None` if the function needs no replacement.
pub(crate) fn replacement(
    name: &str,
    arguments: &[String],
    at: &ConnectionProperties,
) -> Option<Expr> {
    parse(&text(name, arguments, at)?)
}

fn text(name: &str, arguments: &[String], at: &ConnectionProperties) -> Option<String> {
    let first = arguments.first().map_or("NULL", String::as_str);
    let is_false = first.eq_ignore_ascii_case("false");
    let text = match name {
        "version" if arguments.is_empty() => quote(&at.version),
        "current_schema" => quote(&at.namespace),
        "current_schemas" if is_false => format!("ARRAY[{}]", quote(&at.namespace)),
        "current_schemas" => format!("ARRAY['pg_catalog', {}]", quote(&at.namespace)),
        "current_database" | "current_catalog" => quote(&at.database),
        "current_user" | "session_user" | "current_role" => quote(&at.user),
        "current_setting" => setting(first, at)?,
        "pg_get_userbyid" => {
            let user = quote(&at.user);
            format!("CASE {first} WHEN {OWNER_OID} THEN '{OWNER}' WHEN {USER_OID} THEN {user} END")
        }
        "pg_table_is_visible" => format!(
            "{first} IN (SELECT visible.oid FROM pg_catalog.pg_class AS visible \
             JOIN pg_catalog.pg_namespace AS path ON path.oid = visible.relnamespace \
             WHERE path.nspname = {})",
            quote(&at.namespace)
        ),
        "pg_type_is_visible"
        | "pg_function_is_visible"
        | "pg_collation_is_visible"
        | "pg_opclass_is_visible"
        | "pg_operator_is_visible"
        | "pg_has_role" => "true".to_owned(),
        _ if PRIVILEGES.contains(&name) => privilege(arguments, at),
        "format_type" => format_type(first, arguments.get(1).map_or("NULL", String::as_str)),
        "pg_get_viewdef" => format!(
            "(SELECT max(shown.definition) FROM pg_catalog.pg_views AS shown \
             JOIN pg_catalog.pg_class AS of ON of.relname = shown.viewname \
             JOIN pg_catalog.pg_namespace AS within ON within.oid = of.relnamespace \
             AND within.nspname = shown.schemaname WHERE of.oid = {first})"
        ),
        _ if WITHOUT_TEXT.contains(&name) => "CAST(NULL AS VARCHAR)".to_owned(),
        // There are no transaction ids, and connections have no port that clients can use.
        "txid_current"
        | "txid_current_if_assigned"
        | "pg_current_xact_id"
        | "inet_server_port"
        | "inet_client_port"
        | "pg_relation_size"
        | "pg_total_relation_size"
        | "pg_table_size"
        | "pg_indexes_size"
        | "pg_tablespace_size"
        | "pg_column_size"
        | "pg_database_size" => "CAST(NULL AS BIGINT)".to_owned(),
        // There are no statistics of the use of tables and indexes.
        _ if name.starts_with("pg_stat_get_") => "CAST(NULL AS BIGINT)".to_owned(),
        "pg_encoding_to_char" | "pg_client_encoding" | "getdatabaseencoding" => quote("UTF8"),
        "pg_postmaster_start_time" | "pg_conf_load_time" => format!("to_timestamp({})", *STARTED),
        "pg_is_in_recovery"
        | "pg_is_wal_replay_paused"
        | "pg_is_other_temp_schema"
        | "pg_relation_is_publishable"
        | "row_security_active" => "false".to_owned(),
        "pg_backend_pid" => at.process.to_string(),
        "pg_my_temp_schema" => "0".to_owned(),
        "quote_ident" => format!(
            "CASE WHEN regexp_like({first}, '^[a-z_][a-z0-9_]*$') THEN {first} \
             ELSE '\"' || replace({first}, '\"', '\"\"') || '\"' END"
        ),
        "to_regclass" | "to_regtype" | "to_regnamespace" | "to_regrole" => {
            return number(name.trim_start_matches("to_"), &parse(first)?, at);
        }
        "array_upper" => format!("array_length({first})"),
        "array_lower" => "1".to_owned(),
        _ => return None,
    };
    Some(text)
}

/// Returns the result of a privilege check. The catalogs contain only objects that the user may
/// read.
fn privilege(arguments: &[String], at: &ConnectionProperties) -> String {
    let privilege = arguments.last().map_or("", |last| last.as_str()).to_ascii_lowercase();
    let reads = ["select", "usage", "connect"];
    let is_owner = at.user == OWNER;
    (is_owner || reads.iter().any(|read| privilege.contains(read))).to_string()
}

/// Returns the value of a setting as an expression; null for an unknown setting. `name` is an
/// expression.
fn setting(name: &str, at: &ConnectionProperties) -> Option<String> {
    if let Some(name) = constant(parse(name)?) {
        let value = value_of(&name, at).map(quote);
        return Some(value.unwrap_or_else(|| "CAST(NULL AS VARCHAR)".to_owned()));
    }
    let mut text = format!("CASE lower({name})");
    for (known, value) in &at.settings {
        text.push_str(&format!(
            " WHEN {} THEN {}",
            quote(&known.to_ascii_lowercase()),
            quote(value)
        ));
    }
    Some(text + " END")
}

/// Returns the value of a setting; `None` for an unknown setting.
fn value_of<'a>(name: &str, at: &'a ConnectionProperties) -> Option<&'a str> {
    let known = at.settings.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    known.map(|(_, value)| value.as_str())
}

/// Returns the error for a call of `current_setting` with an unknown setting; `None` for a known
/// setting, and if the second argument is true.
pub(crate) fn unknown_setting(arguments: &[String], at: &ConnectionProperties) -> Option<Problem> {
    let name = constant(parse(arguments.first()?)?)?;
    let is_optional = arguments.get(1).is_some_and(|argument| {
        let argument = argument.trim_matches('\'').to_ascii_lowercase();
        ["true", "t", "on", "yes", "1"].contains(&argument.as_str())
    });
    if is_optional || value_of(&name, at).is_some() {
        return None;
    }
    let problem = Problem::new(ErrorCode::InvalidArgument, format!("there is no setting `{name}`"));
    Some(problem.with_hint(format!(
        "Use `current_setting('{name}', true)`, which is null if the setting does not exist."
    )))
}

/// Returns the text of a literal, or of a literal in a cast.
fn constant(expr: Expr) -> Option<String> {
    match expr {
        Expr::Nested(inner) | Expr::Cast { expr: inner, .. } => constant(*inner),
        other => literal(&other).map(str::to_owned),
    }
}

/// Returns an expression for the name of a type, given its OID and modifier.
fn format_type(oid: &str, modifier: &str) -> String {
    let numeric = PgType::of(crate::types::ScalarType::Numeric).oid();
    let mut text = format!(
        "CASE WHEN {oid} IS NULL THEN NULL \
         WHEN {oid} = {numeric} AND {modifier} > 4 THEN 'numeric(' \
         || CAST(CAST(floor(({modifier} - 4) / 65536) AS BIGINT) AS VARCHAR) || ',' \
         || CAST(({modifier} - 4) % 65536 AS VARCHAR) || ')'"
    );
    for one in PgType::all() {
        text.push_str(&format!(" WHEN {oid} = {} THEN '{}'", one.oid(), one.name()));
    }
    text + " ELSE '-' END"
}

/// Returns an expression for the SQL name of a type, given its name in `pg_type`, with or without
/// quotes and the namespace. `TypeORM` reads the types of columns in this way.
fn type_by_name(name: &Expr) -> String {
    let mut text = format!("CASE replace(replace({name}, '\"', ''), 'pg_catalog.', '')");
    for one in PgType::all() {
        text.push_str(&format!(" WHEN '{}' THEN '{}'", one.internal_name(), one.name()));
    }
    text + " END"
}

/// Returns true for a concatenation of texts.
fn is_text(expr: &Expr) -> bool {
    match expr {
        Expr::Nested(inner) => is_text(inner),
        Expr::BinaryOp { op, .. } => *op == BinaryOperator::StringConcat,
        _ => false,
    }
}

/// Returns the catalog table that lists the objects of a type such as `regclass`, and its column
/// that contains the names.
fn catalog(kind: &str) -> Option<(&'static str, &'static str)> {
    Some(match kind {
        "regclass" => ("pg_class", "relname"),
        "regnamespace" => ("pg_namespace", "nspname"),
        "regtype" => ("pg_type", "typname"),
        "regrole" => ("pg_roles", "rolname"),
        _ => return None,
    })
}

/// Returns the translation of a cast to an object type, such as `'sales'::regclass`. Such a cast
/// converts a name to the object's OID, or an OID to the name.
pub(crate) fn object(kind: &str, expr: &Expr, at: &ConnectionProperties) -> Option<Expr> {
    let Some((table, name)) = catalog(kind) else {
        // A function is its name, so remove the types of its arguments: `array_in(cstring,oid)`.
        let function = literal(expr).filter(|_| kind == "regprocedure");
        let function = function.and_then(|text| text.split('(').next());
        let text = function.map_or_else(|| expr.to_string(), |name| quote(name.trim()));
        return parse(&format!("CAST({text} AS VARCHAR)"));
    };
    match literal(expr) {
        Some(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => parse(text),
        Some(_) => parse(&number(kind, expr, at)?),
        None if is_parameter(expr) => parse(&number(kind, expr, at)?),
        None if kind == "regtype" && is_text(expr) => parse(&type_by_name(expr)),
        None if kind == "regtype" => parse(&format_type(&expr.to_string(), "NULL")),
        None => parse(&format!(
            "(SELECT max(named.{name}) FROM pg_catalog.{table} AS named WHERE named.oid = {expr})"
        )),
    }
}

/// Returns an expression for the OID of an object, given its name; null if the object does not
/// exist. The value of a parameter can also be the OID instead of the name.
fn number(kind: &str, expr: &Expr, at: &ConnectionProperties) -> Option<String> {
    let (table, name) = catalog(kind)?;
    let known = literal(expr).filter(|_| kind == "regtype").and_then(PgType::from_name);
    if let Some(known) = known {
        return Some(known.oid().to_string());
    }
    let (wanted, is_oid) = if let Some(text) = literal(expr) {
        (quote(&text.replace('"', "")), String::new())
    } else {
        let wanted = format!("replace({expr}, '\"', '')");
        let is_oid = format!(" OR CAST(named.oid AS VARCHAR) = {wanted}");
        (wanted, is_oid)
    };
    if kind != "regclass" {
        return Some(format!(
            "(SELECT max(named.oid) FROM pg_catalog.{table} AS named \
             WHERE named.{name} = {wanted}{is_oid})"
        ));
    }
    // Compare with the whole qualified name, because a namespace can contain dots.
    let namespace = quote(&at.namespace);
    Some(format!(
        "(SELECT max(named.oid) FROM pg_catalog.pg_class AS named \
         JOIN pg_catalog.pg_namespace AS path ON path.oid = named.relnamespace \
         WHERE (path.nspname = {namespace} AND named.relname = {wanted}) \
         OR path.nspname || '.' || named.relname = {wanted}{is_oid})"
    ))
}

fn is_parameter(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(value) if matches!(value.value, Value::Placeholder(_)))
}

fn literal(expr: &Expr) -> Option<&str> {
    let Expr::Value(value) = expr else { return None };
    match &value.value {
        Value::SingleQuotedString(text) => Some(text),
        _ => None,
    }
}
