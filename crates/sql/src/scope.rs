//! What names mean at one place of a query: the relations of FROM, the aliases of SELECT, the
//! parameters of a lambda; and the search through them, innermost first.

use std::ops::Range;

use headwater_model::nearest;
use sqlparser::ast::{Expr, Ident, WindowSpec};

use crate::error::{Error, Position, Result};
use crate::names::{Match, find, same_but_case};

/// The columns of a relation, as far as they are known by name.
#[derive(Debug, Clone, Default)]
pub struct Columns {
    /// Their names, in order where that is known.
    pub names: Vec<String>,
    /// Whether there are more, whose names only the planner knows (`count(*)`).
    pub open: bool,
    /// More of them, which no `*` stands for.
    pub hidden: Vec<String>,
}

impl Columns {
    /// Columns that are all known.
    pub fn known(names: Vec<String>) -> Self {
        Columns { names, ..Columns::default() }
    }

    /// Columns of which nothing is known.
    pub fn unknown() -> Self {
        Columns { open: true, ..Columns::default() }
    }

    /// The same columns under the names of an alias's list.
    #[must_use]
    pub fn renamed(mut self, names: impl Iterator<Item = String>) -> Self {
        let names: Vec<String> = names.collect();
        if names.is_empty() {
            return self;
        }
        let rest = self.names.split_off(names.len().min(self.names.len()));
        Columns { names: names.into_iter().chain(rest).collect(), ..self }
    }

    /// All names, those that are hidden last.
    pub fn all(&self) -> impl Iterator<Item = &String> + Clone {
        self.names.iter().chain(&self.hidden)
    }

    /// These columns and others after them.
    pub fn extend(&mut self, other: &Columns) {
        self.names.extend(other.names.iter().cloned());
        self.open |= other.open;
        self.hidden.extend(other.hidden.iter().cloned());
    }
}

/// Something in FROM.
#[derive(Debug, Clone)]
pub struct Relation {
    /// The name by which the plan knows it.
    pub label: String,
    /// Other names by which the statement may mean it, the likelier first: `ns.flights`, `flights`.
    pub paths: Vec<Vec<String>>,
    /// Its columns.
    pub columns: Columns,
}

/// The label of a subquery without an alias, which the plan knows by no name.
pub const UNNAMED: &str = "the subquery";

impl Relation {
    /// Whether its columns are known, and can be named with it before them.
    pub fn can_be_named(&self) -> bool {
        !self.columns.open && self.label != UNNAMED
    }

    /// One of its columns, with its label.
    pub fn column(&self, name: &str) -> Expr {
        let path = [&*self.label, name].map(|part| Ident::with_quote('"', part));
        Expr::CompoundIdentifier(path.into())
    }
}

/// What the bare name of a column means that several relations were joined by.
#[derive(Debug, Clone)]
pub struct Merged {
    /// The column.
    pub name: String,
    /// The relations that have it, by their places.
    pub holders: Vec<usize>,
    /// What it means.
    pub expr: Expr,
}

/// One level of names.
#[derive(Debug, Default)]
pub struct Scope {
    /// What stands in FROM so far.
    pub relations: Vec<Relation>,
    /// The columns that they are joined by, the last join's last.
    pub merged: Vec<Merged>,
    /// Whether a join is outer on the right, so that its columns are written out.
    pub careful: bool,
    /// The columns of SELECT that were given their own names as aliases.
    pub kept: Vec<String>,
    /// The aliases of SELECT, once they may be used.
    pub aliases: Vec<String>,
    /// The parameters of lambdas around the place.
    pub parameters: Vec<String>,
    /// The SELECT's windows, resolved.
    pub windows: Vec<(String, WindowSpec)>,
}

impl Scope {
    /// What a column's bare name means among some of the relations; none where that is not one
    /// thing, or cannot be written.
    pub fn value(&self, name: &str, among: Range<usize>) -> Option<Merged> {
        let has = |index: &usize| self.relations[*index].columns.all().any(|other| other == name);
        let holders: Vec<usize> = among.filter(has).collect();
        if let [one] = holders.as_slice() {
            let relation = &self.relations[*one];
            return relation.can_be_named().then(|| Merged {
                name: name.to_owned(),
                expr: relation.column(name),
                holders,
            });
        }
        let fits = |merged: &&Merged| {
            merged.name == name && holders.iter().all(|holder| merged.holders.contains(holder))
        };
        self.merged.iter().rev().find(fits).filter(|_| !holders.is_empty()).cloned()
    }

    /// The spelling of a bare name at this level. Without case, a parameter comes before an alias,
    /// and an alias before a column.
    fn bare(&self, written: &str) -> Match<'_> {
        let columns = || self.relations.iter().flat_map(|r| r.columns.all());
        let mut all = self.parameters.iter().chain(&self.aliases).chain(columns());
        if let Some(exact) = all.find(|name| *name == written) {
            return Match::One(exact);
        }
        for names in [&self.parameters, &self.aliases] {
            match find(written, names.iter().map(String::as_str)) {
                Match::None => {}
                found => return found,
            }
        }
        find(written, columns().map(String::as_str))
    }

    /// Whether a name that is not found here may still be here.
    fn is_open(&self) -> bool {
        self.relations.iter().any(|relation| relation.columns.open)
    }

    /// The relation that a dotted path means.
    fn relation(&self, path: &[&str], at: Option<Position>) -> Result<Option<&Relation>> {
        type Rule = fn(&str, &str) -> bool;
        let rules: [Rule; 2] = [|one, other| one == other, same_but_case];
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

/// What a dotted name turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub enum Path {
    /// A column of a relation: the relation's label, the column, and how many parts named the
    /// relation.
    Column {
        /// The relation's label.
        label: String,
        /// The column as it is spelled.
        column: String,
        /// How many parts of the path named the relation.
        parts: usize,
    },
    /// A field of a column, which is spelled so.
    Field(String),
    /// Something only the planner can know.
    Unknown,
}

/// The levels around a place, outermost first.
#[derive(Debug, Default)]
pub struct Scopes(pub Vec<Scope>);

impl Scopes {
    /// The innermost level.
    pub fn here(&mut self) -> Option<&mut Scope> {
        self.0.last_mut()
    }

    fn outward(&self) -> impl Iterator<Item = &Scope> {
        self.0.iter().rev()
    }

    /// The spelling of a bare column's name; none where only the planner can know.
    pub fn column(&self, written: &str, at: Option<Position>) -> Result<Option<String>> {
        for scope in self.outward() {
            match scope.bare(written) {
                Match::One(spelling) => return Ok(Some(spelling.to_owned())),
                Match::Many(candidates) => {
                    let candidates = candidates.into_iter().map(str::to_owned).collect();
                    let name = written.to_owned();
                    return Err(Error::Ambiguous { name, candidates, position: at });
                }
                Match::None if scope.is_open() => return Ok(None),
                Match::None => {}
            }
        }
        Err(self.missing(written, at))
    }

    /// What a dotted name means: a column of a relation first, then a field of a column.
    pub fn path(&self, parts: &[&str], at: Option<Position>) -> Result<Path> {
        for scope in self.outward() {
            for length in (1..parts.len()).rev() {
                let Some(relation) = scope.relation(&parts[..length], at)? else { continue };
                return column_of(relation, parts[length], length, at);
            }
        }
        let mut open = false;
        for scope in self.outward() {
            match scope.bare(parts[0]) {
                Match::One(spelling) => return Ok(Path::Field(spelling.to_owned())),
                Match::Many(candidates) => {
                    let candidates = candidates.into_iter().map(str::to_owned).collect();
                    let name = parts[0].to_owned();
                    return Err(Error::Ambiguous { name, candidates, position: at });
                }
                Match::None => open |= scope.is_open(),
            }
        }
        if open { Ok(Path::Unknown) } else { Err(self.missing_relation(parts, at)) }
    }

    /// What a bare column means that relations were joined by, where that is to be written out.
    pub fn merged(&self, spelling: &str) -> Option<Expr> {
        for scope in self.outward() {
            let named = scope.parameters.iter().chain(&scope.aliases);
            if named.into_iter().any(|name| name == spelling) {
                return None;
            }
            match scope.bare(spelling) {
                Match::None => {}
                Match::Many(_) => return None,
                Match::One(_) => {
                    let merged = scope.merged.iter().any(|merged| merged.name == spelling);
                    let value = || scope.value(spelling, 0..scope.relations.len());
                    return merged.then(value).flatten().map(|merged| merged.expr);
                }
            }
        }
        None
    }

    /// The label of the relation that a wildcard such as `t.*` names, and its columns.
    pub fn relation(&self, path: &[&str], at: Option<Position>) -> Result<&Relation> {
        for scope in self.outward() {
            if let Some(relation) = scope.relation(path, at)? {
                return Ok(relation);
            }
        }
        Err(self.missing_relation(path, at))
    }

    /// The window of that name.
    pub fn window(&self, written: &str, at: Option<Position>) -> Result<WindowSpec> {
        let windows = self.0.last().map(|scope| scope.windows.as_slice()).unwrap_or_default();
        let names = windows.iter().map(|(name, _)| name.as_str());
        let found = match find(written, names.clone()) {
            Match::One(spelling) => windows.iter().find(|(name, _)| name == spelling),
            Match::None | Match::Many(_) => None,
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
            message: format!("no table or alias `{wrong}` stands in this FROM"),
            position: at,
        }
    }
}

fn column_of(
    relation: &Relation,
    written: &str,
    parts: usize,
    at: Option<Position>,
) -> Result<Path> {
    let label = relation.label.clone();
    let names = relation.columns.all().map(String::as_str);
    match column(written, names, &[&label], at) {
        Ok(spelling) => Ok(Path::Column { column: spelling.to_owned(), label, parts }),
        Err(Error::ColumnNotFound { .. }) if relation.columns.open => {
            Ok(Path::Column { label, column: written.to_owned(), parts })
        }
        Err(error) => Err(error),
    }
}

/// The spelling of a column among the columns of some relations, or the error that says there is
/// none.
pub fn column<'a>(
    written: &str,
    names: impl Iterator<Item = &'a str> + Clone,
    relations: &[&str],
    at: Option<Position>,
) -> Result<&'a str> {
    match find(written, names.clone()) {
        Match::One(spelling) => Ok(spelling),
        Match::None => Err(Error::ColumnNotFound {
            column: written.to_owned(),
            relations: relations.iter().map(|relation| (*relation).to_owned()).collect(),
            near: nearest(written, names),
            position: at,
        }),
        Match::Many(candidates) => Err(Error::Ambiguous {
            name: written.to_owned(),
            candidates: candidates.into_iter().map(str::to_owned).collect(),
            position: at,
        }),
    }
}
