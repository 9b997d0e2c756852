//! The supported SQL dialect: sqlparser's generic dialect with extensions known from DuckDB.
//!
//! The parser deliberately accepts clauses that are not supported. The error for such a clause can
//! then contain its name, while text that cannot be parsed causes only a syntax error.

use std::any::TypeId;

use sqlparser::ast::{
    ColumnOption, DescribeAlias, Expr, ObjectType, SelectItem, Statement, TableWithJoins,
    UtilityOption, WildcardAdditionalOptions,
};
use sqlparser::dialect::{Dialect, GenericDialect, Precedence};
use sqlparser::keywords::{Keyword, RESERVED_FOR_COLUMN_ALIAS};
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

use crate::change::{QueryClauses, query_of};
use crate::{foreign_operators, partition_field, radix_literal};

/// Headwater's dialect.
#[derive(Debug)]
pub struct HeadwaterDialect;

impl Dialect for HeadwaterDialect {
    /// Returns the type of sqlparser's generic dialect, so that checks of the parser for the
    /// generic dialect also apply to this dialect.
    fn dialect(&self) -> TypeId {
        TypeId::of::<GenericDialect>()
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '"' || ch == '`'
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_alphabetic() || ch == '_'
    }

    /// Allows `@` in names, so that `flights@dev` needs no quotes.
    fn is_identifier_part(&self, ch: char) -> bool {
        ch.is_alphanumeric() || ch == '_' || ch == '$' || ch == '@'
    }

    /// Parses SUMMARIZE, EXPLAIN COST, and EXPLAIN with options in parentheses. Also parses `CREATE
    /// NAMESPACE` and `DROP NAMESPACE`, which are Spark's names for CREATE and DROP SCHEMA.
    fn parse_statement(&self, parser: &mut Parser) -> Option<Result<Statement, ParserError>> {
        let is = |place: usize, text: &str| {
            matches!(&parser.peek_nth_token_ref(place).token, Token::Word(word)
                if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(text))
        };
        if is(0, "SUMMARIZE") {
            parser.advance_token();
            return Some(summarize(parser));
        }
        if is(0, "EXPLAIN") && is(1, "COST") {
            parser.advance_token();
            parser.advance_token();
            return Some(explain_cost(parser));
        }
        let begins_query = || ["SELECT", "WITH", "VALUES"].iter().any(|word| is(2, word));
        let has_options = parser.peek_nth_token_ref(1).token == Token::LParen && !begins_query();
        if is(0, "EXPLAIN") && has_options {
            parser.advance_token();
            parser.advance_token();
            return Some(explain_with_options(parser));
        }
        if !is(1, "NAMESPACE") {
            return None;
        }
        if parser.parse_keyword(Keyword::CREATE) {
            parser.advance_token();
            return Some(parser.parse_create_schema());
        }
        if parser.parse_keyword(Keyword::DROP) {
            parser.advance_token();
            return Some(drop_schema(parser));
        }
        None
    }

    /// Parses the transforms in `PARTITIONED BY (day(ts))`, where sqlparser expects column
    /// definitions.
    fn parse_column_option(
        &self,
        parser: &mut Parser,
    ) -> Result<Option<Result<Option<ColumnOption>, ParserError>>, ParserError> {
        Ok(partition_field::option(parser)?.map(|option| Ok(Some(option))))
    }

    /// Parses integers in hexadecimal, octal and binary notation, list comprehensions, and names
    /// before the operator `->`.
    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        radix_literal::parse(parser)
            .or_else(|| foreign_operators::comprehension(parser))
            .or_else(|| foreign_operators::name_before_arrow(parser).map(Ok))
    }

    /// Parses `IS [NOT] DISTINCT FROM` with the precedence of `=`, because sqlparser would parse
    /// everything that follows as the right operand.
    fn parse_infix(
        &self,
        parser: &mut Parser,
        left: &Expr,
        precedence: u8,
    ) -> Option<Result<Expr, ParserError>> {
        const FROM: [Keyword; 3] = [Keyword::IS, Keyword::DISTINCT, Keyword::FROM];
        const NOT_FROM: [Keyword; 4] =
            [Keyword::IS, Keyword::NOT, Keyword::DISTINCT, Keyword::FROM];
        if let Some(parsed) = foreign_operators::parse(parser, left, precedence) {
            return Some(parsed);
        }
        let differs = parser.parse_keywords(&FROM);
        if !differs && !parser.parse_keywords(&NOT_FROM) {
            return None;
        }
        let left = Box::new(left.clone());
        let differ = if differs { Expr::IsDistinctFrom } else { Expr::IsNotDistinctFrom };
        Some(parser.parse_subexpr(precedence).map(|right| differ(left, Box::new(right))))
    }

    /// Makes `->`, `->>`, `#>`, `#>>` and `^@` bind more tightly than comparisons, as in
    /// PostgreSQL.
    fn get_next_precedence(&self, parser: &Parser) -> Option<Result<u8, ParserError>> {
        let token = &parser.peek_token_ref().token;
        let is_arrow = matches!(
            token,
            Token::Arrow
                | Token::LongArrow
                | Token::HashArrow
                | Token::HashLongArrow
                | Token::CaretAt
        );
        let precedence = || Some(self.prec_value(Precedence::PlusMinus) - 1);
        foreign_operators::precedence(parser)
            .or_else(|| is_arrow.then(precedence).flatten())
            .map(Ok)
    }

    /// Rejects ON as an alias before CONFLICT, as in `INSERT INTO t SELECT 1 ON CONFLICT …`.
    fn is_column_alias(&self, keyword: &Keyword, parser: &mut Parser) -> bool {
        let is_clause = *keyword == Keyword::ON && parser.peek_keyword(Keyword::CONFLICT);
        !is_clause && !RESERVED_FOR_COLUMN_ALIAS.contains(keyword)
    }

    fn supports_trailing_commas(&self) -> bool {
        true
    }

    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }

    fn supports_group_by_expr(&self) -> bool {
        true
    }

    fn supports_group_by_with_modifier(&self) -> bool {
        true
    }

    fn supports_order_by_all(&self) -> bool {
        true
    }

    fn supports_from_first_select(&self) -> bool {
        true
    }

    fn supports_select_wildcard_exclude(&self) -> bool {
        true
    }

    fn supports_select_wildcard_except(&self) -> bool {
        true
    }

    fn supports_select_wildcard_replace(&self) -> bool {
        true
    }

    fn supports_select_wildcard_ilike(&self) -> bool {
        true
    }

    fn supports_select_wildcard_rename(&self) -> bool {
        true
    }

    fn supports_bitwise_shift_operators(&self) -> bool {
        true
    }

    fn supports_dictionary_syntax(&self) -> bool {
        true
    }

    fn support_map_literal_syntax(&self) -> bool {
        true
    }

    fn supports_lambda_functions(&self) -> bool {
        true
    }

    fn supports_named_fn_args_with_assignment_operator(&self) -> bool {
        true
    }

    fn supports_struct_literal(&self) -> bool {
        true
    }

    fn supports_array_typedef_with_brackets(&self) -> bool {
        true
    }

    fn supports_left_associative_joins_without_parens(&self) -> bool {
        true
    }

    fn supports_window_function_null_treatment_arg(&self) -> bool {
        true
    }

    fn supports_window_clause_named_window_reference(&self) -> bool {
        true
    }

    fn supports_parens_around_table_factor(&self) -> bool {
        true
    }

    fn supports_values_as_table_factor(&self) -> bool {
        true
    }

    fn supports_update_order_by(&self) -> bool {
        true
    }

    fn supports_limit_comma(&self) -> bool {
        true
    }

    fn supports_nested_comments(&self) -> bool {
        true
    }

    fn supports_notnull_operator(&self) -> bool {
        true
    }

    fn supports_numeric_literal_underscores(&self) -> bool {
        true
    }

    fn supports_string_escape_constant(&self) -> bool {
        true
    }

    fn supports_unicode_string_literal(&self) -> bool {
        true
    }

    fn supports_comma_separated_trim(&self) -> bool {
        true
    }

    fn allow_extract_custom(&self) -> bool {
        true
    }

    fn allow_extract_single_quotes(&self) -> bool {
        true
    }

    fn supports_interval_options(&self) -> bool {
        true
    }

    /// Enabled so that the error for unsupported time travel contains the clause's name.
    fn supports_table_versioning(&self) -> bool {
        true
    }

    /// Enabled so that the errors for locking and paging clauses of other dialects contain the
    /// clause's name.
    fn supports_connect_by(&self) -> bool {
        true
    }

    fn supports_prewhere(&self) -> bool {
        true
    }

    fn supports_limit_by(&self) -> bool {
        true
    }

    fn supports_settings(&self) -> bool {
        true
    }

    fn supports_select_format(&self) -> bool {
        true
    }

    fn supports_with_fill(&self) -> bool {
        true
    }

    fn supports_interpolate(&self) -> bool {
        true
    }

    fn supports_match_recognize(&self) -> bool {
        true
    }

    fn supports_install(&self) -> bool {
        true
    }

    fn supports_detach(&self) -> bool {
        true
    }

    fn supports_load_extension(&self) -> bool {
        true
    }

    fn supports_comment_on(&self) -> bool {
        true
    }
}

/// Parses the rest of SUMMARIZE: a table or a query. Returns a DESCRIBE with the flag `estimate`,
/// because the syntax tree has no node for SUMMARIZE.
fn summarize(parser: &mut Parser) -> Result<Statement, ParserError> {
    const QUERY: [Keyword; 4] = [Keyword::SELECT, Keyword::WITH, Keyword::FROM, Keyword::VALUES];
    let is_query = match &parser.peek_token_ref().token {
        Token::Word(word) => word.quote_style.is_none() && QUERY.contains(&word.keyword),
        token => *token == Token::LParen,
    };
    let query = if is_query {
        parser.parse_query()?
    } else {
        let relation = parser.parse_table_factor()?;
        let projection = vec![SelectItem::Wildcard(WildcardAdditionalOptions::default())];
        let from = vec![TableWithJoins { relation, joins: Vec::new() }];
        Box::new(query_of(QueryClauses { projection, from, ..QueryClauses::default() }))
    };
    Ok(estimate(DescribeAlias::Describe, Statement::Query(query)))
}

/// Parses the statement after EXPLAIN COST. Returns the node of EXPLAIN ESTIMATE.
fn explain_cost(parser: &mut Parser) -> Result<Statement, ParserError> {
    Ok(estimate(DescribeAlias::Explain, parser.parse_statement()?))
}

/// Returns an EXPLAIN node with the flag `estimate`.
fn estimate(describe_alias: DescribeAlias, statement: Statement) -> Statement {
    Statement::Explain {
        describe_alias,
        analyze: false,
        verbose: false,
        query_plan: false,
        estimate: true,
        statement: Box::new(statement),
        format: None,
        options: None,
    }
}

/// Parses EXPLAIN after the opening parenthesis of its options. sqlparser's own parser of options
/// stops before the word ANALYZE, because it permits a comma at the end of a list.
fn explain_with_options(parser: &mut Parser) -> Result<Statement, ParserError> {
    let mut options = Vec::new();
    loop {
        let name = parser.parse_identifier()?;
        let has_value = !matches!(parser.peek_token_ref().token, Token::Comma | Token::RParen);
        let arg = if has_value { Some(parser.parse_expr()?) } else { None };
        options.push(UtilityOption { name, arg });
        if !parser.consume_token(&Token::Comma) {
            break;
        }
    }
    parser.expect_token(&Token::RParen)?;
    Ok(Statement::Explain {
        describe_alias: DescribeAlias::Explain,
        analyze: false,
        verbose: false,
        query_plan: false,
        estimate: false,
        statement: Box::new(parser.parse_statement()?),
        format: None,
        options: Some(options),
    })
}

/// Parses the rest of DROP NAMESPACE.
fn drop_schema(parser: &mut Parser) -> Result<Statement, ParserError> {
    let if_exists = parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
    let names = parser.parse_comma_separated(|parser| parser.parse_object_name(false))?;
    Ok(Statement::Drop {
        object_type: ObjectType::Schema,
        if_exists,
        names,
        cascade: parser.parse_keyword(Keyword::CASCADE),
        restrict: parser.parse_keyword(Keyword::RESTRICT),
        purge: parser.parse_keyword(Keyword::PURGE),
        temporary: false,
        table: None,
    })
}
