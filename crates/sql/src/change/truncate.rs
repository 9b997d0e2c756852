//! Converts sqlparser's TRUNCATE to a [`TruncateStatement`].

use sqlparser::ast::{ObjectName, Truncate, TruncateTableTarget};

use crate::error::Result;
use crate::unsupported_clauses::{none, unset};

/// A TRUNCATE statement.
#[derive(Debug)]
pub struct TruncateStatement {
    /// The tables to truncate.
    pub tables: Vec<ObjectName>,
    /// True with IF EXISTS.
    pub if_exists: bool,
}

/// Converts a TRUNCATE statement. An unsupported part is an error that names the part.
pub fn truncation(truncate: Truncate) -> Result<TruncateStatement> {
    let Truncate { table_names, partitions, table: _, if_exists, identity, cascade, on_cluster } =
        truncate;
    none(partitions.as_ref(), "PARTITION (…) in TRUNCATE")?;
    none(identity.as_ref(), "RESTART IDENTITY or CONTINUE IDENTITY")?;
    none(cascade.as_ref(), "CASCADE or RESTRICT in TRUNCATE")?;
    none(on_cluster.as_ref(), "ON CLUSTER")?;
    let mut tables = Vec::with_capacity(table_names.len());
    for TruncateTableTarget { name, only, has_asterisk } in table_names {
        unset(only, "ONLY in TRUNCATE")?;
        unset(has_asterisk, "`*` in TRUNCATE")?;
        tables.push(name);
    }
    Ok(TruncateStatement { tables, if_exists })
}
