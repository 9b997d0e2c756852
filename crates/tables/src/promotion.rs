//! Values of columns that were given a wider type since they were written: of partitions, and of defaults.
//!
//! Iceberg leaves them as they are. Here values are compared as if all had the widest type that they may come
//! to have, and are written in the type at hand.

use iceberg::spec::{
    DataFile, Literal, NestedField, PrimitiveLiteral, PrimitiveType, Struct, StructType, Type,
};

use crate::entry::builder_of;

/// A value as it is under every type that it can be written in.
pub(crate) fn comparable(value: PrimitiveLiteral) -> PrimitiveLiteral {
    match value {
        PrimitiveLiteral::Int(value) => PrimitiveLiteral::Long(value.into()),
        PrimitiveLiteral::Float(value) => PrimitiveLiteral::Double(f64::from(value.0).into()),
        PrimitiveLiteral::UInt128(value) => PrimitiveLiteral::Binary(value.to_be_bytes().to_vec()),
        other => other,
    }
}

/// A partition's values as they are under all types that they can be written in.
pub(crate) fn comparable_partition(values: &Struct) -> Struct {
    let value = |value: &Literal| match value {
        Literal::Primitive(value) => Literal::Primitive(comparable(value.clone())),
        other => other.clone(),
    };
    values.iter().map(|one| one.map(value)).collect()
}

/// A value in a type that its own was widened to; none where it is in it already.
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
        // A UUID is written as its bytes, see `manifest::uuid`.
        (
            Literal::Primitive(PrimitiveLiteral::UInt128(value)),
            Type::Primitive(PrimitiveType::Fixed(_)),
        ) => Some(Literal::Primitive(PrimitiveLiteral::Binary(value.to_be_bytes().to_vec()))),
        _ => None,
    }
}

/// The entry of a file whose partition's values are in the types of the manifest that it is written to; none
/// where they are already.
pub(crate) fn promoted_file(
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

/// A default in a type that its column's was widened to.
pub(crate) fn promoted_default(value: Option<&Literal>, data_type: &Type) -> Option<Literal> {
    value.map(|value| promoted(value, data_type).unwrap_or_else(|| value.clone()))
}

/// Puts a column's defaults into the type that it came to have.
pub(crate) fn promote_defaults(field: &mut NestedField) {
    let data_type = field.field_type.clone();
    field.initial_default = promoted_default(field.initial_default.as_ref(), &data_type);
    field.write_default = promoted_default(field.write_default.as_ref(), &data_type);
}
