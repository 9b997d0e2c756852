//! Functions, aggregates and operators in `pg_proc` and `pg_operator`. Only routines with the same
//! name, arguments and result as in PostgreSQL are listed. Clients complete and generate
//! queries with these names.

use serde_json::{Value, json};

use crate::pg_catalog::{NAMESPACE_OID, OWNER_OID};
use crate::types::PgType;

/// The OID of the first function. Operators follow the functions.
const FIRST_OID: usize = 14_000;

/// Scalar functions: `name result argument …`, with the types' names in `pg_type`.
const FUNCTIONS: &[&str] = &[
    "abs int4 int4",
    "abs int8 int8",
    "abs float8 float8",
    "abs numeric numeric",
    "ceil float8 float8",
    "floor float8 float8",
    "round float8 float8",
    "trunc float8 float8",
    "sqrt float8 float8",
    "exp float8 float8",
    "ln float8 float8",
    "power float8 float8 float8",
    "sin float8 float8",
    "cos float8 float8",
    "tan float8 float8",
    "atan float8 float8",
    "degrees float8 float8",
    "radians float8 float8",
    "pi float8",
    "random float8",
    "mod int8 int8 int8",
    "gcd int8 int8 int8",
    "lower text text",
    "upper text text",
    "initcap text text",
    "reverse text text",
    "btrim text text",
    "ltrim text text",
    "rtrim text text",
    "length int4 text",
    "char_length int4 text",
    "octet_length int4 text",
    "ascii int4 text",
    "chr text int4",
    "to_hex text int8",
    "md5 text text",
    "left text text int4",
    "right text text int4",
    "lpad text text int4 text",
    "rpad text text int4 text",
    "repeat text text int4",
    "replace text text text text",
    "split_part text text text int4",
    "strpos int4 text text",
    "substr text text int4 int4",
    "starts_with bool text text",
    "translate text text text text",
    "regexp_replace text text text text",
    "regexp_like bool text text",
    "array_to_string text _text text",
    "cardinality int4 _int8",
    "date_part float8 text timestamp",
    "date_trunc timestamp text timestamp",
    "now timestamptz",
    "make_date date int4 int4 int4",
    "to_char text timestamp text",
    "gen_random_uuid uuid",
];

/// Aggregate functions: `name result argument …`, with the types' names in `pg_type`.
const AGGREGATES: &[&str] = &[
    "count int8 int8",
    "count int8 text",
    "sum int8 int4",
    "sum float8 float8",
    "sum numeric numeric",
    "avg float8 float8",
    "avg numeric numeric",
    "min int4 int4",
    "min int8 int8",
    "min float8 float8",
    "min text text",
    "min date date",
    "min timestamp timestamp",
    "max int4 int4",
    "max int8 int8",
    "max float8 float8",
    "max text text",
    "max date date",
    "max timestamp timestamp",
    "bool_and bool bool",
    "bool_or bool bool",
    "string_agg text text text",
    "array_agg _int8 int8",
    "array_agg _text text",
    "stddev float8 float8",
    "var_pop float8 float8",
    "corr float8 float8 float8",
];

/// Types with arithmetic operators.
const NUMBERS: [&str; 6] = ["int2", "int4", "int8", "float4", "float8", "numeric"];

/// Types that can be compared.
const COMPARED: [&str; 12] = [
    "bool",
    "int2",
    "int4",
    "int8",
    "float4",
    "float8",
    "numeric",
    "text",
    "date",
    "time",
    "timestamp",
    "uuid",
];

/// Other operators: `name result left right`.
const OPERATORS: &[&str] = &[
    "% int4 int4 int4",
    "% int8 int8 int8",
    "& int4 int4 int4",
    "& int8 int8 int8",
    "| int4 int4 int4",
    "| int8 int8 int8",
    "|| text text text",
    "~ bool text text",
    "!~ bool text text",
    "+ date date int4",
    "- date date int4",
    "- int4 date date",
    "+ timestamp timestamp interval",
    "- timestamp timestamp interval",
    "- interval timestamp timestamp",
];

/// A function or operator.
struct Routine {
    name: String,
    result: u32,
    arguments: Vec<u32>,
}

impl Routine {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let name = words.next()?.to_owned();
        let mut types = words.map(oid).collect::<Option<Vec<u32>>>()?.into_iter();
        Some(Routine { name, result: types.next()?, arguments: types.collect() })
    }
}

/// Returns the rows of `pg_proc`.
pub(crate) fn functions() -> Vec<Value> {
    let functions = FUNCTIONS.iter().map(|text| ("f", text));
    let all = functions.chain(AGGREGATES.iter().map(|text| ("a", text)));
    let parsed = all.filter_map(|(kind, text)| Some((kind, Routine::parse(text)?)));
    let row = |(index, (kind, routine)): (usize, (&str, Routine))| {
        json!({
            "oid": FIRST_OID + index,
            "proname": routine.name,
            "pronamespace": NAMESPACE_OID,
            "proowner": OWNER_OID,
            "prolang": 12,
            "procost": 1,
            "prorows": 0,
            "provariadic": 0,
            "prokind": kind,
            "prosecdef": false,
            "proleakproof": false,
            "proisstrict": false,
            "proretset": false,
            "provolatile": match routine.name.as_str() {
                "random" | "gen_random_uuid" => "v",
                "now" => "s",
                _ => "i",
            },
            "proparallel": "s",
            "pronargs": routine.arguments.len(),
            "pronargdefaults": 0,
            "prorettype": routine.result,
            "proargtypes": routine.arguments,
            "prosrc": routine.name,
        })
    };
    let mut rows: Vec<Value> = parsed.enumerate().map(row).collect();
    rows.extend(array_receive(&rows));
    rows
}

/// Returns the row of `array_recv`, the function that receives arrays. Npgsql and other drivers
/// recognize array types by the name of this function. `rows` are those of other functions.
fn array_receive(rows: &[Value]) -> Option<Value> {
    let mut row = rows.first()?.clone();
    for (column, value) in [
        ("oid", json!(2400)),
        ("proname", json!("array_recv")),
        ("provolatile", json!("s")),
        ("pronargs", json!(3)),
        ("prorettype", json!(2277)),
        ("proargtypes", json!([2281, 26, 23])),
        ("prosrc", json!("array_recv")),
    ] {
        row[column] = value;
    }
    Some(row)
}

/// Returns the rows of `pg_operator`.
pub(crate) fn operators() -> Vec<Value> {
    let mut all: Vec<String> = OPERATORS.iter().map(|text| (*text).to_owned()).collect();
    for number in NUMBERS {
        let arithmetic =
            ["+", "-", "*", "/"].map(|name| format!("{name} {number} {number} {number}"));
        all.extend(arithmetic);
    }
    for compared in COMPARED {
        let names = ["=", "<>", "<", "<=", ">", ">="];
        all.extend(names.map(|name| format!("{name} bool {compared} {compared}")));
    }
    let first = FIRST_OID + FUNCTIONS.len() + AGGREGATES.len();
    let row = |(index, routine): (usize, Routine)| {
        let [left, right] = routine.arguments.as_slice() else { return Value::Null };
        json!({
            "oid": first + index,
            "oprname": routine.name,
            "oprnamespace": NAMESPACE_OID,
            "oprowner": OWNER_OID,
            "oprkind": "b",
            "oprcanmerge": routine.name == "=",
            "oprcanhash": routine.name == "=",
            "oprleft": left,
            "oprright": right,
            "oprresult": routine.result,
            "oprcom": 0,
            "oprnegate": 0,
            "oprcode": "-",
            "oprrest": "-",
            "oprjoin": "-",
        })
    };
    all.iter().filter_map(|text| Routine::parse(text)).enumerate().map(row).collect()
}

fn oid(name: &str) -> Option<u32> {
    PgType::all().find(|known| known.internal_name() == name).map(PgType::oid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_known_types() {
        for text in FUNCTIONS.iter().chain(AGGREGATES).chain(OPERATORS) {
            assert!(Routine::parse(text).is_some(), "{text}");
        }
        assert_eq!(functions().len(), FUNCTIONS.len() + AGGREGATES.len() + 1);
        assert!(operators().iter().all(Value::is_object));
    }
}
