//! Which columns of two states are the same, and how they differ.
//!
//! A column is known by its field id, so that a renamed one is itself. Two branches may give one id to
//! different columns, and a table made anew gives its columns new ids: names decide there.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};
use headwater_model::{ColumnDiff, PropertyDiff};
use headwater_tables::{COMMENT, FIELD_ID, INITIAL_DEFAULT, WRITE_DEFAULT, field_type_name};

use super::DiffSide;

/// Which column of the first side a column of the second is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SameColumn {
    /// Its place among the columns of the first side; none where that has no such column.
    pub before: Option<usize>,
    /// Whether both have it under one field id, so that a file which both sides have says the same of
    /// it.
    pub by_id: bool,
}

/// For each column of the second side, which of the first it is.
pub(super) fn same_columns(before: &DiffSide, after: &DiffSide) -> Vec<SameColumn> {
    let sides = Sides { before: Some(before), after: Some(after) };
    sides.pair_up(before.schema().fields(), after.schema().fields())
}

/// The columns that differ: those of the second side in its order, then those that are gone.
pub(super) fn diff_columns(before: Option<&DiffSide>, after: Option<&DiffSide>) -> Vec<ColumnDiff> {
    let none = Arc::new(Schema::empty());
    let schema =
        |side: Option<&DiffSide>| side.map_or_else(|| none.clone(), |s| s.schema().clone());
    let mut found = Vec::new();
    let (first, second) = (schema(before), schema(after));
    Sides { before, after }.diff(first.fields(), second.fields(), "", &mut found);
    found
}

/// The columns that differ where names alone say which is which.
pub(super) fn diff_by_name(before: &Schema, after: &Schema) -> Vec<ColumnDiff> {
    let mut found = Vec::new();
    let sides = Sides { before: None, after: None };
    sides.diff(before.fields(), after.fields(), "", &mut found);
    found
}

struct Sides<'a> {
    before: Option<&'a DiffSide>,
    after: Option<&'a DiffSide>,
}

impl Sides<'_> {
    fn pair_up(&self, before: &Fields, after: &Fields) -> Vec<SameColumn> {
        let by_id: Vec<Option<usize>> = after
            .iter()
            .map(|field| before.iter().position(|other| self.is_renamed_or_same(other, field)))
            .collect();
        let by_name = |field: &FieldRef| {
            let named = before.iter().position(|other| other.name() == field.name());
            named.filter(|place| !by_id.contains(&Some(*place)))
        };
        let pairs = after.iter().zip(&by_id).map(|(field, found)| match found {
            Some(place) => SameColumn { before: Some(*place), by_id: true },
            None => SameColumn { before: by_name(field), by_id: false },
        });
        pairs.collect()
    }

    /// Whether two fields of one table are one by their ids. A name that the other side never knew under
    /// this id is that of another column.
    fn is_renamed_or_same(&self, before: &Field, after: &Field) -> bool {
        let (Some(one), Some(other)) = (self.before, self.after) else { return false };
        let id = |field: &Field| field.metadata().get(FIELD_ID)?.parse::<i32>().ok();
        let (Some(id), true) = (id(before), id(before) == id(after)) else { return false };
        one.table.id() == other.table.id()
            && (before.name() == after.name()
                || other.table.has_called(id, before.name())
                || one.table.has_called(id, after.name()))
    }

    fn diff(&self, before: &Fields, after: &Fields, within: &str, found: &mut Vec<ColumnDiff>) {
        let pairs = self.pair_up(before, after);
        for (field, pair) in after.iter().zip(&pairs) {
            let path = format!("{within}{}", field.name());
            match pair.before.map(|place| &before[place]) {
                Some(other) => self.diff_field(other, field, path, found),
                None => found.push(ColumnDiff {
                    column: path,
                    after: Some(field_type_name(field)),
                    ..ColumnDiff::default()
                }),
            }
        }
        let gone = before
            .iter()
            .enumerate()
            .filter(|(place, _)| pairs.iter().all(|pair| pair.before != Some(*place)));
        found.extend(gone.map(|(_, field)| ColumnDiff {
            column: format!("{within}{}", field.name()),
            before: Some(field_type_name(field)),
            ..ColumnDiff::default()
        }));
    }

    fn diff_field(
        &self,
        before: &FieldRef,
        after: &FieldRef,
        path: String,
        found: &mut Vec<ColumnDiff>,
    ) {
        let parts = parts(before).zip(parts(after)).filter(|_| is_alike(before, after));
        let types = (field_type_name(before), field_type_name(after));
        let diff = ColumnDiff {
            renamed_from: (before.name() != after.name()).then(|| before.name().clone()),
            changes: changes(before, after),
            column: path.clone(),
            before: Some(types.0),
            after: Some(types.1),
        };
        // Where parts differ, they say it themselves.
        let retyped = parts.is_none() && diff.before != diff.after;
        if retyped || diff.renamed_from.is_some() || !diff.changes.is_empty() {
            found.push(diff);
        }
        if let Some((before, after)) = parts {
            self.diff(&before, &after, &format!("{path}."), found);
        }
    }
}

/// The fields within a field.
fn parts(field: &Field) -> Option<Fields> {
    match field.data_type() {
        DataType::Struct(fields) => Some(fields.clone()),
        DataType::List(element) => Some(Fields::from(vec![Arc::clone(element)])),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) => Some(pair.clone()),
            _ => None,
        },
        _ => None,
    }
}

fn is_alike(one: &Field, other: &Field) -> bool {
    std::mem::discriminant(one.data_type()) == std::mem::discriminant(other.data_type())
}

/// What else differs in a field than its name and type.
fn changes(before: &Field, after: &Field) -> Vec<PropertyDiff> {
    let nullable = |field: &Field| Some(if field.is_nullable() { "yes" } else { "no" }.to_owned());
    let said = |field: &Field, key: &str| field.metadata().get(key).cloned();
    let all = [
        ("nullable", nullable(before), nullable(after)),
        ("comment", said(before, COMMENT), said(after, COMMENT)),
        ("default", said(before, WRITE_DEFAULT), said(after, WRITE_DEFAULT)),
        ("initial-default", said(before, INITIAL_DEFAULT), said(after, INITIAL_DEFAULT)),
    ];
    let differ = all.into_iter().filter(|(_, before, after)| before != after);
    let diff = |(key, before, after): (&str, _, _)| {
        let key = key.to_owned();
        PropertyDiff { key, before, after }
    };
    differ.map(diff).collect()
}
