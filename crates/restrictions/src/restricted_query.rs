//! The query that defines a restricted table: the visible rows, with masked values.

use std::collections::BTreeMap;

use headwater_model::{Restriction, Restrictions};

use crate::RestrictionExpression;

/// The name by which the query refers to the underlying table.
pub const SOURCE: &str = "restricted table";

/// A query of the visible rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestrictedQuery {
    /// The SQL. It has all columns of the table, in order.
    pub sql: String,
    /// For each column, true if it is masked.
    pub masked: Vec<bool>,
}

/// Returns the query that defines a restricted table. `columns` are the columns of the table, each
/// with its name and field id; `id` is the table's id.
///
/// Errors: a description of a restriction that cannot be applied to these columns.
pub fn query(
    restrictions: &Restrictions,
    id: &str,
    columns: &[(String, Option<i32>)],
) -> Result<RestrictedQuery, String> {
    let mut values: Vec<String> = columns.iter().map(|(name, _)| quoted(name)).collect();
    let mut masked = vec![false; columns.len()];
    let mut conditions = Vec::new();
    for restriction in &restrictions.all {
        let found =
            AppliedRestriction { restriction, is_same: restriction.table_id == id, columns };
        let Some(column) = &restriction.column else {
            conditions.push(format!("({})", found.bind(restrictions)?));
            continue;
        };
        let Some(at) = found.position(column) else {
            // The column was dropped from this table, so nothing is left to mask. But if this is
            // another table of the same name, a column with another name may contain the values to
            // mask.
            if found.is_same {
                continue;
            }
            return Err(format!("the {restriction} needs the column `{column}`, which is missing"));
        };
        if masked[at] {
            return Err(format!("column `{}` has two column masks", columns[at].0));
        }
        values[at] = format!("({})", found.bind(restrictions)?);
        masked[at] = true;
    }
    // No column can have the name of these aliases, because they contain a NUL character.
    let values = values.iter().enumerate().map(|(at, value)| format!("{value} AS \"\0{at}\""));
    let mut sql = format!("SELECT {} FROM \"{SOURCE}\"", values.collect::<Vec<_>>().join(", "));
    if !conditions.is_empty() {
        sql.push_str(" WHERE ");
        sql.push_str(&conditions.join(" AND "));
    }
    Ok(RestrictedQuery { sql, masked })
}

/// Returns the columns that a new restriction uses, with their field ids, which are stored with the
/// restriction.
///
/// Errors: the name of a column that the table does not have.
pub fn columns_used(
    expression: &RestrictionExpression,
    masked: Option<&str>,
    columns: &[(String, Option<i32>)],
) -> Result<BTreeMap<String, i32>, String> {
    let names = expression.columns().chain(masked);
    let find = |name: &str| {
        let (_, id) = at(columns, name).map(|at| &columns[at]).ok_or_else(|| name.to_owned())?;
        Ok((name.to_owned(), id.unwrap_or_default()))
    };
    names.map(find).collect()
}

/// A restriction and the columns of the table it is applied to.
struct AppliedRestriction<'a> {
    restriction: &'a Restriction,
    /// True if the restriction was created for this table; false if it was created for another
    /// table of the same name.
    is_same: bool,
    columns: &'a [(String, Option<i32>)],
}

impl AppliedRestriction<'_> {
    /// Returns the position of a column that the restriction uses. If `is_same`, searches the
    /// column by its stored field id. If no column has this id, for example because the column was
    /// dropped and added again, searches it by its name.
    fn position(&self, name: &str) -> Option<usize> {
        let id = self.restriction.columns.get(name).filter(|_| self.is_same);
        let by_id = id.and_then(|id| self.columns.iter().position(|(_, it)| *it == Some(*id)));
        by_id.or_else(|| at(self.columns, name))
    }

    fn bind(&self, to: &Restrictions) -> Result<String, String> {
        let restriction = self.restriction;
        let failed = |reason: String| format!("the {restriction} {reason}");
        let expression = RestrictionExpression::parse(&restriction.using)
            .map_err(|error| failed(format!("cannot be parsed: {error}")))?;
        let mut names = BTreeMap::new();
        for written in expression.columns() {
            let Some(at) = self.position(written) else {
                return Err(failed(format!("needs the column `{written}`, which is missing")));
            };
            names.insert(written.to_owned(), self.columns[at].0.clone());
        }
        Ok(expression.bind(&names, &to.user, &to.members))
    }
}

/// Returns the position of the column with this name: an exact match, or else the only match
/// ignoring case.
fn at(columns: &[(String, Option<i32>)], name: &str) -> Option<usize> {
    let exact = columns.iter().position(|(column, _)| column == name);
    exact.or_else(|| {
        let mut same = columns.iter().enumerate();
        let mut next = || same.find(|(_, (column, _))| column.eq_ignore_ascii_case(name));
        let found = next();
        if next().is_some() { None } else { found.map(|(at, _)| at) }
    })
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use headwater_model::Timestamp;

    use super::*;

    fn restriction(column: Option<&str>, using: &str, columns: &[(&str, i32)]) -> Restriction {
        Restriction {
            name: "r".to_owned(),
            table: "t".parse().unwrap(),
            table_id: "id".to_owned(),
            column: column.map(str::to_owned),
            using: using.to_owned(),
            columns: columns.iter().map(|&(name, id)| (name.to_owned(), id)).collect(),
            to: Vec::new(),
            created: Timestamp::UNIX_EPOCH,
            by: String::new(),
        }
    }

    fn check(all: &[Restriction], id: &str, columns: &[(&str, i32)], expected: &str) {
        let columns: Vec<_> =
            columns.iter().map(|&(name, id)| (name.to_owned(), Some(id))).collect();
        let restrictions = Restrictions { all: all.to_vec(), ..Restrictions::default() };
        let shown = match query(&restrictions, id, &columns) {
            Ok(query) => query.sql.replace('\0', ""),
            Err(reason) => reason,
        };
        assert_eq!(shown, expected);
    }

    #[test]
    fn columns_are_found_by_their_field_ids_in_the_same_table_and_by_name_in_others() {
        let filter = restriction(None, "region = 'EU'", &[("region", 2)]);
        let mask = restriction(Some("salary"), "NULL", &[("salary", 3)]);
        let both = [filter.clone(), mask.clone()];
        let table = [("id", 1), ("region", 2), ("salary", 3)];
        let all = r#"SELECT "id" AS "0", "region" AS "1", (NULL) AS "2" FROM "restricted table" WHERE ("region" = 'EU')"#;
        check(&both, "id", &table, all);
        check(&both, "other", &table, all);
        // The columns were renamed, and other columns now have the former names.
        let renamed = [("region", 1), ("land", 2), ("pay", 3)];
        let expected = r#"SELECT "region" AS "0", "land" AS "1", (NULL) AS "2" FROM "restricted table" WHERE ("land" = 'EU')"#;
        check(&both, "id", &renamed, expected);
        let missing = "the row filter `r` needs the column `region`, which is missing";
        check(&both, "id", &[("id", 1), ("salary", 3)], missing);
        check(&both, "other", &[("id", 1)], missing);
        check(
            std::slice::from_ref(&mask),
            "id",
            &[("id", 1)],
            r#"SELECT "id" AS "0" FROM "restricted table""#,
        );
        let twice = "column `salary` has two column masks";
        check(&[mask.clone(), mask], "id", &table, twice);
    }
}
