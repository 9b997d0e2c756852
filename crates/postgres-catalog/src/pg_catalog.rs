//! The rows of the tables in `pg_catalog`.

use headwater_model::TableName;
use serde_json::{Value, json};

use crate::activity;
use crate::routines;
use crate::types::PgType;
use crate::visible_objects::{Oids, Relation, VisibleObjects, oid_of};

/// The name of the namespace whose tables this module describes.
pub(crate) const NAMESPACE: &str = "pg_catalog";

/// The OID of the namespace `pg_catalog`.
pub(crate) const NAMESPACE_OID: u32 = 11;

/// The OID of the namespace `information_schema`.
const INFORMATION_SCHEMA_OID: u32 = 13_000;

/// The name of the role that is reported as owner of all objects.
pub(crate) const OWNER: &str = "owner";

/// The OID of the owner of all objects.
pub(crate) const OWNER_OID: u32 = 10;

/// The OID of the user of the connection.
pub(crate) const USER_OID: u32 = 16_383;

/// The OID of the access method of tables.
const HEAP_OID: u32 = 2;

/// Types whose input and output functions have an underscore in their names: `date_recv`; other
/// types have none, as in `int8recv`.
const UNDERSCORED: [&str; 8] =
    ["numeric", "json", "date", "time", "timestamp", "timestamptz", "interval", "uuid"];

/// Returns the rows of the catalog table `table`.
pub(crate) fn rows(contents: &VisibleObjects, table: &str) -> Vec<Value> {
    match table {
        "pg_namespace" => namespaces(contents),
        "pg_class" => classes(contents),
        "pg_attribute" => attributes(contents),
        "pg_type" => types(),
        "pg_database" => contents.databases.iter().map(|name| database(name)).collect(),
        "pg_roles" => roles(contents, role),
        "pg_user" => roles(contents, user),
        "pg_am" => vec![json!({"oid": HEAP_OID, "amname": "heap", "amtype": "t"})],
        "pg_tablespace" => {
            vec![json!({"oid": 1663, "spcname": "pg_default", "spcowner": OWNER_OID})]
        }
        // Drivers read this setting before they list primary keys.
        "pg_settings" => vec![json!({"name": "max_index_keys", "setting": "32"})],
        "pg_tables" => tables(contents),
        "pg_views" => views(contents),
        "pg_stat_activity" => activity::rows(contents),
        "pg_proc" => routines::functions(),
        "pg_operator" => routines::operators(),
        _ => Vec::new(),
    }
}

fn namespaces(contents: &VisibleObjects) -> Vec<Value> {
    let oids = contents.oids();
    let own = contents.namespaces.iter().map(|name| (name.as_str(), oids.namespace(name)));
    let catalogs = [
        (NAMESPACE, NAMESPACE_OID),
        (crate::information_schema::NAMESPACE, INFORMATION_SCHEMA_OID),
    ];
    let row = |(name, oid)| json!({"oid": oid, "nspname": name, "nspowner": OWNER_OID});
    catalogs.into_iter().chain(own).map(row).collect()
}

fn classes(contents: &VisibleObjects) -> Vec<Value> {
    let oids = contents.oids();
    let row = |relation: &Relation| {
        let is_table = relation.query.is_none();
        json!({
            "oid": oids.relation(&relation.name),
            "relname": relation.name.name,
            "relnamespace": oids.namespace(&relation.name.namespace),
            // Prisma reads only tables with a row type. No query looks up this type in `pg_type`.
            "reltype": oids.relation(&relation.name),
            "reloftype": 0,
            "relowner": OWNER_OID,
            "relam": if is_table { HEAP_OID } else { 0 },
            "relfilenode": 0,
            "reltablespace": 0,
            "relpages": 0,
            "reltuples": relation.rows.map_or(-1.0, |rows| rows as f64),
            "relallvisible": 0,
            "reltoastrelid": 0,
            "relhasindex": false,
            "relisshared": false,
            "relpersistence": "p",
            "relkind": if is_table { "r" } else { "v" },
            "relnatts": relation.columns.fields().len(),
            "relchecks": 0,
            "relhasrules": false,
            "relhastriggers": false,
            "relhassubclass": false,
            "relrowsecurity": false,
            "relforcerowsecurity": false,
            "relispopulated": true,
            "relreplident": "d",
            "relispartition": false,
            "relrewrite": 0,
            "relfrozenxid": 0,
            "relminmxid": 0,
        })
    };
    contents.relations.iter().map(row).collect()
}

fn attributes(contents: &VisibleObjects) -> Vec<Value> {
    let oids = contents.oids();
    let relations = contents.relations.iter();
    relations.flat_map(|relation| columns(&oids, relation)).collect()
}

fn columns(oids: &Oids, relation: &Relation) -> Vec<Value> {
    let oid = oids.relation(&relation.name);
    let row = |(index, field): (usize, &arrow::datatypes::FieldRef)| {
        let pg_type = PgType::of_field(field);
        json!({
            "attrelid": oid,
            "attname": field.name(),
            "atttypid": pg_type.oid(),
            "attstattarget": -1,
            "attlen": pg_type.size(),
            "attnum": index + 1,
            "attndims": i32::from(pg_type.is_array),
            "attcacheoff": -1,
            "atttypmod": pg_type.modifier(field.data_type()),
            "attbyval": pg_type.size() > 0 && pg_type.size() <= 8,
            "attalign": "i",
            "attstorage": "p",
            "attcompression": "",
            "attnotnull": !field.is_nullable(),
            "atthasdef": false,
            "atthasmissing": false,
            "attidentity": "",
            "attgenerated": "",
            "attisdropped": false,
            "attislocal": true,
            "attinhcount": 0,
            "attcollation": 0,
        })
    };
    relation.columns.fields().iter().enumerate().map(row).collect()
}

fn types() -> Vec<Value> {
    // Clients such as sqlsmith expect these types, although no column has them.
    let pseudo_types = [
        pseudo_type(2249, "record", -1),
        pseudo_type(2276, "any", 4),
        pseudo_type(2277, "anyarray", -1),
        pseudo_type(2278, "void", 4),
        pseudo_type(2281, "internal", 8),
        pseudo_type(2283, "anyelement", 4),
    ];
    PgType::all().map(pg_type).chain([name_type()]).chain(pseudo_types).collect()
}

fn pg_type(one: PgType) -> Value {
    let element = PgType { is_array: false, ..one };
    // Clients recognize a type by the name of the function that receives its values.
    let function = |what: &str| match (one.is_array, element.internal_name()) {
        (true, _) => format!("array_{what}"),
        (_, name) if UNDERSCORED.contains(&name.as_str()) => format!("{name}_{what}"),
        (_, name) => name + what,
    };
    json!({
        "oid": one.oid(),
        "typname": one.internal_name(),
        "typnamespace": NAMESPACE_OID,
        "typowner": OWNER_OID,
        "typlen": one.size(),
        "typbyval": one.size() > 0 && one.size() <= 8,
        "typtype": "b",
        "typcategory": one.category(),
        "typispreferred": false,
        "typisdefined": true,
        "typdelim": ",",
        "typrelid": 0,
        "typelem": if one.is_array { element.oid() } else { 0 },
        "typarray": one.array_oid().unwrap_or(0),
        "typinput": if one.is_array { "array_in".to_owned() } else { one.internal_name() + "in" },
        "typoutput": function("out"),
        "typreceive": function("recv"),
        "typsend": function("send"),
        "typalign": "i",
        "typstorage": "p",
        "typnotnull": false,
        "typbasetype": 0,
        "typtypmod": -1,
        "typndims": 0,
        "typcollation": 0,
    })
}

/// The type of names. No column has this type, but the JDBC driver reads its length.
fn name_type() -> Value {
    let mut row = pg_type(PgType::TEXT);
    for (column, value) in [
        ("oid", json!(19)),
        ("typname", json!("name")),
        ("typlen", json!(64)),
        ("typarray", json!(0)),
        ("typinput", json!("namein")),
        ("typreceive", json!("namerecv")),
    ] {
        row[column] = value;
    }
    row
}

/// A type that only arguments and results of functions have, with its size in bytes.
fn pseudo_type(oid: u32, name: &str, size: i16) -> Value {
    let mut row = pg_type(PgType::TEXT);
    for (column, value) in [
        ("oid", json!(oid)),
        ("typname", json!(name)),
        ("typlen", json!(size)),
        ("typbyval", json!(size > 0)),
        ("typtype", json!("p")),
        ("typcategory", json!("P")),
        ("typarray", json!(0)),
        ("typinput", json!(format!("{name}_in"))),
        ("typoutput", json!(format!("{name}_out"))),
        ("typreceive", json!("-")),
        ("typsend", json!("-")),
    ] {
        row[column] = value;
    }
    row
}

fn database(name: &str) -> Value {
    json!({
        "oid": oid_of(name),
        "datname": name,
        "datdba": OWNER_OID,
        "encoding": 6,
        "datlocprovider": "c",
        "datistemplate": false,
        "datallowconn": true,
        "datconnlimit": -1,
        "dattablespace": 1663,
        "datcollate": "C.UTF-8",
        "datctype": "C.UTF-8",
    })
}

fn roles(contents: &VisibleObjects, row: fn(&str, u32) -> Value) -> Vec<Value> {
    let mut rows = vec![row(OWNER, OWNER_OID)];
    if contents.user != OWNER {
        rows.push(row(&contents.user, USER_OID));
    }
    rows
}

/// Returns the OID of a user.
pub(crate) fn role_oid(contents: &VisibleObjects, user: &str) -> u32 {
    match user {
        OWNER => OWNER_OID,
        user if user == contents.user => USER_OID,
        user => oid_of(user),
    }
}

fn role(name: &str, oid: u32) -> Value {
    let is_owner = oid == OWNER_OID;
    json!({
        "rolname": name,
        "rolsuper": is_owner,
        "rolinherit": true,
        "rolcreaterole": is_owner,
        "rolcreatedb": is_owner,
        "rolcanlogin": true,
        "rolreplication": false,
        "rolconnlimit": -1,
        "rolbypassrls": is_owner,
        "oid": oid,
    })
}

fn user(name: &str, oid: u32) -> Value {
    let is_owner = oid == OWNER_OID;
    json!({
        "usename": name,
        "usesysid": oid,
        "usecreatedb": is_owner,
        "usesuper": is_owner,
        "userepl": false,
        "usebypassrls": is_owner,
    })
}

fn tables(contents: &VisibleObjects) -> Vec<Value> {
    let tables = contents.relations.iter().filter(|relation| relation.query.is_none());
    let row = |TableName { namespace, name }: &TableName| {
        json!({
            "schemaname": namespace,
            "tablename": name,
            "tableowner": OWNER,
            "hasindexes": false,
            "hasrules": false,
            "hastriggers": false,
            "rowsecurity": false,
        })
    };
    tables.map(|relation| row(&relation.name)).collect()
}

fn views(contents: &VisibleObjects) -> Vec<Value> {
    let row = |relation: &Relation| {
        let definition = relation.query.as_ref()?;
        Some(json!({
            "schemaname": relation.name.namespace,
            "viewname": relation.name.name,
            "viewowner": OWNER,
            "definition": definition,
        }))
    };
    contents.relations.iter().filter_map(row).collect()
}
