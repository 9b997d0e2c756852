//! Comparisons with the elements of an array in text: `x = ANY ('{a,b}')`.
//!
//! As in PostgreSQL, the elements of such an array have the type of `x`. A comparison with a text
//! literal has this effect, so the comparison becomes `x IN ('a', 'b')`.

use sqlparser::ast::{
    ArrayElemTypeDef, BinaryOperator, CastKind, DataType, Expr, Value, ValueWithSpan,
};

use crate::ast_builders::{binary, joined, text};
use crate::expression_rewrite::can_copy;

/// Replaces `ANY` and `ALL` of an array whose elements are texts by comparisons with the elements.
pub(crate) fn expand_quantified(expr: &mut Expr) {
    let (left, op, right, is_any) = match &*expr {
        Expr::AnyOp { left, compare_op, right, .. } => (left, compare_op, right, true),
        Expr::AllOp { left, compare_op, right } => (left, compare_op, right, false),
        _ => return,
    };
    let Some(list) = items(right) else { return };
    let compared = match op {
        _ if list.is_empty() => Expr::value(Value::Boolean(!is_any)),
        BinaryOperator::Eq if is_any => Expr::InList { expr: left.clone(), list, negated: false },
        BinaryOperator::NotEq if !is_any => {
            Expr::InList { expr: left.clone(), list, negated: true }
        }
        _ if !can_copy(left, list.len()) => return,
        op => {
            let connective = if is_any { BinaryOperator::Or } else { BinaryOperator::And };
            let one = |item: Expr| binary((**left).clone(), op.clone(), item);
            let Some(all) = joined(list.into_iter().map(one).collect(), &connective) else {
                return;
            };
            Expr::Nested(Box::new(all))
        }
    };
    *expr = compared;
}

/// Returns the elements of an array in text, and of an array of text literals; `None` for any other
/// expression. If the array is cast, each element is cast, except to text.
fn items(list: &Expr) -> Option<Vec<Expr>> {
    match list {
        Expr::Nested(inner) => items(inner),
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(array), .. }) => {
            let item = |item: Option<String>| item.map_or_else(null, text);
            Some(array_elements(array)?.into_iter().map(item).collect())
        }
        Expr::Array(array) => {
            let has_text = array.elem.iter().any(is_text);
            let is_known = |item: &Expr| is_text(item) || is_null(item);
            (has_text && array.elem.iter().all(is_known)).then(|| array.elem.clone())
        }
        Expr::Cast {
            kind: CastKind::Cast | CastKind::DoubleColon,
            expr,
            data_type:
                DataType::Array(
                    ArrayElemTypeDef::SquareBracket(element, _)
                    | ArrayElemTypeDef::AngleBracket(element),
                ),
            ..
        } => {
            let list = items(expr)?;
            if is_text_type(element) {
                return Some(list);
            }
            let cast = |item: Expr| Expr::Cast {
                kind: CastKind::Cast,
                expr: Box::new(item),
                data_type: (**element).clone(),
                array: false,
                format: None,
            };
            Some(list.into_iter().map(cast).collect())
        }
        _ => None,
    }
}

fn null() -> Expr {
    Expr::value(Value::Null)
}

fn is_text(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(value) if matches!(value.value, Value::SingleQuotedString(_)))
}

fn is_null(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(value) if value.value == Value::Null)
}

fn is_text_type(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Text | DataType::Varchar(None) | DataType::String(None))
}

/// Splits an array of one dimension, such as `{1,NULL,"a b"}`, into the texts of its elements, with
/// `None` for a null element. Returns `None` for any other text.
pub fn array_elements(text: &str) -> Option<Vec<Option<String>>> {
    let inner = text.trim().strip_prefix('{')?.strip_suffix('}')?;
    let mut found = Vec::new();
    if inner.trim_ascii().is_empty() {
        return Some(found);
    }
    let mut letters = inner.chars().peekable();
    loop {
        let (mut element, mut is_quoted) = (String::new(), false);
        while letters.next_if(char::is_ascii_whitespace).is_some() {}
        if letters.next_if_eq(&'"').is_some() {
            is_quoted = true;
            loop {
                match letters.next()? {
                    '"' => break,
                    '\\' => element.push(letters.next()?),
                    letter => element.push(letter),
                }
            }
            while letters.next_if(char::is_ascii_whitespace).is_some() {}
        } else {
            while let Some(letter) = letters.next_if(|letter| *letter != ',') {
                match letter {
                    '{' | '}' | '"' => return None,
                    '\\' => element.push(letters.next()?),
                    letter => element.push(letter),
                }
            }
            element.truncate(element.trim_ascii_end().len());
        }
        let is_null = !is_quoted && element.eq_ignore_ascii_case("null");
        found.push((!is_null).then_some(element));
        match letters.next() {
            None => return Some(found),
            Some(',') => {}
            Some(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use sqlparser::parser::Parser;

    use super::*;
    use crate::dialect::HeadwaterDialect;

    fn check(sql: &str, expected: &str) {
        let parser = Parser::new(&HeadwaterDialect).try_with_sql(sql);
        let mut expr = parser.expect("tokens").parse_expr().expect(sql);
        expand_quantified(&mut expr);
        assert_eq!(expr.to_string(), expected, "{sql}");
    }

    #[test]
    fn arrays_in_text_become_lists() {
        check("x = ANY('{a, \"b c\",NULL}')", "x IN ('a', 'b c', NULL)");
        check("x <> ALL (('{1,2}'))", "x NOT IN ('1', '2')");
        check("x = SOME('{1}'::text[])", "x IN ('1')");
        check("x = ANY('{1}'::int[])", "x IN (CAST('1' AS INT))");
        check("x = ANY(CAST(ARRAY['a', NULL] AS VARCHAR[]))", "x IN ('a', NULL)");
        check("x > ANY('{1,2}')", "(x > '1' OR x > '2')");
        check("x = ALL('{1,2}')", "(x = '1' AND x = '2')");
        check("x = ANY('{}')", "false");
        check("x <> ALL('{}')", "true");
        // Each level would copy the other levels as often as its array has elements.
        let nested = "(x > ANY('{1,2}')) > ANY('{t,f}')";
        check(nested, nested);
        for other in ["x = ANY(ARRAY[1, 2])", "x = ANY(y)", "x = ANY('a')", "x = ANY('{{1}}')"] {
            check(other, other);
        }
    }
}
