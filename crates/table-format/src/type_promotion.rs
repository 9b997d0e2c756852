//! Promotes values that were written before a column's type was widened: partition values and
//! defaults.
//!
//! Iceberg does not rewrite such values. To compare values, they are promoted to the widest type. A
//! value that is written to a file is promoted to the type in that file.

use iceberg::spec::{
    DataFile, Literal, NestedField, PrimitiveLiteral, PrimitiveType, Struct, StructType, Type,
};

use crate::manifest_entry::builder_of;

/// Returns a value in the widest type to which it can be promoted.
pub fn comparable(value: PrimitiveLiteral) -> PrimitiveLiteral {
    match value {
        PrimitiveLiteral::Int(value) => PrimitiveLiteral::Long(value.into()),
        PrimitiveLiteral::Float(value) => PrimitiveLiteral::Double(f64::from(value.0).into()),
        PrimitiveLiteral::UInt128(value) => PrimitiveLiteral::Binary(value.to_be_bytes().to_vec()),
        other => other,
    }
}

/// Returns partition values in their widest types.
pub fn comparable_partition(values: &Struct) -> Struct {
    let value = |value: &Literal| match value {
        Literal::Primitive(value) => Literal::Primitive(comparable(value.clone())),
        other => other.clone(),
    };
    values.iter().map(|one| one.map(value)).collect()
}

/// Promotes a value to a wider type; `None` if the value has that type already.
fn promoted(value: &Literal, data_type: &Type) -> Option<Literal> {
    match (value, data_type) {
        (
            Literal::Primitive(PrimitiveLiteral::Int(value)),
            Type::Primitive(PrimitiveType::Long),
        ) => Some(Literal::long(*value)),
        (
            Literal::Primitive(PrimitiveLiteral::Float(value)),
            Type::Primitive(PrimitiveType::Double),
        ) => Some(Literal::double(value.0)),
        // The target type of a UUID is `fixed[16]`, because it is encoded as bytes; see
        // `uuid_partitions`.
        (
            Literal::Primitive(PrimitiveLiteral::UInt128(value)),
            Type::Primitive(PrimitiveType::Fixed(_)),
        ) => Some(Literal::Primitive(PrimitiveLiteral::Binary(value.to_be_bytes().to_vec()))),
        _ => None,
    }
}

/// Returns an entry whose partition values have the types of the target manifest; `None` if the
/// values already have these types.
pub fn promoted_file(
    file: &DataFile,
    types: &StructType,
) -> Result<Option<DataFile>, iceberg::Error> {
    let values = || file.partition().iter().zip(types.fields());
    let narrow = |(value, field): (Option<&Literal>, &iceberg::spec::NestedFieldRef)| {
        value.is_some_and(|value| promoted(value, &field.field_type).is_some())
    };
    if !values().any(narrow) {
        return Ok(None);
    }
    let wide = values().map(|(value, field)| {
        value.map(|value| promoted(value, &field.field_type).unwrap_or_else(|| value.clone()))
    });
    let built = builder_of(file).partition(wide.collect()).build();
    let invalid = |error: iceberg::spec::DataFileBuilderError| {
        iceberg::Error::new(iceberg::ErrorKind::DataInvalid, error.to_string())
    };
    built.map(Some).map_err(invalid)
}

/// Promotes the default of a column to the column's widened type.
pub fn promoted_default(value: Option<&Literal>, data_type: &Type) -> Option<Literal> {
    value.map(|value| promoted(value, data_type).unwrap_or_else(|| value.clone()))
}

/// Promotes the defaults of a column to the column's widened type.
pub fn promote_defaults(field: &mut NestedField) {
    let data_type = field.field_type.clone();
    field.initial_default = promoted_default(field.initial_default.as_ref(), &data_type);
    field.write_default = promoted_default(field.write_default.as_ref(), &data_type);
}
