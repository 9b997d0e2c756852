//! Columns merged three ways, by their field ids, as Iceberg knows them: so one side may rename or
//! widen a column that the other fills.
//!
//! Columns that both sides added under one name and of one type are one column, and keep our id. The
//! values that their files have under another id are then to be written again, see [`renumbered`].

use std::collections::{BTreeMap, HashMap, HashSet};

use iceberg::spec::{ListType, MapType, NestedField, NestedFieldRef, Schema, StructType, Type};

use super::clash::{Cause, Clash};

/// The merged value of base, ours and theirs; none where both sides changed it differently.
pub(super) fn three_way<T: PartialEq>([base, ours, theirs]: [T; 3]) -> Option<T> {
    if ours == theirs || theirs == base {
        Some(ours)
    } else if ours == base {
        Some(theirs)
    } else {
        None
    }
}

/// The columns that both sides come to, in order; what clashes is put into `clashes`.
pub(super) fn merge(three: [&Schema; 3], clashes: &mut Vec<Clash>) -> Vec<NestedFieldRef> {
    let fields = three.map(|schema| schema.as_struct().fields());
    Columns { clashes }.merge(fields, "")
}

struct Columns<'a> {
    clashes: &'a mut Vec<Clash>,
}

impl Columns<'_> {
    fn merge(&mut self, three: [&[NestedFieldRef]; 3], path: &str) -> Vec<NestedFieldRef> {
        let by_id = three.map(|fields| fields.iter().map(|field| (field.id, field)).collect());
        let [base, ours, theirs]: [HashMap<i32, &NestedFieldRef>; 3] = by_id;
        let mut merged = Vec::new();
        for id in order(three) {
            let found = [base.get(&id), ours.get(&id), theirs.get(&id)].map(Option::<&&_>::copied);
            merged.extend(self.field(found, path));
        }
        self.unify(merged, three, path)
    }

    /// What becomes of the column with one id; none where it goes.
    fn field(&mut self, three: [Option<&NestedFieldRef>; 3], path: &str) -> Option<NestedFieldRef> {
        match three {
            [_, Some(ours), Some(theirs)] if ours == theirs => Some(ours.clone()),
            [None, Some(one), None] | [None, None, Some(one)] => Some(one.clone()),
            [None, Some(ours), Some(theirs)] => {
                let (id, ours_name, theirs) = (ours.id, ours.name.clone(), theirs.name.clone());
                self.clash(Cause::FieldId { id, ours: ours_name, theirs });
                Some(ours.clone())
            }
            [Some(base), Some(one), None] => {
                if one != base {
                    self.column(path, &base.name, "changed", "dropped");
                }
                None
            }
            [Some(base), None, Some(one)] => {
                if one != base {
                    self.column(path, &base.name, "dropped", "changed");
                }
                None
            }
            [Some(base), Some(ours), Some(theirs)] => {
                Some(self.parts([base, ours, theirs], path).into())
            }
            [_, None, None] => None,
        }
    }

    /// A column that is there on both sides and in the base, part by part.
    fn parts(&mut self, three: [&NestedFieldRef; 3], path: &str) -> NestedField {
        let [base, ours, theirs] = three;
        let within = join(path, &base.name);
        let mut field = (**ours).clone();
        if let Some(name) = three_way(three.map(|field| &field.name)) {
            field.name.clone_from(name);
        } else {
            let word = |name: &str| format!("renamed to `{name}`");
            self.column(path, &base.name, &word(&ours.name), &word(&theirs.name));
        }
        *field.field_type = self.data_type(three.map(|field| &*field.field_type), &within);
        if let Some(required) = three_way(three.map(|field| field.required)) {
            field.required = required;
        }
        match three_way(three.map(|field| &field.doc)) {
            Some(doc) => field.doc.clone_from(doc),
            None => self.column(path, &base.name, "documented anew", "documented otherwise"),
        }
        match three_way(three.map(|field| &field.write_default)) {
            Some(default) => field.write_default.clone_from(default),
            None => self.column(path, &base.name, "given a default", "given another"),
        }
        field
    }

    fn data_type(&mut self, three: [&Type; 3], path: &str) -> Type {
        if let Some(merged) = three_way(three) {
            return merged.clone();
        }
        match three {
            [Type::Struct(base), Type::Struct(ours), Type::Struct(theirs)] => {
                StructType::new(self.merge([base, ours, theirs].map(StructType::fields), path))
                    .into()
            }
            [Type::List(base), Type::List(ours), Type::List(theirs)] => {
                let three = [base, ours, theirs].map(|list| &list.element_field);
                ListType::new(self.element(three, path)).into()
            }
            [Type::Map(base), Type::Map(ours), Type::Map(theirs)] => {
                let three = [base, ours, theirs];
                let keys = self.element(three.map(|map| &map.key_field), path);
                let values = self.element(three.map(|map| &map.value_field), path);
                MapType::new(keys, values).into()
            }
            [_, ours, theirs] => {
                let word = |found: &Type| format!("`{found}`");
                self.column("", path, &word(ours), &word(theirs));
                ours.clone()
            }
        }
    }

    fn element(&mut self, three: [&NestedFieldRef; 3], path: &str) -> NestedFieldRef {
        let found = self.field(three.map(Some), path);
        found.unwrap_or_else(|| three[1].clone())
    }

    /// Makes one column of two that both sides added alike; another name that is there twice is a
    /// clash.
    fn unify(
        &mut self,
        merged: Vec<NestedFieldRef>,
        [base, ours, _]: [&[NestedFieldRef]; 3],
        path: &str,
    ) -> Vec<NestedFieldRef> {
        let mut named: BTreeMap<String, Vec<NestedFieldRef>> = BTreeMap::new();
        for field in &merged {
            named.entry(field.name.clone()).or_default().push(field.clone());
        }
        let mut dropped = HashSet::new();
        for (name, fields) in named {
            let [one, other] = fields.as_slice() else { continue };
            let of_ours = |field: &NestedFieldRef| ours.iter().any(|known| known.id == field.id);
            let (mine, yours) = if of_ours(one) { (one, other) } else { (other, one) };
            let new = |field: &NestedFieldRef| base.iter().all(|known| known.id != field.id);
            if new(mine) && new(yours) && alike(&mine.field_type, &yours.field_type) {
                dropped.insert(yours.id);
            } else {
                let word = |field: &NestedFieldRef| format!("`{}`", field.field_type);
                self.column(path, &name, &word(mine), &word(yours));
            }
        }
        merged.into_iter().filter(|field| !dropped.contains(&field.id)).collect()
    }

    fn column(&mut self, path: &str, name: &str, ours: &str, theirs: &str) {
        let column = join(path, name);
        self.clash(Cause::Column { column, ours: ours.to_owned(), theirs: theirs.to_owned() });
    }

    fn clash(&mut self, cause: Cause) {
        self.clashes.push(Clash::new(cause));
    }
}

/// The ids of all columns, in the order that they come to: ours, or theirs where only they changed it,
/// with what the other side added after the last.
fn order([base, ours, theirs]: [&[NestedFieldRef]; 3]) -> Vec<i32> {
    let ids = |fields: &[NestedFieldRef]| fields.iter().map(|field| field.id).collect::<Vec<_>>();
    let [base, ours, theirs] = [base, ours, theirs].map(ids);
    let common = |of: &[i32]| -> Vec<i32> {
        let everywhere = |id: &&i32| [&base, &ours, &theirs].iter().all(|side| side.contains(id));
        of.iter().filter(everywhere).copied().collect()
    };
    let theirs_only = common(&ours) == common(&base) && common(&theirs) != common(&base);
    let (first, second) = if theirs_only { (&theirs, &ours) } else { (&ours, &theirs) };
    let rest = second.iter().filter(|id| !first.contains(id));
    first.iter().chain(rest).copied().collect()
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Whether two types are the same but for the ids within.
fn alike(one: &Type, other: &Type) -> bool {
    match (one, other) {
        (Type::Struct(one), Type::Struct(other)) => {
            one.fields().len() == other.fields().len()
                && one.fields().iter().zip(other.fields()).all(|(one, other)| {
                    one.name == other.name && alike(&one.field_type, &other.field_type)
                })
        }
        (Type::List(one), Type::List(other)) => {
            alike(&one.element_field.field_type, &other.element_field.field_type)
        }
        (Type::Map(one), Type::Map(other)) => {
            alike(&one.key_field.field_type, &other.key_field.field_type)
                && alike(&one.value_field.field_type, &other.value_field.field_type)
        }
        (one, other) => one == other,
    }
}

/// The ids, as files have them, of columns of a side whose values lie under another id in the merged
/// table, which has a column of that name and type.
pub(super) fn renumbered(side: &StructType, merged: &StructType) -> HashSet<i32> {
    let mut found = HashSet::new();
    for field in side.fields() {
        if let Some(known) = merged.field_by_id(field.id) {
            if let (Type::Struct(side), Type::Struct(merged)) =
                (&*field.field_type, &*known.field_type)
            {
                found.extend(renumbered(side, merged));
            }
            continue;
        }
        let same = merged.fields().iter().find(|known| known.name == field.name);
        if same.is_some_and(|same| alike(&same.field_type, &field.field_type)) {
            leaves(field, &mut found);
        }
    }
    found
}

/// The ids under which a column's values lie in files.
fn leaves(field: &NestedField, found: &mut HashSet<i32>) {
    match &*field.field_type {
        Type::Struct(parts) => parts.fields().iter().for_each(|part| leaves(part, found)),
        Type::List(list) => leaves(&list.element_field, found),
        Type::Map(map) => {
            leaves(&map.key_field, found);
            leaves(&map.value_field, found);
        }
        Type::Primitive(_) => {
            found.insert(field.id);
        }
    }
}
