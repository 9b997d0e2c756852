//! Relations in FROM that PostgreSQL's clients use and Headwater's dialect does not have: functions
//! whose result is one row, the list of settings, and aliases that are keywords.

use sqlparser::ast::{Ident, ObjectName, Query, TableAlias, TableAliasColumnDef, TableFactor};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use crate::catalog_functions;
use crate::translate::{ConnectionProperties, parts, quote};

/// Scalar functions that clients call in FROM. Grafana splits `search_path` in this way.
const SCALAR_FUNCTIONS: [&str; 2] = ["string_to_array", "regexp_split_to_array"];

/// Constants of the session that `TypeORM` reads as relations: `SELECT * FROM current_schema()`.
const CONSTANTS: [&str; 3] = ["current_database", "current_schema", "version"];

/// The lists of settings: a catalog table, and a function with the same columns.
const SETTINGS: [&str; 2] = ["pg_settings", "pg_show_all_settings"];

/// Rewrites a relation. Returns true if the query cannot be planned without the change.
pub(crate) fn rewrite(factor: &mut TableFactor, identity: &ConnectionProperties) -> bool {
    let TableFactor::Table { name, args, alias, .. } = factor else { return false };
    let function = parts(name).last().map(|name| name.to_ascii_lowercase()).unwrap_or_default();
    if let Some(alias) = alias {
        // Without AS, the alias `at` is a part of the clause AT BRANCH.
        alias.explicit |= alias.name.value.eq_ignore_ascii_case("at");
    }
    match function.as_str() {
        // `pg_get_keywords` is a function in PostgreSQL, but a catalog table in Headwater.
        "pg_get_keywords" => {
            *args = None;
            false
        }
        "generate_series" if args.is_some() => {
            // The alias of a function with one column is also the name of the column.
            if let Some(alias) = alias.as_mut().filter(|alias| alias.columns.is_empty()) {
                let column = TableAliasColumnDef { name: alias.name.clone(), data_type: None };
                alias.columns.push(column);
            }
            false
        }
        function if SETTINGS.contains(&function) && is_in_catalog(name) => {
            let alias = alias.take().unwrap_or_else(|| alias_of(function));
            replace(factor, &settings(identity), alias)
        }
        function if CONSTANTS.contains(&function) && is_in_catalog(name) => {
            let has_no_arguments = args.as_ref().is_some_and(|args| args.args.is_empty());
            let value = catalog_functions::replacement(function, &[], identity);
            let Some(value) = value.filter(|_| has_no_arguments) else { return false };
            let alias = alias.take().unwrap_or_else(|| alias_of(function));
            let call = format!("SELECT {value} AS {}", alias.name);
            replace(factor, &call, alias)
        }
        function if SCALAR_FUNCTIONS.contains(&function) => {
            let Some(args) = args else { return false };
            let list: Vec<String> = args.args.iter().map(ToString::to_string).collect();
            let alias = alias.take().unwrap_or_else(|| alias_of(function));
            let call = format!("SELECT {function}({}) AS {}", list.join(", "), alias.name);
            replace(factor, &call, alias)
        }
        _ => false,
    }
}

fn is_in_catalog(name: &ObjectName) -> bool {
    match parts(name).as_slice() {
        [_] => true,
        [namespace, _] => namespace.eq_ignore_ascii_case(crate::pg_catalog::NAMESPACE),
        _ => false,
    }
}

fn alias_of(name: &str) -> TableAlias {
    TableAlias { explicit: true, name: Ident::new(name), columns: Vec::new(), at: None }
}

/// Replaces a relation by a subquery.
fn replace(factor: &mut TableFactor, sql: &str, alias: TableAlias) -> bool {
    let Some(subquery) = query(sql) else { return false };
    *factor = TableFactor::Derived {
        lateral: false,
        subquery: Box::new(subquery),
        alias: Some(alias),
        sample: None,
    };
    true
}

fn query(sql: &str) -> Option<Query> {
    let parser = Parser::new(&PostgreSqlDialect {}).try_with_sql(sql).ok();
    parser.and_then(|mut parser| parser.parse_query().ok()).map(|query| *query)
}

/// Returns the query of the settings of the session.
fn settings(identity: &ConnectionProperties) -> String {
    let rows: Vec<String> = identity
        .settings
        .iter()
        .map(|(name, value)| {
            let category = if name.contains('.') { "Customized Options" } else { "Settings" };
            format!("({}, {}, {})", quote(name), quote(value), quote(category))
        })
        .collect();
    let null = "CAST(NULL AS VARCHAR)";
    format!(
        "SELECT name, setting, {null} AS unit, category, {null} AS short_desc, \
         {null} AS extra_desc, 'user' AS context, 'string' AS vartype, 'session' AS source, \
         {null} AS min_val, {null} AS max_val, {null} AS enumvals, {null} AS boot_val, \
         setting AS reset_val, false AS pending_restart \
         FROM (VALUES {}) AS known (name, setting, category)",
        rows.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::translate;

    fn check(sql: &str, expected: &str) {
        let identity = ConnectionProperties {
            namespace: "public".into(),
            settings: vec![("search_path".into(), "public".into())],
            ..ConnectionProperties::default()
        };
        let found = translate(sql, &identity).expect(sql).expect(sql);
        assert_eq!(found.sql, expected);
    }

    #[test]
    fn scalar_functions_are_subqueries() {
        check(
            "SELECT s[i] AS n FROM generate_series(1, 2) AS i, \
             string_to_array(current_setting('search_path'), ',') s",
            "SELECT s[i] AS n FROM generate_series(1, 2) AS i (i), \
             (SELECT string_to_array('public', ',') AS s) s",
        );
    }

    #[test]
    fn constants_are_relations_of_one_row() {
        check(
            "SELECT * FROM current_schema()",
            "SELECT * FROM (SELECT 'public' AS current_schema) AS current_schema",
        );
    }

    #[test]
    fn aliases_can_be_keywords() {
        check(
            "SELECT at.attname FROM pg_attribute at JOIN pg_type ty ON ty.oid = at.atttypid",
            "SELECT at.attname FROM pg_catalog.pg_attribute AS at JOIN pg_catalog.pg_type ty ON \
             ty.oid = at.atttypid",
        );
    }

    #[test]
    fn settings_are_those_of_the_session() {
        let identity = ConnectionProperties {
            settings: vec![("app.user".into(), "it's".into()), ("work_mem".into(), "4MB".into())],
            ..ConnectionProperties::default()
        };
        for sql in [
            "SELECT setting FROM pg_settings WHERE name = 'app.user'",
            "SELECT s.setting FROM pg_catalog.pg_show_all_settings() s",
        ] {
            let found = translate(sql, &identity).expect(sql).expect(sql).sql;
            let rows = "VALUES ('app.user', 'it''s', 'Customized Options'), \
                        ('work_mem', '4MB', 'Settings')";
            assert!(found.contains(rows), "{found}");
        }
    }
}
