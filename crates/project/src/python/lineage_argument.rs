//! The argument `lineage` of `@headwater.model`: the input columns from which the columns of the
//! result are computed.

use std::collections::BTreeMap;

use super::literal::Literal;
use super::literal_arguments::LiteralArguments;
use crate::{Error, InputColumn, Location, Result, StepInput, unknown_name_hints};

const FORM: &str = "`lineage={\"total\": [\"orders.amount\"]}`";

/// Parses the argument. `columns` are the declared columns of the result.
///
/// Fails if a column of the result is not declared. Also fails if a source is missing among the
/// declared columns of its input.
pub(super) fn lineage(
    values: &LiteralArguments,
    columns: &[String],
    inputs: &[StepInput],
    at: &Location,
) -> Result<BTreeMap<String, Vec<InputColumn>>> {
    let entry = |(name, sources): &(String, Literal)| Some((name.clone(), sources.as_texts()?));
    let entries = |literal: &Literal| match literal {
        Literal::Map(entries) => entries.iter().map(entry).collect::<Option<Vec<_>>>(),
        _ => None,
    };
    let at = values.location_of("lineage", at);
    let mut lineage = BTreeMap::new();
    for (name, sources) in values.get("lineage", entries, FORM)?.unwrap_or_default() {
        if !columns.contains(&name) {
            let message = format!("`lineage` names `{name}`, which is not in `columns`");
            let known = columns.iter().map(String::as_str);
            return Err(Error::invalid(
                at,
                message,
                unknown_name_hints::hint(&name, known, "columns"),
            ));
        }
        let sources = sources.iter().map(|source| input_column(source, inputs, &at));
        lineage.insert(name, sources.collect::<Result<Vec<_>>>()?);
    }
    Ok(lineage)
}

/// Returns the input column to which a text of the form `INPUT.COLUMN` refers.
fn input_column(source: &str, inputs: &[StepInput], at: &Location) -> Result<InputColumn> {
    let Some((name, column)) = source.rsplit_once('.') else {
        let message = format!("`{source}` in `lineage` has no table name");
        let hint = format!("Write the value as {FORM}.");
        return Err(Error::invalid(at.clone(), message, hint));
    };
    let is_named = |input: &StepInput| {
        let table = &input.table;
        table.name == name || format!("{}.{}", table.namespace, table.name) == name
    };
    let Some(position) = inputs.iter().position(is_named) else {
        let message = format!("`{source}` in `lineage` names `{name}`, which is not an input");
        let names: Vec<String> = inputs.iter().map(|input| input.table.to_string()).collect();
        let hint = unknown_name_hints::hint(name, names.iter().map(String::as_str), "inputs");
        return Err(Error::invalid(at.clone(), message, hint));
    };
    if let Some(declared) = &inputs[position].columns
        && !declared.iter().any(|known| known == column)
    {
        let message = format!("`{source}` in `lineage` is not in `columns` of the input");
        let hint = unknown_name_hints::hint(column, declared.iter().map(String::as_str), "columns");
        return Err(Error::invalid(at.clone(), message, hint));
    }
    Ok(InputColumn { input: position, column: column.to_owned() })
}
