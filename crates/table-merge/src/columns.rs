//! Three-way merge of columns by field id. Because columns are matched by id, one side may rename
//! or widen a column while the other side writes to it.
//!
//! Columns that both sides added with the same name and type become one column with our id. For
//! such columns, [`MergedColumns::theirs`] maps our id to the id in their files.

use std::collections::{BTreeMap, HashMap};

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use headwater_tables::{FIELD_ID, field_id, promote_defaults, promoted_default, text_of};
use iceberg::spec::{ListType, MapType, NestedField, NestedFieldRef, StructType, Type};

use crate::conflict::{Cause, Conflict, MergeSide};
use crate::metadata::MergeStates;

/// Merges the three versions of a value; `None` if both sides changed it in different ways.
pub(crate) fn three_way<T: PartialEq>([base, ours, theirs]: [T; 3]) -> Option<T> {
    if ours == theirs || theirs == base {
        Some(ours)
    } else if ours == base {
        Some(theirs)
    } else {
        None
    }
}

/// The merged columns.
#[derive(Debug)]
pub(crate) struct MergedColumns {
    /// The merged fields, in order.
    pub fields: Vec<NestedFieldRef>,
    /// The field id in their files of each column whose id there differs from the merged id. The
    /// key is the merged id. Includes nested columns.
    pub theirs: HashMap<i32, i32>,
}

/// Merges the columns of three states; conflicts are added to `conflicts`.
pub(crate) fn merge(three: MergeStates<'_>, conflicts: &mut Vec<Conflict>) -> MergedColumns {
    let states = [three.base, three.ours, three.theirs];
    let fields = states.map(|state| state.current_schema().as_struct().fields());
    let mut column_merge = ColumnMerge { three, conflicts, theirs: HashMap::new() };
    let fields = column_merge.merge(fields, "");
    MergedColumns { fields, theirs: column_merge.theirs }
}

struct ColumnMerge<'a> {
    three: MergeStates<'a>,
    conflicts: &'a mut Vec<Conflict>,
    theirs: HashMap<i32, i32>,
}

impl ColumnMerge<'_> {
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

    /// Returns true if no schema of a side has the column with this id, so that the side cannot
    /// have dropped it. The base of a criss-cross merge can contain a column that a side never had.
    fn never_had(&self, side: MergeSide, id: i32) -> bool {
        let mut schemas = self.three.of(side).schemas_iter();
        !schemas.any(|schema| schema.field_by_id(id).is_some())
    }

    /// Returns a column that one side added. Adds a conflict if the other side has a different
    /// column with the same id, because values of one column would then be read as values of the
    /// other. Other engines can assign the same id twice.
    fn added(&mut self, one: &NestedFieldRef, other: MergeSide) -> NestedFieldRef {
        let schemas = self.three.of(other).schemas_iter();
        let existing: Vec<&NestedFieldRef> =
            schemas.filter_map(|schema| schema.field_by_id(one.id)).collect();
        let same = existing
            .iter()
            .any(|existing| existing.name == one.name && existing.field_type == one.field_type);
        if let Some(existing) = existing.first().filter(|_| !same) {
            let (one_name, had_name) = (one.name.clone(), existing.name.clone());
            let (ours, theirs) = match other {
                MergeSide::Theirs => (one_name, had_name),
                MergeSide::Ours => (had_name, one_name),
            };
            self.conflict(Cause::FieldId { id: one.id, ours, theirs });
        }
        one.clone()
    }

    /// Merges the three versions of the column with one id; `None` if the merged table does not
    /// have the column.
    fn field(&mut self, three: [Option<&NestedFieldRef>; 3], path: &str) -> Option<NestedFieldRef> {
        match three {
            [_, Some(ours), Some(theirs)] if ours == theirs => Some(ours.clone()),
            [None, Some(one), None] => Some(self.added(one, MergeSide::Theirs)),
            [None, None, Some(one)] => Some(self.added(one, MergeSide::Ours)),
            [None, Some(ours), Some(theirs)] => {
                let (id, ours_name, theirs) = (ours.id, ours.name.clone(), theirs.name.clone());
                self.conflict(Cause::FieldId { id, ours: ours_name, theirs });
                Some(ours.clone())
            }
            [Some(_), Some(one), None] if self.never_had(MergeSide::Theirs, one.id) => {
                Some(one.clone())
            }
            [Some(_), None, Some(one)] if self.never_had(MergeSide::Ours, one.id) => {
                Some(one.clone())
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

    /// Merges the properties of a column that exists in the base and on both sides.
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
            None => self.column(path, &base.name, "given a comment", "given another comment"),
        }
        promote_defaults(&mut field);
        // If the other side widened the column's type, the default on this side may still have the
        // earlier type.
        let default =
            |one: &&NestedFieldRef| promoted_default(one.write_default.as_ref(), &field.field_type);
        match three_way([default(&base), default(&ours), default(&theirs)]) {
            Some(default) => field.write_default = default,
            None => self.column(path, &base.name, "given a default", "given another default"),
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

    /// Merges equal columns that both sides added into one column, which is required if a side
    /// requires it. Adds a conflict if two columns have the same name but are not equal.
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
        let (mut dropped, mut required) = (Vec::new(), Vec::new());
        for (name, fields) in named {
            let [one, other] = fields.as_slice() else { continue };
            let of_ours = |field: &NestedFieldRef| ours.iter().any(|known| known.id == field.id);
            let (mine, yours) = if of_ours(one) { (one, other) } else { (other, one) };
            let new = |field: &NestedFieldRef, other: MergeSide| {
                base.iter().all(|known| known.id != field.id) || self.never_had(other, field.id)
            };
            let both_new = new(mine, MergeSide::Theirs) && new(yours, MergeSide::Ours);
            let same_defaults = (&mine.initial_default, &mine.write_default)
                == (&yours.initial_default, &yours.write_default);
            let one_type = pair(&mine.field_type, &yours.field_type, &mut HashMap::new());
            if both_new && same_defaults && one_type {
                self.theirs.insert(mine.id, yours.id);
                pair(&mine.field_type, &yours.field_type, &mut self.theirs);
                dropped.push(yours.id);
                required.extend(yours.required.then_some(mine.id));
                continue;
            }
            let word = |field: &NestedField| {
                let data_type = &field.field_type;
                if one_type && !same_defaults {
                    format!("`{data_type}` {}", default_of(field))
                } else {
                    format!("`{data_type}`")
                }
            };
            self.column(path, &name, &word(mine), &word(yours));
        }
        let merged = merged.into_iter().filter(|field| !dropped.contains(&field.id));
        let merged = merged.map(|field| {
            let is_required = field.required || required.contains(&field.id);
            Arc::new(NestedField { required: is_required, ..(*field).clone() })
        });
        merged.collect()
    }

    fn column(&mut self, path: &str, name: &str, ours: &str, theirs: &str) {
        let column = join(path, name);
        self.conflict(Cause::Column { column, ours: ours.to_owned(), theirs: theirs.to_owned() });
    }

    fn conflict(&mut self, cause: Cause) {
        self.conflicts.push(Conflict::new(cause));
    }
}

/// Returns the ids of all columns in the merged order. First come the columns of one side: our
/// side, unless only their side changed the order. Then follow the columns that only the other side
/// has.
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

/// Formats the write default of a column or, if there is none, its initial default.
fn default_of(field: &NestedField) -> String {
    let default = field.write_default.as_ref().or(field.initial_default.as_ref());
    let text = default.and_then(|one| text_of(one, &field.field_type));
    text.map_or_else(|| "without a default".to_owned(), |text| format!("with the default `{text}`"))
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Returns true if two types are equal except for their ids. Adds each id in `one` to `ids`, with
/// the corresponding id in `other`.
fn pair(one: &Type, other: &Type, ids: &mut HashMap<i32, i32>) -> bool {
    let mut parts = |one: &NestedField, other: &NestedField| {
        ids.insert(one.id, other.id);
        pair(&one.field_type, &other.field_type, ids)
    };
    match (one, other) {
        (Type::Struct(one), Type::Struct(other)) => {
            let (one, other) = (one.fields(), other.fields());
            let mut pairs = one.iter().zip(other);
            one.len() == other.len()
                && pairs.all(|(one, other)| {
                    one.name == other.name && one.required == other.required && parts(one, other)
                })
        }
        (Type::List(one), Type::List(other)) => parts(&one.element_field, &other.element_field),
        (Type::Map(one), Type::Map(other)) => {
            parts(&one.key_field, &other.key_field) && parts(&one.value_field, &other.value_field)
        }
        (one, other) => one == other,
    }
}

/// Returns an Arrow schema in which field ids are replaced.
pub(crate) fn with_ids(schema: &Schema, ids: &HashMap<i32, i32>) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| field_with_ids(field, ids));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn field_with_ids(field: &Field, ids: &HashMap<i32, i32>) -> Field {
    let within = |part: &Arc<Field>| Arc::new(field_with_ids(part, ids));
    let data_type = match field.data_type() {
        DataType::Struct(parts) => DataType::Struct(parts.iter().map(within).collect()),
        DataType::List(element) => DataType::List(within(element)),
        DataType::Map(entries, sorted) => DataType::Map(within(entries), *sorted),
        other => other.clone(),
    };
    let mut metadata = field.metadata().clone();
    if let Some(other) = field_id(field).and_then(|id| ids.get(&id)) {
        metadata.insert(FIELD_ID.to_owned(), other.to_string());
    }
    field.clone().with_data_type(data_type).with_metadata(metadata)
}
