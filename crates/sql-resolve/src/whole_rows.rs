//! Rows as arguments of JSON functions: `row_to_json(t)`, `json_agg(t)` and `to_json(ROW(1, 2))`.
//!
//! As in PostgreSQL, the name of a relation stands for its row if no column has this name, and the
//! fields of ROW have the names `f1`, `f2` and so on. Both become structs.

use headwater_sql::ast_builders::{joined, text};
use headwater_sql::expression::call;
use headwater_sql::name_match::{NameMatch, equals_ignoring_case};
use sqlparser::ast::helpers::attached_token::AttachedToken;
use sqlparser::ast::{
    BinaryOperator, CaseWhen, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments,
    ObjectNamePart,
};

use crate::name_scope::Relation;
use crate::{Resolver, function_name};

/// Functions that convert a row to JSON.
const FUNCTIONS: [&str; 9] = [
    "json_agg",
    "json_build_array",
    "json_build_object",
    "jsonb_agg",
    "jsonb_build_array",
    "jsonb_build_object",
    "row_to_json",
    "to_json",
    "to_jsonb",
];

/// The function that creates a struct from names and values.
const STRUCT: &str = "named_struct";

impl Resolver<'_> {
    /// Replaces the rows among the arguments of a JSON function by structs.
    pub(crate) fn rows_as_structs(&self, function: &mut Function) {
        if !FUNCTIONS.contains(&function_name(function).as_str()) {
            return;
        }
        let FunctionArguments::List(list) = &mut function.args else { return };
        for argument in &mut list.args {
            let FunctionArg::Unnamed(argument) = argument else { continue };
            let row = match &*argument {
                FunctionArgExpr::Expr(Expr::Identifier(name)) => self.row_of(&name.value, true),
                FunctionArgExpr::Expr(Expr::Function(row)) => numbered_fields(row),
                // `t.*` is the row of `t`, even if a column has this name.
                FunctionArgExpr::QualifiedWildcard(name) => match name.0.as_slice() {
                    [ObjectNamePart::Identifier(name)] => self.row_of(&name.value, false),
                    _ => None,
                },
                _ => None,
            };
            if let Some(row) = row {
                *argument = FunctionArgExpr::Expr(row);
            }
        }
    }

    /// Returns the row of a relation as a struct; `None` if there is no such relation, or if its
    /// columns are not known. If `may_be_column` is true, a column with this name has precedence.
    fn row_of(&self, name: &str, may_be_column: bool) -> Option<Expr> {
        for scope in self.scopes.0.iter().rev() {
            if may_be_column && !matches!(scope.resolve_unqualified(name), NameMatch::None) {
                return None;
            }
            let is_named = |relation: &&Relation| equals_ignoring_case(&relation.label, name);
            if let Some(relation) = scope.relations.iter().find(is_named) {
                let is_joined = scope.relations.len() > 1;
                return relation.can_be_named().then(|| fields(relation, is_joined));
            }
            if scope.is_open() {
                return None;
            }
        }
        None
    }
}

/// Returns a struct of the columns of a relation. The row of a joined relation is null if all its
/// columns are null, because an outer join may have added the row.
fn fields(relation: &Relation, is_joined: bool) -> Expr {
    let columns = relation.columns.names.iter();
    let columns = columns.flat_map(|name| [text(name.as_str()), relation.column(name)]);
    let result = call(STRUCT, columns.collect());
    let names = relation.columns.names.iter().filter(|_| is_joined);
    let is_known = names.map(|name| Expr::IsNotNull(Box::new(relation.column(name))));
    let Some(condition) = joined(is_known.collect(), &BinaryOperator::Or) else { return result };
    Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions: vec![CaseWhen { condition, result }],
        else_result: None,
    }
}

/// Returns the struct for `ROW(a, b)`; `None` for calls of other functions.
fn numbered_fields(function: &Function) -> Option<Expr> {
    let FunctionArguments::List(list) = &function.args else { return None };
    if function_name(function) != "row" {
        return None;
    }
    let mut fields = Vec::new();
    for (index, argument) in list.args.iter().enumerate() {
        let FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) = argument else { return None };
        fields.extend([text(format!("f{}", index + 1)), value.clone()]);
    }
    (!fields.is_empty()).then(|| call(STRUCT, fields))
}
