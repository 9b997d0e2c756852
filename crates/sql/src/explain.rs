//! EXPLAIN and DESCRIBE of a query, and SUMMARIZE, which have one node in the syntax tree.

use sqlparser::ast::{DescribeAlias, Statement, UtilityOption};

use crate::error::{Error, Result};
use crate::statement::{SourceQuery, SupportedStatement, keywords, refusal};
use crate::unsupported_clauses::{none, unset};

/// Options of PostgreSQL's EXPLAIN that add or remove values of operators. They have no effect,
/// because the plans do not have these values.
const WITHOUT_EFFECT: [&str; 7] =
    ["BUFFERS", "COSTS", "MEMORY", "SETTINGS", "SUMMARY", "TIMING", "WAL"];

/// The options of EXPLAIN.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExplainOptions {
    /// True with ANALYZE.
    pub analyze: bool,
    /// True with VERBOSE.
    pub verbose: bool,
    /// True with FORMAT JSON.
    pub is_json: bool,
}

impl ExplainOptions {
    /// Applies an option in parentheses, as in `EXPLAIN (ANALYZE, FORMAT JSON)`.
    fn apply(&mut self, option: &UtilityOption) -> Result<()> {
        let name = option.name.value.to_ascii_uppercase();
        let value = option.arg.as_ref();
        let value = value.map(|it| it.to_string().trim_matches('\'').to_ascii_lowercase());
        let is_on = match value.as_deref() {
            None | Some("true" | "on" | "1") => Some(true),
            Some("false" | "off" | "0") => Some(false),
            Some(_) => None,
        };
        match (name.as_str(), is_on, value.as_deref()) {
            ("ANALYZE", Some(is_on), _) => self.analyze = is_on,
            ("VERBOSE", Some(is_on), _) => self.verbose = is_on,
            ("FORMAT", _, Some("json")) => self.is_json = true,
            ("FORMAT", _, Some("text")) => self.is_json = false,
            (name, Some(_), _) if WITHOUT_EFFECT.contains(&name) => {}
            _ => return Err(Error::unsupported(format!("EXPLAIN ({option})"))),
        }
        Ok(())
    }
}

/// Converts EXPLAIN, DESCRIBE of a query, and SUMMARIZE.
pub(crate) fn explained(statement: Statement) -> Result<SupportedStatement> {
    let Statement::Explain {
        describe_alias,
        analyze,
        verbose,
        query_plan,
        estimate,
        statement,
        format,
        options: written,
    } = statement
    else {
        return Err(refusal(&statement));
    };
    if let (true, Statement::Query(query)) = (is_summary(describe_alias, estimate), &*statement) {
        return Ok(SupportedStatement::Summarize(SourceQuery::new(query.clone())?));
    }
    let mut options = ExplainOptions { analyze, verbose, is_json: false };
    written.iter().flatten().try_for_each(|option| options.apply(option))?;
    unset(query_plan, "EXPLAIN QUERY PLAN")?;
    none(format.as_ref(), "EXPLAIN FORMAT")?;
    let has_options = options != ExplainOptions::default();
    unset(estimate && has_options, "EXPLAIN COST with ANALYZE or VERBOSE")?;
    match (describe_alias, *statement) {
        (DescribeAlias::Explain, Statement::Query(query)) if estimate => {
            Ok(SupportedStatement::ExplainCost(SourceQuery::new(query)?))
        }
        (DescribeAlias::Explain, Statement::Query(query)) => {
            Ok(SupportedStatement::Explain { source: SourceQuery::new(query)?, options })
        }
        (DescribeAlias::Explain, other) => {
            Err(Error::unsupported(format!("EXPLAIN {}", keywords(&other, 1))))
        }
        (_, Statement::Query(query)) => {
            Ok(SupportedStatement::DescribeQuery(SourceQuery::new(query)?))
        }
        (_, other) => Err(Error::unsupported(format!("DESCRIBE {}", keywords(&other, 1)))),
    }
}

/// Returns true if an EXPLAIN node represents SUMMARIZE, which has no node of its own.
fn is_summary(alias: DescribeAlias, estimate: bool) -> bool {
    estimate && alias == DescribeAlias::Describe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::parse;

    fn check(sql: &str, expected: ExplainOptions) {
        match parse(sql) {
            Ok(SupportedStatement::Explain { options, .. }) => assert_eq!(options, expected),
            other => panic!("{sql}: {other:?}"),
        }
    }

    #[test]
    fn options_are_those_of_postgresql() {
        let none = ExplainOptions::default();
        check("EXPLAIN SELECT 1", none);
        check("EXPLAIN (FORMAT JSON) SELECT 1", ExplainOptions { is_json: true, ..none });
        check(
            "EXPLAIN (ANALYZE, BUFFERS, FORMAT 'json', VERBOSE off) SELECT 1",
            ExplainOptions { analyze: true, is_json: true, ..none },
        );
        check("EXPLAIN (FORMAT TEXT, COSTS FALSE, ANALYZE FALSE) SELECT 1", none);
        check(
            "EXPLAIN (SETTINGS, SUMMARY OFF, TIMING 1, VERBOSE TRUE, ANALYZE ON) SELECT 1",
            ExplainOptions { analyze: true, verbose: true, ..none },
        );
        for sql in ["EXPLAIN (FORMAT YAML) SELECT 1", "EXPLAIN (GENERIC_PLAN) SELECT 1"] {
            assert!(parse(sql).is_err(), "{sql}");
        }
    }
}
