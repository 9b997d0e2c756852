//! What a table is beside its rows, merged three ways: columns, partitioning, order, properties.

use std::collections::{BTreeSet, HashMap};

use arrow::datatypes::SchemaRef;
use iceberg::spec::{
    FormatVersion, PartitionSpec, Schema, SortOrder, TableMetadata, TableMetadataBuilder,
    TableProperties, Transform, UnboundPartitionSpec,
};

use super::clash::{Cause, Clash, Side};
use super::columns::{self, Columns, three_way};
use super::common::Common;
use crate::commit::evolve::refused;
use crate::{DataFile, Result, time_parts};

/// The three states that are merged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Three<'a> {
    pub base: &'a TableMetadata,
    pub ours: &'a TableMetadata,
    pub theirs: &'a TableMetadata,
}

impl<'a> Three<'a> {
    pub fn of(&self, side: Side) -> &'a TableMetadata {
        match side {
            Side::Ours => self.ours,
            Side::Theirs => self.theirs,
        }
    }

    /// Whether a side has other columns or partitions than the base.
    pub fn reshaped(&self, side: Side) -> bool {
        let (base, side) = (self.base, self.of(side));
        base.current_schema().as_struct() != side.current_schema().as_struct()
            || spec_key(base) != spec_key(side)
    }

    fn map<T>(&self, get: impl Fn(&'a TableMetadata) -> T) -> [T; 3] {
        [get(self.base), get(self.ours), get(self.theirs)]
    }
}

/// The merged shape of a table, as what is to change of ours.
#[derive(Debug)]
pub(super) struct Shape {
    schema: Option<Schema>,
    spec: Option<PartitionSpec>,
    order: Option<SortOrder>,
    set: HashMap<String, String>,
    removed: Vec<String>,
    version: Option<FormatVersion>,
    their_ids: HashMap<i32, i32>,
    required: Vec<Required>,
}

/// A column that takes no nulls because one side said so.
#[derive(Debug)]
pub(super) struct Required {
    pub id: i32,
    pub name: String,
    /// Who said so.
    pub side: Side,
    /// Whether files that do not have it have a value for it all the same.
    pub has_default: bool,
}

impl Shape {
    /// Merges the shapes; none where something clashes, which is put into `clashes`.
    pub fn merge(three: Three<'_>, clashes: &mut Vec<Clash>) -> Result<Option<Shape>> {
        let before = clashes.len();
        let schemas = three.map(|metadata| &**metadata.current_schema());
        let Columns { fields, theirs: their_ids } = columns::merge(three, clashes);
        let (set, removed) = merge_properties(three, clashes);
        let spec = merge_spec(three, clashes);
        let order = merge_order(three, clashes);
        let has = |id: &i32| fields.iter().any(|field| field.id == *id);
        let identifiers = three_way(schemas.map(identifiers_of));
        if identifiers.as_ref().is_none_or(|ids| !ids.iter().all(has)) {
            clashes.push(Clash::new(Cause::Identifier));
        }
        if clashes.len() > before {
            return Ok(None);
        }
        let built = Schema::builder().with_fields(fields);
        let built = built.with_identifier_field_ids(identifiers.unwrap_or_default()).build();
        let schema = built.map_err(|error| refused("merged", &error))?;
        if let Some(clash) = unpartitionable(three, &schema, &their_ids) {
            clashes.push(clash);
            return Ok(None);
        }
        let [_, ours, theirs] = three.map(TableMetadata::format_version);
        let required = required(&schema, schemas);
        let same = schema.as_struct() == schemas[1].as_struct()
            && identifiers_of(&schema) == identifiers_of(schemas[1]);
        Ok(Some(Shape {
            schema: (!same).then_some(schema),
            spec,
            order,
            set,
            removed,
            version: (theirs > ours).then_some(theirs),
            their_ids,
            required,
        }))
    }

    /// Whether it is the shape that our side has.
    pub fn is_ours(&self) -> bool {
        self.schema.is_none()
            && self.spec.is_none()
            && self.order.is_none()
            && self.set.is_empty()
            && self.removed.is_empty()
            && self.version.is_none()
    }

    /// The columns of the merged table under the ids that they have in the base, with us, with them.
    pub fn schemas(&self, base: &TableMetadata, merged: &SchemaRef) -> [SchemaRef; 3] {
        // The base of crosswise merges has a column under the id of either side.
        let known = |id: &i32| base.current_schema().field_by_id(*id).is_some();
        let in_base = self.their_ids.iter().filter(|(id, _)| !known(id));
        let in_base: HashMap<i32, i32> = in_base.map(|(id, other)| (*id, *other)).collect();
        let base = columns::with_ids(merged, &in_base);
        [base, merged.clone(), columns::with_ids(merged, &self.their_ids)]
    }

    /// Whether a file of theirs has values of columns that have other ids in the merged table, and is to
    /// be written again.
    pub fn renumbers(&self, file: &DataFile) -> bool {
        self.their_ids.values().any(|id| file.has_column(*id))
    }

    /// Whether files that the base is taken to have cannot be read as its own: their columns may have ids
    /// that only one side gave.
    pub fn mixes(&self, common: &Common) -> bool {
        common.from_ours && !self.their_ids.is_empty()
    }

    /// The columns that take no nulls because only one side said so.
    pub fn required(&self) -> &[Required] {
        &self.required
    }

    /// Our side's metadata with the merged shape.
    pub fn apply(
        &self,
        mut builder: TableMetadataBuilder,
    ) -> std::result::Result<TableMetadataBuilder, iceberg::Error> {
        if let Some(version) = self.version {
            builder = builder.upgrade_format_version(version)?;
        }
        if let Some(schema) = &self.schema {
            builder = builder.add_current_schema(schema.clone())?;
        }
        if let Some(spec) = &self.spec {
            builder = builder.add_default_partition_spec(unbound(spec)?)?;
        }
        if let Some(order) = &self.order {
            builder = builder.add_sort_order(order.clone())?;
            builder = builder.set_default_sort_order(-1)?;
        }
        builder.set_properties(self.set.clone())?.remove_properties(&self.removed)
    }
}

/// A column that one side dropped, or gave another type, while the other side came to have files that are
/// partitioned by it: neither can be done where the other was done first.
fn unpartitionable(
    three: Three<'_>,
    merged: &Schema,
    their_ids: &HashMap<i32, i32>,
) -> Option<Clash> {
    let sources = |metadata: &TableMetadata| -> BTreeSet<i32> {
        let fields = metadata.partition_specs_iter().flat_map(|spec| spec.fields());
        fields.map(|field| field.source_id).collect()
    };
    let (ours, theirs) = (sources(three.ours), sources(three.theirs));
    // Files of a column that becomes ours are written again, and leave its partitions behind.
    let renumbered = |id: &i32| their_ids.values().any(|other| other == id);
    let by_us = ours.difference(&theirs).map(|id| (*id, three.ours));
    let by_them = theirs.difference(&ours).filter(|id| !renumbered(id));
    let mut new = by_us.chain(by_them.map(|id| (*id, three.theirs)));
    new.find_map(|(id, side)| {
        let field = side.current_schema().field_by_id(id)?;
        let kept = merged.field_by_id(id);
        if kept.is_some_and(|kept| kept.field_type == field.field_type) {
            return None;
        }
        let name = &field.name;
        let change = if kept.is_some() { "gave it another type" } else { "dropped it" };
        let reason =
            format!("one side partitioned rows by column `{name}`, and the other {change}");
        Some(Clash::new(Cause::Shape { reason }))
    })
}

/// A partition spec as the builder is asked for it, without ids.
pub(super) fn unbound(
    spec: &PartitionSpec,
) -> std::result::Result<UnboundPartitionSpec, iceberg::Error> {
    let fields = spec.fields().iter();
    let fields = fields.map(|field| (field.source_id, field.name.as_str(), field.transform));
    time_parts::unbound(fields)
        .map_err(|error| iceberg::Error::new(iceberg::ErrorKind::DataInvalid, error.to_string()))
}

fn identifiers_of(schema: &Schema) -> BTreeSet<i32> {
    schema.identifier_field_ids().collect()
}

/// The columns that take no nulls because one side said so: those of the table itself, and those within
/// others that both sides have.
fn required(merged: &Schema, [_, ours, theirs]: [&Schema; 3]) -> Vec<Required> {
    let own = |id: i32| merged.as_struct().field_by_id(id).is_some();
    let lenient = |schema: &Schema, id: i32| match schema.field_by_id(id) {
        Some(known) => !known.required,
        None => own(id),
    };
    let mut ids: Vec<(&i32, &String)> = merged.field_id_to_name_map().iter().collect();
    ids.sort_unstable();
    let found = ids.into_iter().filter_map(|(id, name)| {
        let field = merged.field_by_id(*id).filter(|field| field.required)?;
        let side = match (lenient(ours, *id), lenient(theirs, *id)) {
            (true, false) => Side::Theirs,
            (false, true) => Side::Ours,
            _ => return None,
        };
        let has_default = field.initial_default.is_some();
        Some(Required { id: *id, name: name.clone(), side, has_default })
    });
    found.collect()
}

fn merge_properties(
    three: Three<'_>,
    clashes: &mut Vec<Clash>,
) -> (HashMap<String, String>, Vec<String>) {
    let all = three.map(TableMetadata::properties);
    let keys: BTreeSet<&String> = all.iter().flat_map(|properties| properties.keys()).collect();
    let (mut set, mut removed) = (HashMap::new(), Vec::new());
    for key in keys {
        if TableProperties::RESERVED_PROPERTIES.contains(&key.as_str()) {
            continue;
        }
        let values = all.map(|properties| properties.get(key));
        match three_way(values) {
            Some(merged) if merged == values[1] => {}
            Some(Some(value)) => {
                set.insert(key.clone(), value.clone());
            }
            Some(None) => removed.push(key.clone()),
            None => {
                let [_, ours, theirs] = values.map(Option::<&String>::cloned);
                clashes.push(Clash::new(Cause::Property { key: key.clone(), ours, theirs }));
            }
        }
    }
    (set, removed)
}

/// What a partition spec says, whatever its ids are.
fn spec_key(metadata: &TableMetadata) -> Vec<(i32, Transform, &str)> {
    let fields = metadata.default_partition_spec().fields().iter();
    fields.map(|field| (field.source_id, field.transform, field.name.as_str())).collect()
}

fn merge_spec(three: Three<'_>, clashes: &mut Vec<Clash>) -> Option<PartitionSpec> {
    match three_way(three.map(spec_key)) {
        Some(merged) if merged == spec_key(three.ours) => None,
        Some(_) => Some((**three.theirs.default_partition_spec()).clone()),
        None => {
            clashes.push(Clash::new(Cause::Partitioning));
            None
        }
    }
}

fn merge_order(three: Three<'_>, clashes: &mut Vec<Clash>) -> Option<SortOrder> {
    match three_way(three.map(|metadata| &metadata.default_sort_order().fields)) {
        Some(merged) if *merged == three.ours.default_sort_order().fields => None,
        Some(_) => Some((**three.theirs.default_sort_order()).clone()),
        None => {
            clashes.push(Clash::new(Cause::Order));
            None
        }
    }
}
