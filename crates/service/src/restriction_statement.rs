//! SQL statements on row filters and column masks. The operations of the `restriction` module
//! execute them.

use arrow::datatypes::{DataType, SchemaRef};
use headwater_engine::RestrictionStatement;
use headwater_engine::system::timestamp_type;
use headwater_model::{
    CreateRestriction, DEFAULT_NAMESPACE, ErrorCode, Principal, Problem, QueryRequest, Restriction,
    ResultExt, TableName,
};
use serde_json::{Value, json};

use crate::access_statement::schema_of;
use crate::restriction::RestrictionOperations;

/// Executes a statement, and returns its rows. `request` has the ref and default namespace.
pub async fn execute(
    restrictions: &RestrictionOperations,
    principal: &Principal,
    statement: &RestrictionStatement,
    request: &QueryRequest,
) -> Result<Vec<Value>, Problem> {
    match statement {
        RestrictionStatement::Show { is_mask } => {
            let mut all = restrictions.list(principal)?;
            all.retain(|one| one.column.is_some() == *is_mask);
            return Ok(all.iter().map(row).collect());
        }
        RestrictionStatement::Drop { is_mask, names, if_exists } => {
            let known = restrictions.list(principal)?;
            let exists = |name: &String| {
                known.iter().any(|one| one.name == *name && one.column.is_some() == *is_mask)
            };
            if let Some(missing) = names.iter().find(|name| !exists(name) && !if_exists) {
                return Err(no_restriction(missing, *is_mask));
            }
            for name in names.iter().filter(|name| exists(name)) {
                restrictions.delete(principal, name).await?;
            }
        }
        RestrictionStatement::Create { name, table, column, using, to, or_replace } => {
            let new = CreateRestriction {
                name: name.clone(),
                table: table_name(table, request)?,
                column: column.clone(),
                using: using.clone(),
                to: to.clone(),
                replace: *or_replace,
                reference: request.reference.clone(),
            };
            restrictions.create(principal, new).await?;
        }
    }
    Ok(vec![json!({ "rows": 0 })])
}

/// Returns the columns of SHOW ROW FILTERS, or of SHOW COLUMN MASKS.
pub fn columns(is_mask: bool) -> SchemaRef {
    let mut columns = vec!["name", "table"];
    if is_mask {
        columns.push("column");
    }
    columns.extend(["using", "to", "by"]);
    let columns = columns.into_iter().map(|name| (name, DataType::Utf8));
    schema_of(&columns.chain([("created", timestamp_type())]).collect::<Vec<_>>())
}

fn row(one: &Restriction) -> Value {
    json!({
        "name": one.name,
        "table": one.table.to_string(),
        "column": one.column,
        "using": one.using,
        "to": one.to.join(", "),
        "by": one.by,
        "created": one.created,
    })
}

/// Resolves a table name in the statement. The default namespace is the namespace of the request.
fn table_name(parts: &[String], request: &QueryRequest) -> Result<TableName, Problem> {
    let (name, levels) = match parts.split_last() {
        Some((name, levels)) => (name.clone(), levels.join(".")),
        None => (String::new(), String::new()),
    };
    let default = || request.namespace.clone().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
    let namespace = if levels.is_empty() { default() } else { levels };
    TableName::new(namespace, name).or_problem()
}

fn no_restriction(name: &str, is_mask: bool) -> Problem {
    let (kind, list) =
        if is_mask { ("column mask", "COLUMN MASKS") } else { ("row filter", "ROW FILTERS") };
    Problem::new(ErrorCode::InvalidArgument, format!("there is no {kind} `{name}`"))
        .with_hint(format!("List the restrictions with `SHOW {list}`."))
}
