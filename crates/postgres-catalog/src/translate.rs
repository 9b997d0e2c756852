//! Translation of PostgreSQL clients' queries to Headwater's dialect.
//!
//! To describe tables, clients use PostgreSQL's own functions and operators, casts to `regclass`,
//! and unqualified names of catalog tables. The text is parsed in PostgreSQL's dialect, rewritten,
//! and formatted as text again. A query without these elements is left unchanged.

use std::ops::ControlFlow;

use headwater_model::Problem;
use sqlparser::ast::{
    ArrayElemTypeDef, BinaryOperator, DataType, Expr, Function, FunctionArguments, Ident,
    ObjectName, ObjectNamePart, Query, Select, SetExpr, Statement, TableFactor, Value, VisitMut,
    VisitorMut,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use crate::catalog_tables::CatalogTable;
use crate::operators::{
    in_list, in_subquery, is_backslash, is_function, is_missing_kind, is_zero, name_function,
    never, only_else, plain_operator,
};
use crate::query_properties::QueryProperties;
use crate::{
    array_subquery, catalog_functions, empty_tables, from_clause, information_schema, join_lookup,
    pg_catalog, session_constants,
};

/// Texts of which a query must contain at least one to be rewritten.
const MARKS: [&str; 14] = [
    "pg_",
    "information_schema",
    "current_",
    "session_user",
    "version",
    "::reg",
    "to_reg",
    "has_",
    "_description",
    "format_type",
    "quote_ident",
    "inet_",
    "row_security_active",
    "txid_",
];

/// The properties of a connection that its catalog queries can read.
#[derive(Debug, Clone, Default)]
pub struct ConnectionProperties {
    /// The ref of the connection, reported as its database.
    pub database: String,
    /// The number of the connection, which clients see as the process id.
    pub process: i32,
    /// The name of the user.
    pub user: String,
    /// The namespace of unqualified names.
    pub namespace: String,
    /// The text that the function `version()` returns.
    pub version: String,
    /// The settings of the session.
    pub settings: Vec<(String, String)>,
}

/// A query that was rewritten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Translation {
    /// The text of the rewritten query.
    pub sql: String,
    /// The parameter names of the original query. Some of them may not occur in the rewritten
    /// query.
    pub parameters: Vec<String>,
}

/// Rewrites a query of PostgreSQL's catalogs. Returns `None` for any other query.
///
/// Errors: `invalid_argument` for a setting that does not exist.
pub fn translate(
    sql: &str,
    identity: &ConnectionProperties,
) -> Result<Option<Translation>, Problem> {
    let text = sql.to_ascii_lowercase();
    if !MARKS.iter().any(|mark| text.contains(mark)) && !session_constants::has_user(&text) {
        return Ok(None);
    }
    let Ok(mut statements) = Parser::parse_sql(&PostgreSqlDialect {}, sql) else {
        return Ok(None);
    };
    let [Statement::Query(query)] = statements.as_mut_slice() else { return Ok(None) };
    let QueryProperties { parameters, reads_catalog, reads_tables } = QueryProperties::of(query);
    let mut rewriter = QueryRewriter {
        identity,
        // A table of the lake may have a column `user`.
        replaces_user: reads_catalog || !reads_tables,
        changed: false,
        branches: 0,
        unknown_setting: None,
    };
    let _ = VisitMut::visit(query, &mut rewriter);
    if let Some(problem) = rewriter.unknown_setting {
        return Err(problem);
    }
    let parameters = parameters.into_iter().collect();
    Ok(rewriter.changed.then(|| Translation { sql: query.to_string(), parameters }))
}

struct QueryRewriter<'a> {
    identity: &'a ConnectionProperties,
    /// True if the word `user` is the name of the user.
    replaces_user: bool,
    changed: bool,
    /// The number of CASE expressions around the current expression.
    branches: usize,
    /// The error for a setting that does not exist.
    unknown_setting: Option<Problem>,
}

impl VisitorMut for QueryRewriter<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        // Fold the query before its expressions are rewritten, because the rewritten expressions
        // may contain aggregates.
        self.changed |= empty_tables::fold_query(query);
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        session_constants::name_columns(&mut select.projection);
        self.changed |= join_lookup::join_tables(select);
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<()> {
        let parts: Vec<&str> = parts(relation);
        match parts.as_slice() {
            [name] if CatalogTable::find(pg_catalog::NAMESPACE, name).is_some() => {
                let namespace = ObjectNamePart::Identifier(Ident::new(pg_catalog::NAMESPACE));
                relation.0.insert(0, namespace);
                self.changed = true;
            }
            [namespace, name] if is_catalog(namespace) => {
                self.changed = true;
                match CatalogTable::find(namespace, name) {
                    Some(table) => {
                        let names = [table.namespace, table.name];
                        *relation = ObjectName::from(names.map(Ident::new).to_vec());
                    }
                    // A table function such as `pg_catalog.generate_series`: remove the namespace.
                    None => drop(relation.0.remove(0)),
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        self.changed |= from_clause::rewrite(factor, self.identity);
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        self.branches += usize::from(matches!(expr, Expr::Case { .. }));
        self.changed |= in_subquery(expr);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        self.branches -= usize::from(matches!(expr, Expr::Case { .. }));
        if let Some(replacement) = self.replacement(expr) {
            *expr = replacement;
            self.changed = true;
        }
        ControlFlow::Continue(())
    }
}

impl QueryRewriter<'_> {
    /// Returns the replacement for an expression whose operands are already rewritten.
    fn replacement(&mut self, expr: &mut Expr) -> Option<Expr> {
        match expr {
            Expr::Collate { expr, .. } => Some(std::mem::replace(expr, null())),
            Expr::BinaryOp { left, right, .. } if is_function(left) && is_zero(right) => {
                // In Headwater, the columns that refer to functions contain names instead of OIDs.
                // So replace a comparison with the OID 0 by a comparison with `-`, the text that
                // PostgreSQL shows for this OID.
                **right = parse("'-'")?;
                Some(std::mem::replace(expr, null()))
            }
            Expr::BinaryOp { left, op: BinaryOperator::Eq, right }
                if is_missing_kind(left, right) =>
            {
                Some(never())
            }
            Expr::BinaryOp { left, op: BinaryOperator::Eq, right }
                if is_function(left) || is_function(right) =>
            {
                let changed = name_function(left) | name_function(right);
                changed.then(|| std::mem::replace(expr, null()))
            }
            Expr::Case { operand: None, conditions, else_result, .. } => {
                only_else(conditions, else_result.as_deref())
            }
            Expr::BinaryOp { op, .. } => {
                *op = plain_operator(op)?;
                Some(std::mem::replace(expr, null()))
            }
            Expr::Cast { expr, data_type, .. } => self.cast(expr, data_type),
            Expr::Function(function) => self.function(function),
            Expr::Identifier(name) if name.quote_style.is_none() => {
                let name = session_constants::named(name)?;
                catalog_functions::replacement(name, &[], self.identity)
            }
            Expr::CompoundIdentifier(names) if names.len() > 2 && is_catalog(&names[0].value) => {
                Some(Expr::CompoundIdentifier(names.split_off(1)))
            }
            Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. } => {
                in_list(left, right, false)
            }
            Expr::AllOp { left, compare_op: BinaryOperator::NotEq, right } => {
                in_list(left, right, true)
            }
            Expr::Like { pattern, escape_char, .. } => {
                let escape = escape_char.take_if(|it| !is_backslash(it))?;
                **pattern = parse(&format!("replace({pattern}, {escape}, '\\')"))?;
                Some(std::mem::replace(expr, null()))
            }
            Expr::Subquery(query) => empty_tables::scalar(query),
            Expr::Exists { subquery, negated } if empty_tables::is_empty(subquery) => {
                Some(boolean(*negated))
            }
            Expr::InSubquery { subquery, negated, .. } if empty_tables::is_empty(subquery) => {
                Some(boolean(*negated))
            }
            _ => None,
        }
    }

    fn function(&mut self, function: &mut Function) -> Option<Expr> {
        let names: Vec<String> =
            parts(&function.name).into_iter().map(str::to_ascii_lowercase).collect();
        let name = match names.as_slice() {
            [name] => name,
            [namespace, name] if is_catalog(namespace) => name,
            _ => return None,
        };
        if let FunctionArguments::Subquery(query) = &mut function.args
            && name == "array"
        {
            return array_subquery::aggregate(query);
        }
        let arguments = match &function.args {
            FunctionArguments::None if name == "user" && self.replaces_user => {
                return parse(&quote(&self.identity.user));
            }
            FunctionArguments::None => Vec::new(),
            FunctionArguments::List(list) => list.args.iter().map(ToString::to_string).collect(),
            FunctionArguments::Subquery(_) => return None,
        };
        // A branch of CASE may never be evaluated, so an unknown setting is null there.
        if name == "current_setting" && self.branches == 0 && self.unknown_setting.is_none() {
            self.unknown_setting = catalog_functions::unknown_setting(&arguments, self.identity);
        }
        let replacement = catalog_functions::replacement(name, &arguments, self.identity);
        if replacement.is_some() || names.len() == 1 {
            return replacement;
        }
        function.name = ObjectName::from(vec![Ident::new(name)]);
        Some(Expr::Function(function.clone()))
    }

    fn cast(&self, expr: &mut Box<Expr>, data_type: &mut DataType) -> Option<Expr> {
        let wanted = match &*data_type {
            DataType::Regclass => "regclass".to_owned(),
            DataType::Custom(name, _) => parts(name).last()?.to_ascii_lowercase(),
            DataType::Array(_) if empty_tables::is_null(expr) => return Some(null()),
            DataType::Array(ArrayElemTypeDef::SquareBracket(element, _)) => {
                let DataType::Custom(name, _) = &**element else { return None };
                let sql_type = plain_type(&parts(name).last()?.to_ascii_lowercase())?;
                return parse(&format!("CAST({expr} AS {sql_type}[])"));
            }
            _ => return None,
        };
        match wanted.as_str() {
            "regclass" | "regtype" | "regnamespace" | "regrole" | "regproc" | "regprocedure" => {
                catalog_functions::object(&wanted, expr, self.identity)
            }
            other => parse(&format!("CAST({expr} AS {})", plain_type(other)?)),
        }
    }
}

/// Returns the SQL type that corresponds to a type of PostgreSQL's catalogs.
fn plain_type(name: &str) -> Option<&'static str> {
    Some(match name {
        "text" | "name" | "char" | "bpchar" | "sql_identifier" | "character_data" | "yes_or_no"
        | "citext" => "VARCHAR",
        "oid" | "xid" | "cid" | "int8" | "cardinal_number" => "BIGINT",
        "int2" => "SMALLINT",
        "int4" => "INTEGER",
        "bool" => "BOOLEAN",
        "int2vector" => "SMALLINT[]",
        "oidvector" => "BIGINT[]",
        _ => return None,
    })
}

/// Returns the parts of a name that are identifiers.
pub(crate) fn parts(name: &ObjectName) -> Vec<&str> {
    let idents = name.0.iter().filter_map(ObjectNamePart::as_ident);
    idents.map(|ident| ident.value.as_str()).collect()
}

/// Returns true for the namespaces `pg_catalog` and `information_schema`, ignoring case.
pub(crate) fn is_catalog(namespace: &str) -> bool {
    [pg_catalog::NAMESPACE, information_schema::NAMESPACE]
        .iter()
        .any(|known| namespace.eq_ignore_ascii_case(known))
}

/// Parses an expression.
pub(crate) fn parse(text: &str) -> Option<Expr> {
    Parser::new(&PostgreSqlDialect {}).try_with_sql(text).ok()?.parse_expr().ok()
}

/// Formats a text as an SQL string literal.
pub(crate) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Returns the literal null.
pub(crate) fn null() -> Expr {
    Expr::value(Value::Null)
}

/// Returns a Boolean literal.
pub(crate) fn boolean(value: bool) -> Expr {
    Expr::value(Value::Boolean(value))
}

/// Returns the only SELECT of a query; `None` for a set operation.
pub(crate) fn select_of(query: &Query) -> Option<&Select> {
    match &*query.body {
        SetExpr::Select(select) => Some(select),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sql: &str, expected: &str) {
        let identity = ConnectionProperties {
            database: "main".into(),
            process: 7,
            user: "ann".into(),
            namespace: "public".into(),
            version: "PostgreSQL 15.0".into(),
            settings: vec![("search_path".into(), "public".into())],
        };
        let found = translate(sql, &identity).expect(sql);
        assert_eq!(found.as_ref().map_or(sql, |found| &found.sql), expected);
    }

    #[test]
    fn other_queries_remain() {
        for sql in [
            "SELECT has_tea FROM pg_sales",
            "SELECT version FROM releases",
            "SELECT  current_date",
            "INSERT INTO t SELECT current_schema()",
            "SELECT * FROM t@dev WHERE pg_ = 1",
            "SELECT user, current_date FROM logins",
        ] {
            check(sql, sql);
        }
    }

    #[test]
    fn names_operators_and_casts_are_rewritten() {
        check(
            "SELECT pg_class.oid FROM pg_class WHERE relname OPERATOR(pg_catalog.~) '^(t)$' \
             COLLATE pg_catalog.default",
            "SELECT pg_class.oid FROM pg_catalog.pg_class WHERE relname ~ '^(t)$'",
        );
        check(
            "SELECT pg_catalog.pg_class.relname FROM pg_catalog.pg_class WHERE relkind = \
             ANY (ARRAY['r', 'v'])",
            "SELECT pg_class.relname FROM pg_catalog.pg_class WHERE relkind IN ('r', 'v')",
        );
        check(
            "SELECT oid FROM pg_class WHERE relname LIKE 'pg/_%' ESCAPE '/'",
            "SELECT oid FROM pg_catalog.pg_class WHERE relname LIKE \
             replace('pg/_%', '/', '\\')",
        );
        check(
            "SELECT * FROM INFORMATION_SCHEMA.Columns",
            "SELECT * FROM information_schema.columns",
        );
        check(
            "SELECT oid FROM pg_type WHERE typreceive != 0",
            "SELECT oid FROM pg_catalog.pg_type WHERE typreceive <> '-'",
        );
        check(
            "SELECT oid FROM pg_type WHERE oid = any($1::oid[])",
            "SELECT oid FROM pg_catalog.pg_type WHERE oid = ANY(CAST($1 AS BIGINT[]))",
        );
        check(
            "SELECT CASE WHEN t.typtype = 'd' THEN (SELECT 1) ELSE t.oid END AS x FROM pg_type t",
            "SELECT t.oid AS x FROM pg_catalog.pg_type t",
        );
        check("SELECT pg_backend_pid()", "SELECT 7 AS \"pg_backend_pid\"");
        check(
            "SELECT pg_backend_pid(), pg_backend_pid() AS n, 1 AS n",
            "SELECT 7 AS \"pg_backend_pid\", 7 AS n, 1 AS n",
        );
        check(
            "SELECT current_schemas(true) AS a, current_schemas(false) AS b",
            "SELECT ARRAY['pg_catalog', 'public'] AS a, ARRAY['public'] AS b",
        );
        check(
            "SELECT relname FROM pg_class WHERE relname = user",
            "SELECT relname FROM pg_catalog.pg_class WHERE relname = 'ann'",
        );
        check("SELECT '5'::pg_catalog.oid", "SELECT CAST('5' AS BIGINT) AS \"oid\"");
        check(
            "SELECT current_schema(), current_setting('search_path')",
            "SELECT 'public' AS \"current_schema\", 'public' AS \"current_setting\"",
        );
    }

    #[test]
    fn unknown_settings_are_errors() {
        let unknown = "SELECT current_setting('app.x')";
        let problem = translate(unknown, &ConnectionProperties::default()).expect_err(unknown);
        assert_eq!(problem.message, "there is no setting `app.x`");
        check("SELECT current_setting('app.x', true) AS x", "SELECT CAST(NULL AS VARCHAR) AS x");
        check(
            "SELECT CASE WHEN a THEN current_setting('app.x') END AS x",
            "SELECT CASE WHEN a THEN CAST(NULL AS VARCHAR) END AS x",
        );
        check(
            "SELECT current_setting($1) AS x",
            "SELECT CASE lower($1) WHEN 'search_path' THEN 'public' END AS x",
        );
    }

    #[test]
    fn queries_of_empty_tables_have_no_rows() {
        check(
            "SELECT i.indkey, a.attname::text FROM pg_index i JOIN pg_attribute a ON true",
            "SELECT NULL AS \"indkey\", NULL AS \"attname\" WHERE false",
        );
        check(
            "SELECT a.attname, (SELECT adbin FROM pg_attrdef d WHERE d.adrelid = a.attrelid) \
             AS x FROM pg_attribute a",
            "SELECT a.attname, NULL AS x FROM pg_catalog.pg_attribute a",
        );
    }

    #[test]
    fn arrays_have_the_order_and_the_rows_of_their_subquery() {
        check(
            "SELECT ARRAY(SELECT relname FROM pg_class ORDER BY oid DESC, relname) AS names",
            "SELECT (SELECT array_agg(relname ORDER BY oid DESC, relname) FROM \
             pg_catalog.pg_class) AS names",
        );
        check(
            "SELECT ARRAY(SELECT relname AS n FROM pg_class ORDER BY n) AS names",
            "SELECT (SELECT array_agg(relname ORDER BY relname) FROM pg_catalog.pg_class) AS names",
        );
        check(
            "SELECT ARRAY(SELECT relname FROM pg_class ORDER BY oid LIMIT 2) AS names",
            "SELECT (SELECT array_agg(\"element\" ORDER BY \"key0\") FROM (SELECT relname AS \
             \"element\", oid AS \"key0\" FROM pg_catalog.pg_class ORDER BY \"key0\" LIMIT 2) AS \
             \"elements\") AS names",
        );
        check(
            "SELECT ARRAY(SELECT DISTINCT relkind FROM pg_class ORDER BY 1) AS kinds",
            "SELECT (SELECT array_agg(\"element\" ORDER BY \"element\") FROM (SELECT DISTINCT \
             relkind AS \"element\" FROM pg_catalog.pg_class ORDER BY \"element\") AS \
             \"elements\") AS kinds",
        );
    }
}
