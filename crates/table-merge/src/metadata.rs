//! Three-way merge of a table's metadata: columns, partition fields, sort order, properties.

use std::collections::{BTreeSet, HashMap};

use arrow::datatypes::SchemaRef;
use headwater_tables::{DataFile, Error, Result, unbound_spec};
use iceberg::spec::{
    FormatVersion, PartitionSpec, Schema, SortOrder, TableMetadata, TableMetadataBuilder,
    TableProperties, Transform, UnboundPartitionSpec,
};

use crate::columns::{self, MergedColumns, three_way};
use crate::conflict::{Cause, Conflict, MergeSide};
use crate::shared_changes::AdjustedBase;

/// The three states of a merge.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MergeStates<'a> {
    pub base: &'a TableMetadata,
    pub ours: &'a TableMetadata,
    pub theirs: &'a TableMetadata,
}

impl<'a> MergeStates<'a> {
    pub fn of(&self, side: MergeSide) -> &'a TableMetadata {
        match side {
            MergeSide::Ours => self.ours,
            MergeSide::Theirs => self.theirs,
        }
    }

    /// Returns true if a side's columns or partition fields differ from those of the base.
    pub fn schema_changed(&self, side: MergeSide) -> bool {
        let (base, side) = (self.base, self.of(side));
        base.current_schema().as_struct() != side.current_schema().as_struct()
            || spec_key(base) != spec_key(side)
    }

    fn map<T>(&self, get: impl Fn(&'a TableMetadata) -> T) -> [T; 3] {
        [get(self.base), get(self.ours), get(self.theirs)]
    }
}

/// The merged metadata, as the differences from the metadata of our side.
#[derive(Debug)]
pub(crate) struct MergedMetadata {
    schema: Option<Schema>,
    spec: Option<PartitionSpec>,
    order: Option<SortOrder>,
    set: HashMap<String, String>,
    removed: Vec<String>,
    version: Option<FormatVersion>,
    their_ids: HashMap<i32, i32>,
    required: Vec<RequiredColumn>,
}

/// A column that only one side made required.
#[derive(Debug)]
pub(crate) struct RequiredColumn {
    /// The id of the column in the files of the other side.
    pub id: i32,
    pub name: String,
    /// The side that made the column required.
    pub side: MergeSide,
    /// True if the column has a default, which is the value in files without the column.
    pub has_default: bool,
}

impl MergedMetadata {
    /// Merges the metadata. If there are conflicts, adds them to `conflicts` and returns `None`.
    pub fn merge(
        three: MergeStates<'_>,
        conflicts: &mut Vec<Conflict>,
    ) -> Result<Option<MergedMetadata>> {
        let before = conflicts.len();
        let schemas = three.map(|metadata| &**metadata.current_schema());
        let MergedColumns { fields, theirs: their_ids } = columns::merge(three, conflicts);
        let (set, removed) = merge_properties(three, conflicts);
        let spec = merge_spec(three, conflicts);
        let order = merge_order(three, conflicts);
        let has = |id: &i32| fields.iter().any(|field| field.id == *id);
        let identifiers = three_way(schemas.map(identifiers_of));
        if identifiers.as_ref().is_none_or(|ids| !ids.iter().all(has)) {
            conflicts.push(Conflict::new(Cause::Identifier));
        }
        if conflicts.len() > before {
            return Ok(None);
        }
        let built = Schema::builder().with_fields(fields);
        let built = built.with_identifier_field_ids(identifiers.unwrap_or_default()).build();
        let schema = built.map_err(|error| Error::internal("merged", error))?;
        if let Some(conflict) = changed_partition_column(three, &schema, &their_ids) {
            conflicts.push(conflict);
            return Ok(None);
        }
        let [_, ours, theirs] = three.map(TableMetadata::format_version);
        let required = required(&schema, schemas, &their_ids);
        let same = schema.as_struct() == schemas[1].as_struct()
            && identifiers_of(&schema) == identifiers_of(schemas[1]);
        Ok(Some(MergedMetadata {
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

    /// Returns true if our side's metadata is unchanged.
    pub fn is_ours(&self) -> bool {
        self.schema.is_none()
            && self.spec.is_none()
            && self.order.is_none()
            && self.set.is_empty()
            && self.removed.is_empty()
            && self.version.is_none()
    }

    /// Returns three schemas with the columns of the merged table. They have the field ids of the
    /// base, of our side, and of their side, in this order.
    pub fn schemas(&self, base: &TableMetadata, merged: &SchemaRef) -> [SchemaRef; 3] {
        // After a criss-cross merge, the base may already have the column, with our id. Otherwise
        // the base is read with their id.
        let known = |id: &i32| base.current_schema().field_by_id(*id).is_some();
        let in_base = self.their_ids.iter().filter(|(id, _)| !known(id));
        let in_base: HashMap<i32, i32> = in_base.map(|(id, other)| (*id, *other)).collect();
        let base = columns::with_ids(merged, &in_base);
        [base, merged.clone(), columns::with_ids(merged, &self.their_ids)]
    }

    /// Returns true if a file of their side has a column whose id in the file differs from the id
    /// in the merged table. The file must then be rewritten.
    pub fn changes_ids_of(&self, file: &DataFile) -> bool {
        self.their_ids.values().any(|id| file.has_column(*id))
    }

    /// Returns true if the schema of the base cannot read all files of the adjusted base. This is
    /// the case if the adjusted base contains files of our side: for columns that both sides added,
    /// the schema of the base has the ids of their side.
    pub fn mixes_column_ids(&self, common: &AdjustedBase) -> bool {
        common.from_ours && !self.their_ids.is_empty()
    }

    /// Returns the columns that only one side made required.
    pub fn required(&self) -> &[RequiredColumn] {
        &self.required
    }

    /// Adds the merged metadata to the builder of our side.
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

/// Finds a column that one side dropped, or whose type it changed, while the other side partitioned
/// files by it. A table with files that are partitioned by a column must keep the column with its
/// type.
fn changed_partition_column(
    three: MergeStates<'_>,
    merged: &Schema,
    their_ids: &HashMap<i32, i32>,
) -> Option<Conflict> {
    let sources = |metadata: &TableMetadata| -> BTreeSet<i32> {
        let fields = metadata.partition_specs_iter().flat_map(|spec| spec.fields());
        fields.map(|field| field.source_id).collect()
    };
    let (ours, theirs) = (sources(three.ours), sources(three.theirs));
    // A column whose id changes in the merge is not checked: its files are rewritten, which
    // computes the partition values again.
    let renumbered = |id: &i32| their_ids.values().any(|other| other == id);
    let by_us = ours.difference(&theirs).map(|id| (*id, three.ours));
    let by_them = theirs.difference(&ours).filter(|id| !renumbered(id));
    let mut new = by_us.chain(by_them.map(|id| (*id, three.theirs)));
    new.find_map(|(id, side)| {
        let field = side.current_schema().field_by_id(id)?;
        let merged_field = merged.field_by_id(id);
        if merged_field.is_some_and(|merged_field| merged_field.field_type == field.field_type) {
            return None;
        }
        let name = &field.name;
        let change = if merged_field.is_some() { "changed its type" } else { "dropped it" };
        let reason = format!("one side partitioned by column `{name}`, and the other {change}");
        Some(Conflict::new(Cause::Schema { reason }))
    })
}

/// Returns a partition spec without ids, as input for the metadata builder.
pub(crate) fn unbound(
    spec: &PartitionSpec,
) -> std::result::Result<UnboundPartitionSpec, iceberg::Error> {
    let fields = spec.fields().iter();
    let fields = fields.map(|field| (field.source_id, field.name.as_str(), field.transform));
    unbound_spec(fields)
        .map_err(|error| iceberg::Error::new(iceberg::ErrorKind::DataInvalid, error.to_string()))
}

fn identifiers_of(schema: &Schema) -> BTreeSet<i32> {
    schema.identifier_field_ids().collect()
}

/// Returns the columns that only one side made required: top-level columns, and nested columns that
/// both sides have. For each column that both sides added, `their_ids` has our id as key and their
/// id as value.
fn required(
    merged: &Schema,
    [_, ours, theirs]: [&Schema; 3],
    their_ids: &HashMap<i32, i32>,
) -> Vec<RequiredColumn> {
    let own = |id: i32| merged.as_struct().field_by_id(id).is_some();
    let is_optional = |schema: &Schema, id: i32| match schema.field_by_id(id) {
        Some(known) => !known.required,
        None => own(id),
    };
    let mut ids: Vec<(&i32, &String)> = merged.field_id_to_name_map().iter().collect();
    ids.sort_unstable();
    let found = ids.into_iter().filter_map(|(id, name)| {
        let field = merged.field_by_id(*id).filter(|field| field.required)?;
        let their_id = their_ids.get(id).copied().unwrap_or(*id);
        let (side, id) = match (is_optional(ours, *id), is_optional(theirs, their_id)) {
            (true, false) => (MergeSide::Theirs, *id),
            (false, true) => (MergeSide::Ours, their_id),
            _ => return None,
        };
        let has_default = field.initial_default.is_some();
        Some(RequiredColumn { id, name: name.clone(), side, has_default })
    });
    found.collect()
}

fn merge_properties(
    three: MergeStates<'_>,
    conflicts: &mut Vec<Conflict>,
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
                conflicts.push(Conflict::new(Cause::Property { key: key.clone(), ours, theirs }));
            }
        }
    }
    (set, removed)
}

/// Returns the fields of the partition spec without ids.
fn spec_key(metadata: &TableMetadata) -> Vec<(i32, Transform, &str)> {
    let fields = metadata.default_partition_spec().fields().iter();
    fields.map(|field| (field.source_id, field.transform, field.name.as_str())).collect()
}

fn merge_spec(three: MergeStates<'_>, conflicts: &mut Vec<Conflict>) -> Option<PartitionSpec> {
    match three_way(three.map(spec_key)) {
        Some(merged) if merged == spec_key(three.ours) => None,
        Some(_) => Some((**three.theirs.default_partition_spec()).clone()),
        None => {
            conflicts.push(Conflict::new(Cause::Partitioning));
            None
        }
    }
}

fn merge_order(three: MergeStates<'_>, conflicts: &mut Vec<Conflict>) -> Option<SortOrder> {
    match three_way(three.map(|metadata| &metadata.default_sort_order().fields)) {
        Some(merged) if *merged == three.ours.default_sort_order().fields => None,
        Some(_) => Some((**three.theirs.default_sort_order()).clone()),
        None => {
            conflicts.push(Conflict::new(Cause::SortOrder));
            None
        }
    }
}
