//! Name scopes of a query: relations of FROM, aliases of SELECT and lambda parameters. Names are
//! looked up from the innermost scope outwards.

use std::ops::Range;

use headwater_model::nearest;
use headwater_sql::name_match::{NameMatch, equals_ignoring_case, find};
use headwater_sql::{Error, Position, Result};
use sqlparser::ast::{Expr, Ident, WindowSpec};

use crate::SelectAlias;
use crate::series::SERIES_COLUMN;

/// The names of the columns of a relation. Some of them may be unknown.
#[derive(Debug, Clone, Default)]
pub struct RelationColumns {
    /// Known names, in order if the order is known.
    pub names: Vec<String>,
    /// True if there are additional columns whose names only the planner knows, such as `count(*)`.
    pub open: bool,
    /// Additional columns that `*` does not include.
    pub hidden: Vec<String>,
}

impl RelationColumns {
    /// Creates columns with known names only.
    pub fn known(names: Vec<String>) -> Self {
        RelationColumns { names, ..RelationColumns::default() }
    }

    /// Creates columns of which no name is known.
    pub fn unknown() -> Self {
        RelationColumns { open: true, ..RelationColumns::default() }
    }

    /// Renames the first columns by the column list of an alias.
    #[must_use]
    pub fn renamed(mut self, names: impl Iterator<Item = String>) -> Self {
        let names: Vec<String> = names.collect();
        if names.is_empty() {
            return self;
        }
        let rest = self.names.split_off(names.len().min(self.names.len()));
        RelationColumns { names: names.into_iter().chain(rest).collect(), ..self }
    }

    /// Returns all names, hidden ones last.
    pub fn all(&self) -> impl Iterator<Item = &String> + Clone {
        self.names.iter().chain(&self.hidden)
    }

    /// Appends the columns of another relation.
    pub fn extend(&mut self, other: &RelationColumns) {
        self.names.extend(other.names.iter().cloned());
        self.open |= other.open;
        self.hidden.extend(other.hidden.iter().cloned());
    }
}

/// Relation in FROM.
#[derive(Debug, Clone)]
pub struct Relation {
    /// Name by which the plan refers to the relation.
    pub label: String,
    /// Other names by which columns can be qualified, in order of preference: `ns.flights`,
    /// `flights`.
    pub paths: Vec<Vec<String>>,
    /// Columns of the relation.
    pub columns: RelationColumns,
}

/// Label used in messages for a subquery without an alias, which has no name in the plan.
pub const UNNAMED: &str = "the subquery";

impl Relation {
    /// Returns true if the columns are known and can be qualified with the label.
    pub fn can_be_named(&self) -> bool {
        !self.columns.open && self.label != UNNAMED
    }

    /// Returns a column reference qualified with the label.
    pub fn column(&self, name: &str) -> Expr {
        let path = [&*self.label, name].map(|part| Ident::with_quote('"', part));
        Expr::CompoundIdentifier(path.into())
    }
}

/// Column that joins several relations by USING or NATURAL.
#[derive(Debug, Clone)]
pub struct JoinedColumn {
    /// Column name.
    pub name: String,
    /// Indexes of the relations that contain the column.
    pub holders: Vec<usize>,
    /// Expression by which the column's unqualified name is replaced.
    pub expr: Expr,
}

/// One scope of names.
#[derive(Debug, Default)]
pub struct Scope {
    /// Relations of FROM that were added so far.
    pub relations: Vec<Relation>,
    /// Columns of USING and NATURAL joins, in the order of the joins.
    pub merged: Vec<JoinedColumn>,
    /// True if FROM has a RIGHT, FULL or ASOF join with USING or NATURAL. The unqualified names of
    /// join columns are then replaced by expressions.
    pub careful: bool,
    /// Join columns, and casts of columns, that are items of the select list, with the name of the
    /// column as alias.
    pub kept: Vec<String>,
    /// Aliases of SELECT that are visible in the current clause.
    pub aliases: Vec<String>,
    /// Parameters of the enclosing lambdas.
    pub parameters: Vec<String>,
    /// Aliases of SELECT that can be replaced by their expressions in the current clause.
    pub select_aliases: Vec<SelectAlias>,
    /// Resolved named windows of SELECT.
    pub windows: Vec<(String, WindowSpec)>,
    /// Names of the columns in ORDER BY.
    pub ordered: Vec<String>,
    /// True if casts of columns in the select list can have the names of the columns as aliases.
    pub can_name_casts: bool,
    /// Aliases of functions in FROM that are also the names of their columns.
    pub series: Vec<String>,
}

impl Scope {
    /// Returns the column to which an unqualified name refers, among the relations with the indexes
    /// `among`. Returns `None` if the name is ambiguous, or if its column cannot be written as an
    /// expression.
    pub fn value(&self, name: &str, among: Range<usize>) -> Option<JoinedColumn> {
        let has = |index: &usize| self.relations[*index].columns.all().any(|other| other == name);
        let holders: Vec<usize> = among.filter(has).collect();
        if let [one] = holders.as_slice() {
            let relation = &self.relations[*one];
            return relation.can_be_named().then(|| JoinedColumn {
                name: name.to_owned(),
                expr: relation.column(name),
                holders,
            });
        }
        let fits = |merged: &&JoinedColumn| {
            merged.name == name && holders.iter().all(|holder| merged.holders.contains(holder))
        };
        self.merged.iter().rev().find(fits).filter(|_| !holders.is_empty()).cloned()
    }

    /// Resolves an unqualified name in this scope. Exact matches have precedence. Among
    /// case-insensitive matches, parameters precede aliases, and aliases precede columns.
    pub fn resolve_unqualified(&self, written: &str) -> NameMatch<'_> {
        let columns = || self.relations.iter().flat_map(|r| r.columns.all());
        let mut all = self.parameters.iter().chain(&self.aliases).chain(columns());
        if let Some(exact) = all.find(|name| *name == written) {
            return NameMatch::One(exact);
        }
        for names in [&self.parameters, &self.aliases] {
            match find(written, names.iter().map(String::as_str)) {
                NameMatch::None => {}
                found => return found,
            }
        }
        find(written, columns().map(String::as_str))
    }

    /// Returns true if an unknown name may still be a column of this scope.
    pub fn is_open(&self) -> bool {
        self.relations.iter().any(|relation| relation.columns.open)
    }

    /// Returns the relation to which the qualifier of a name refers.
    fn relation(&self, path: &[&str], at: Option<Position>) -> Result<Option<&Relation>> {
        type Rule = fn(&str, &str) -> bool;
        let rules: [Rule; 2] = [|one, other| one == other, equals_ignoring_case];
        for rule in rules {
            let labelled = |r: &&Relation| matches!(path, [name] if rule(name, &r.label));
            let fits = |r: &&Relation| {
                r.paths.iter().any(|own| {
                    own.len() == path.len()
                        && own.iter().zip(path).all(|(own, part)| rule(own, part))
                })
            };
            for found in [
                self.relations.iter().filter(labelled).collect::<Vec<_>>(),
                self.relations.iter().filter(fits).collect::<Vec<_>>(),
            ] {
                match found.as_slice() {
                    [] => {}
                    [one] => return Ok(Some(one)),
                    several if several.iter().all(|r| r.label == several[0].label) => {
                        return Ok(Some(several[0]));
                    }
                    several => {
                        let candidates = several.iter().map(|r| r.label.clone()).collect();
                        let name = path.join(".");
                        return Err(Error::Ambiguous { name, candidates, position: at });
                    }
                }
            }
        }
        Ok(None)
    }
}

/// The object that a qualified name refers to.
#[derive(Debug, PartialEq, Eq)]
pub enum ResolvedName {
    /// A column of a relation.
    Column {
        /// Label of the relation.
        label: String,
        /// Column name in its stored spelling.
        column: String,
        /// Number of parts of the name that denote the relation.
        parts: usize,
    },
    /// A field of a struct column; contains the column's name.
    Field(String),
    /// A name that only the planner can resolve.
    Unknown,
}

/// Enclosing scopes, outermost first.
#[derive(Debug, Default)]
pub struct Scopes(pub Vec<Scope>);

impl Scopes {
    /// Returns the innermost scope.
    pub fn innermost(&mut self) -> Option<&mut Scope> {
        self.0.last_mut()
    }

    fn outward(&self) -> impl Iterator<Item = &Scope> {
        self.0.iter().rev()
    }

    /// Resolves an unqualified column name to its defined spelling; `None` if only the planner can
    /// resolve it.
    pub fn column(&self, written: &str, at: Option<Position>) -> Result<Option<String>> {
        for scope in self.outward() {
            match scope.resolve_unqualified(written) {
                NameMatch::One(spelling) => return Ok(Some(spelling.to_owned())),
                NameMatch::Many(candidates) => {
                    let candidates = candidates.into_iter().map(str::to_owned).collect();
                    let name = written.to_owned();
                    return Err(Error::Ambiguous { name, candidates, position: at });
                }
                NameMatch::None if scope.is_open() => return Ok(None),
                NameMatch::None => {}
            }
        }
        Err(self.missing(written, at))
    }

    /// Returns the column of a function in FROM that is referred to by the function's alias; `None`
    /// if a column has this name.
    pub fn series(&self, written: &str) -> Option<Expr> {
        if self.0.iter().all(|scope| scope.series.is_empty()) {
            return None;
        }
        for scope in self.outward() {
            if !matches!(scope.resolve_unqualified(written), NameMatch::None) {
                return None;
            }
            let label = scope.series.iter().find(|label| equals_ignoring_case(label, written));
            if let Some(label) = label {
                let path = [label.as_str(), SERIES_COLUMN].map(|part| Ident::with_quote('"', part));
                return Some(Expr::CompoundIdentifier(path.into()));
            }
        }
        None
    }

    /// Resolves a qualified name: first as a column of a relation, then as a struct field.
    pub fn path(&self, parts: &[&str], at: Option<Position>) -> Result<ResolvedName> {
        for scope in self.outward() {
            for length in (1..parts.len()).rev() {
                let Some(relation) = scope.relation(&parts[..length], at)? else { continue };
                return column_of(relation, parts[length], length, at);
            }
        }
        let mut open = false;
        for scope in self.outward() {
            match scope.resolve_unqualified(parts[0]) {
                NameMatch::One(spelling) => return Ok(ResolvedName::Field(spelling.to_owned())),
                NameMatch::Many(candidates) => {
                    let candidates = candidates.into_iter().map(str::to_owned).collect();
                    let name = parts[0].to_owned();
                    return Err(Error::Ambiguous { name, candidates, position: at });
                }
                NameMatch::None => open |= scope.is_open(),
            }
        }
        if open { Ok(ResolvedName::Unknown) } else { Err(self.missing_relation(parts, at)) }
    }

    /// Returns the expression that must replace a name which refers to a column of a USING or
    /// NATURAL join; `None` for other names.
    pub fn merged(&self, spelling: &str) -> Option<Expr> {
        for scope in self.outward() {
            let named = scope.parameters.iter().chain(&scope.aliases);
            if named.into_iter().any(|name| name == spelling) {
                return None;
            }
            match scope.resolve_unqualified(spelling) {
                NameMatch::None => {}
                NameMatch::Many(_) => return None,
                NameMatch::One(_) => {
                    let merged = scope.merged.iter().any(|merged| merged.name == spelling);
                    let value = || scope.value(spelling, 0..scope.relations.len());
                    return merged.then(value).flatten().map(|merged| merged.expr);
                }
            }
        }
        None
    }

    /// Returns the relation to which a wildcard such as `t.*` refers.
    pub fn relation(&self, path: &[&str], at: Option<Position>) -> Result<&Relation> {
        for scope in self.outward() {
            if let Some(relation) = scope.relation(path, at)? {
                return Ok(relation);
            }
        }
        Err(self.missing_relation(path, at))
    }

    /// Returns the definition of the window to which a name in the innermost SELECT refers.
    pub fn window(&self, written: &str, at: Option<Position>) -> Result<WindowSpec> {
        let windows = self.0.last().map(|scope| scope.windows.as_slice()).unwrap_or_default();
        let names = windows.iter().map(|(name, _)| name.as_str());
        let found = match find(written, names.clone()) {
            NameMatch::One(spelling) => windows.iter().find(|(name, _)| name == spelling),
            NameMatch::None | NameMatch::Many(_) => None,
        };
        found.map(|(_, spec)| spec.clone()).ok_or_else(|| Error::Invalid {
            message: format!("there is no window `{written}` in this SELECT"),
            hint: nearest(written, names).map(|near| format!("Did you mean `{near}`?")),
            position: at,
        })
    }

    fn missing(&self, written: &str, at: Option<Position>) -> Error {
        let scope = self.0.last();
        let relations = scope.map(|s| s.relations.as_slice()).unwrap_or_default();
        let names = self.outward().flat_map(|scope| {
            let columns = scope.relations.iter().flat_map(|r| r.columns.names.iter());
            scope.aliases.iter().chain(columns).map(String::as_str)
        });
        Error::ColumnNotFound {
            column: written.to_owned(),
            relations: relations.iter().map(|r| r.label.clone()).collect(),
            near: nearest(written, names),
            position: at,
        }
    }

    fn missing_relation(&self, parts: &[&str], at: Option<Position>) -> Error {
        let labels: Vec<&str> = self
            .outward()
            .flat_map(|scope| scope.relations.iter().map(|relation| relation.label.as_str()))
            .collect();
        let wrong = parts[..parts.len().saturating_sub(1).max(1)].join(".");
        Error::Invalid {
            hint: nearest(&wrong, labels.iter().copied()).map(|n| format!("Did you mean `{n}`?")),
            message: format!("there is no table or alias `{wrong}` in this FROM"),
            position: at,
        }
    }
}

fn column_of(
    relation: &Relation,
    written: &str,
    parts: usize,
    at: Option<Position>,
) -> Result<ResolvedName> {
    let label = relation.label.clone();
    let names = relation.columns.all().map(String::as_str);
    match column(written, names, &[&label], at) {
        Ok(spelling) => Ok(ResolvedName::Column { column: spelling.to_owned(), label, parts }),
        Err(Error::ColumnNotFound { .. }) if relation.columns.open => {
            Ok(ResolvedName::Column { label, column: written.to_owned(), parts })
        }
        Err(error) => Err(error),
    }
}

/// Returns the defined spelling of a column. `names` are the columns of `relations`. Fails if there
/// is no such column.
pub fn column<'a>(
    written: &str,
    names: impl Iterator<Item = &'a str> + Clone,
    relations: &[&str],
    at: Option<Position>,
) -> Result<&'a str> {
    match find(written, names.clone()) {
        NameMatch::One(spelling) => Ok(spelling),
        NameMatch::None => Err(Error::ColumnNotFound {
            column: written.to_owned(),
            relations: relations.iter().map(|relation| (*relation).to_owned()).collect(),
            near: nearest(written, names),
            position: at,
        }),
        NameMatch::Many(candidates) => Err(Error::Ambiguous {
            name: written.to_owned(),
            candidates: candidates.into_iter().map(str::to_owned).collect(),
            position: at,
        }),
    }
}
