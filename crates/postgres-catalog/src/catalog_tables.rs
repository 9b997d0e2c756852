//! Names and columns of the catalog tables.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// A table of PostgreSQL's catalogs.
#[derive(Debug)]
pub(crate) struct CatalogTable {
    pub(crate) namespace: &'static str,
    pub(crate) name: &'static str,
    /// Columns as `name:type`, separated by spaces. The type is a letter that [`data_type`]
    /// defines.
    columns: &'static str,
    /// True if the table describes objects that a lake does not have.
    pub(crate) is_always_empty: bool,
}

const fn filled(
    namespace: &'static str,
    name: &'static str,
    columns: &'static str,
) -> CatalogTable {
    CatalogTable { namespace, name, columns, is_always_empty: false }
}

const fn empty(namespace: &'static str, name: &'static str, columns: &'static str) -> CatalogTable {
    CatalogTable { namespace, name, columns, is_always_empty: true }
}

impl CatalogTable {
    /// Returns a table by its namespace and name.
    pub(crate) fn find(namespace: &str, name: &str) -> Option<&'static Self> {
        CATALOG_TABLES.iter().find(|table| {
            table.namespace.eq_ignore_ascii_case(namespace) && table.name.eq_ignore_ascii_case(name)
        })
    }

    /// Returns the columns.
    pub(crate) fn schema(&self) -> SchemaRef {
        let fields = self.columns.split_whitespace().map(|column| {
            let (name, letter) = column.split_once(':').unwrap_or((column, "t"));
            Field::new(name, data_type(letter), true)
        });
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }
}

fn data_type(letter: &str) -> DataType {
    match letter {
        "b" => DataType::Boolean,
        "s" => DataType::Int16,
        "n" => DataType::Int32,
        // Type of OID columns.
        "o" => DataType::Int64,
        "f" => DataType::Float32,
        "z" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        "a" => DataType::new_list(DataType::Utf8, true),
        "k" => DataType::new_list(DataType::Int16, true),
        "l" => DataType::new_list(DataType::Int64, true),
        _ => DataType::Utf8,
    }
}

const PG: &str = crate::pg_catalog::NAMESPACE;
const SQL: &str = crate::information_schema::NAMESPACE;

/// All catalog tables.
pub(crate) const CATALOG_TABLES: &[CatalogTable] = &[
    filled(PG, "pg_namespace", "oid:o nspname nspowner:o nspacl:a"),
    filled(
        PG,
        "pg_class",
        "oid:o relname relnamespace:o reltype:o reloftype:o relowner:o relam:o relfilenode:o \
         reltablespace:o relpages:n reltuples:f relallvisible:n reltoastrelid:o relhasindex:b \
         relisshared:b relpersistence relkind relnatts:s relchecks:s relhasrules:b \
         relhastriggers:b relhassubclass:b relrowsecurity:b relforcerowsecurity:b \
         relispopulated:b relreplident relispartition:b relrewrite:o relfrozenxid:o \
         relminmxid:o relacl:a reloptions:a relpartbound",
    ),
    filled(
        PG,
        "pg_attribute",
        "attrelid:o attname atttypid:o attstattarget:n attlen:s attnum:s attndims:n \
         attcacheoff:n atttypmod:n attbyval:b attalign attstorage attcompression attnotnull:b \
         atthasdef:b atthasmissing:b attidentity attgenerated attisdropped:b attislocal:b \
         attinhcount:n attcollation:o attacl:a attoptions:a attfdwoptions:a attmissingval",
    ),
    filled(
        PG,
        "pg_type",
        "oid:o typname typnamespace:o typowner:o typlen:s typbyval:b typtype typcategory \
         typispreferred:b typisdefined:b typdelim typrelid:o typsubscript typelem:o typarray:o \
         typinput typoutput typreceive typsend typmodin typmodout typanalyze typalign \
         typstorage typnotnull:b typbasetype:o typtypmod:n typndims:n typcollation:o \
         typdefaultbin typdefault typacl:a",
    ),
    filled(
        PG,
        "pg_database",
        "oid:o datname datdba:o encoding:n datlocprovider datistemplate:b datallowconn:b \
         datconnlimit:n datfrozenxid:o datminmxid:o dattablespace:o datcollate datctype \
         daticulocale datcollversion datacl:a",
    ),
    filled(
        PG,
        "pg_roles",
        "rolname rolsuper:b rolinherit:b rolcreaterole:b rolcreatedb:b rolcanlogin:b \
         rolreplication:b rolconnlimit:n rolpassword rolvaliduntil:z rolbypassrls:b \
         rolconfig:a oid:o",
    ),
    filled(
        PG,
        "pg_user",
        "usename usesysid:o usecreatedb:b usesuper:b userepl:b usebypassrls:b passwd \
         valuntil:z useconfig:a",
    ),
    filled(PG, "pg_am", "oid:o amname amhandler amtype"),
    filled(PG, "pg_tablespace", "oid:o spcname spcowner:o spcacl:a spcoptions:a"),
    filled(
        PG,
        "pg_tables",
        "schemaname tablename tableowner tablespace hasindexes:b hasrules:b hastriggers:b \
         rowsecurity:b",
    ),
    filled(
        PG,
        "pg_proc",
        "oid:o proname pronamespace:o proowner:o prolang:o procost:f prorows:f provariadic:o \
         prosupport prokind prosecdef:b proleakproof:b proisstrict:b proretset:b provolatile \
         proparallel pronargs:s pronargdefaults:s prorettype:o proargtypes:l proallargtypes:l \
         proargmodes:a proargnames:a proargdefaults protrftypes:l prosrc probin prosqlbody \
         proconfig:a proacl:a",
    ),
    filled(
        PG,
        "pg_operator",
        "oid:o oprname oprnamespace:o oprowner:o oprkind oprcanmerge:b oprcanhash:b oprleft:o \
         oprright:o oprresult:o oprcom:o oprnegate:o oprcode oprrest oprjoin",
    ),
    filled(PG, "pg_views", "schemaname viewname viewowner definition"),
    filled(SQL, "schemata", "catalog_name schema_name schema_owner sql_path"),
    filled(
        SQL,
        "tables",
        "table_catalog table_schema table_name table_type self_referencing_column_name \
         reference_generation is_insertable_into is_typed commit_action",
    ),
    filled(
        SQL,
        "columns",
        "table_catalog table_schema table_name column_name ordinal_position:n column_default \
         is_nullable data_type character_maximum_length:n character_octet_length:n \
         numeric_precision:n numeric_precision_radix:n numeric_scale:n datetime_precision:n \
         interval_type interval_precision:n character_set_name collation_name domain_name \
         udt_catalog udt_schema udt_name dtd_identifier is_identity is_generated \
         generation_expression is_updatable",
    ),
    filled(
        SQL,
        "views",
        "table_catalog table_schema table_name view_definition check_option is_updatable \
         is_insertable_into",
    ),
    empty(PG, "pg_attrdef", "oid:o adrelid:o adnum:s adbin"),
    empty(
        PG,
        "pg_index",
        "indexrelid:o indrelid:o indnatts:s indnkeyatts:s indisunique:b indisprimary:b \
         indisexclusion:b indimmediate:b indisclustered:b indisvalid:b indisready:b \
         indislive:b indisreplident:b indkey:k indclass:k indoption:k indexprs indpred",
    ),
    empty(
        PG,
        "pg_constraint",
        "oid:o conname connamespace:o contype condeferrable:b condeferred:b convalidated:b \
         conrelid:o contypid:o conindid:o conparentid:o confrelid:o confupdtype confdeltype \
         confmatchtype conislocal:b coninhcount:n connoinherit:b conkey:k confkey:k conbin",
    ),
    empty(PG, "pg_inherits", "inhrelid:o inhparent:o inhseqno:n inhdetachpending:b"),
    empty(
        PG,
        "pg_trigger",
        "oid:o tgrelid:o tgparentid:o tgname tgfoid:o tgtype:s tgenabled tgisinternal:b \
         tgconstrrelid:o tgconstrindid:o tgconstraint:o tgdeferrable:b tginitdeferred:b \
         tgnargs:s tgattr:k tgargs tgqual tgoldtable tgnewtable",
    ),
    empty(PG, "pg_policy", "oid:o polname polrelid:o polcmd polpermissive:b polroles:a"),
    empty(PG, "pg_statistic_ext", "oid:o stxrelid:o stxname stxnamespace:o stxkind:a"),
    empty(PG, "pg_publication", "oid:o pubname pubowner:o puballtables:b"),
    empty(PG, "pg_publication_rel", "oid:o prpubid:o prrelid:o prqual prattrs:k"),
    empty(PG, "pg_publication_namespace", "oid:o pnpubid:o pnnspid:o"),
    empty(PG, "pg_subscription", "oid:o subdbid:o subname subowner:o subenabled:b"),
    empty(PG, "pg_rewrite", "oid:o rulename ev_class:o ev_type ev_enabled is_instead:b"),
    empty(
        PG,
        "pg_depend",
        "classid:o objid:o objsubid:n refclassid:o refobjid:o refobjsubid:n deptype",
    ),
    empty(PG, "pg_description", "objoid:o classoid:o objsubid:n description"),
    empty(PG, "pg_shdescription", "objoid:o classoid:o description"),
    empty(PG, "pg_collation", "oid:o collname collnamespace:o collowner:o collprovider"),
    empty(
        PG,
        "pg_opclass",
        "oid:o opcmethod:o opcname opcnamespace:o opcowner:o opcfamily:o opcintype:o \
         opcdefault:b opckeytype:o",
    ),
    empty(PG, "pg_enum", "oid:o enumtypid:o enumsortorder:f enumlabel"),
    empty(PG, "pg_range", "rngtypid:o rngsubtype:o rngmultitypid:o"),
    empty(PG, "pg_sequence", "seqrelid:o seqtypid:o seqstart:o seqincrement:o"),
    empty(PG, "pg_sequences", "schemaname sequencename sequenceowner"),
    empty(PG, "pg_foreign_table", "ftrelid:o ftserver:o ftoptions:a"),
    empty(PG, "pg_foreign_server", "oid:o srvname srvowner:o srvfdw:o srvacl:a"),
    empty(PG, "pg_foreign_data_wrapper", "oid:o fdwname fdwowner:o fdwacl:a"),
    empty(PG, "pg_user_mapping", "oid:o umuser:o umserver:o umoptions:a"),
    empty(PG, "pg_partitioned_table", "partrelid:o partstrat partnatts:s partattrs:k"),
    empty(PG, "pg_auth_members", "roleid:o member:o grantor:o admin_option:b"),
    empty(PG, "pg_db_role_setting", "setdatabase:o setrole:o setconfig:a"),
    empty(PG, "pg_default_acl", "oid:o defaclrole:o defaclnamespace:o defaclobjtype"),
    // In PostgreSQL, `pg_get_keywords` is a function.
    empty(PG, "pg_get_keywords", "word catcode catdesc"),
    empty(PG, "pg_extension", "oid:o extname extowner:o extnamespace:o extversion"),
    empty(PG, "pg_language", "oid:o lanname lanowner:o lanpltrusted:b lanacl:a"),
    empty(PG, "pg_cast", "oid:o castsource:o casttarget:o castfunc:o castcontext"),
    empty(PG, "pg_event_trigger", "oid:o evtname evtevent evtowner:o evtenabled"),
    empty(PG, "pg_indexes", "schemaname tablename indexname tablespace indexdef"),
    empty(PG, "pg_matviews", "schemaname matviewname matviewowner definition"),
    filled(PG, "pg_stat_activity", crate::activity::COLUMNS),
    empty(PG, "pg_stat_user_tables", "relid:o schemaname relname n_live_tup:o"),
    empty(PG, "pg_stat_all_tables", "relid:o schemaname relname n_live_tup:o"),
    empty(PG, "pg_statio_user_tables", "relid:o schemaname relname heap_blks_read:o"),
    empty(PG, "pg_stat_database", "datid:o datname numbackends:n xact_commit:o xact_rollback:o"),
    empty(PG, "pg_stat_replication", "pid:n usesysid:o usename application_name state"),
    empty(PG, "pg_stat_ssl", "pid:n ssl:b version cipher bits:n client_dn"),
    empty(PG, "pg_stat_gssapi", "pid:n gss_authenticated:b principal encrypted:b"),
    empty(PG, "pg_replication_slots", "slot_name plugin slot_type datoid:o database active:b"),
    empty(PG, "pg_prepared_xacts", "transaction gid prepared:z owner database"),
    empty(PG, "pg_available_extensions", "name default_version installed_version comment"),
    empty(PG, "pg_aggregate", "aggfnoid:o aggkind aggtransfn aggfinalfn aggtranstype:o"),
    empty(PG, "pg_conversion", "oid:o conname connamespace:o conowner:o"),
    empty(PG, "pg_opfamily", "oid:o opfmethod:o opfname opfnamespace:o opfowner:o"),
    empty(PG, "pg_ts_config", "oid:o cfgname cfgnamespace:o cfgowner:o cfgparser:o"),
    empty(PG, "pg_ts_dict", "oid:o dictname dictnamespace:o dictowner:o"),
    empty(PG, "pg_seclabel", "objoid:o classoid:o objsubid:n provider label"),
    empty(PG, "pg_rules", "schemaname tablename rulename definition"),
    empty(PG, "pg_policies", "schemaname tablename policyname permissive roles:a cmd qual"),
    empty(PG, "pg_stats", "schemaname tablename attname inherited:b null_frac:f n_distinct:f"),
    empty(PG, "pg_locks", "locktype database:o relation:o pid:n mode granted:b"),
    filled(PG, "pg_settings", "name setting unit category short_desc context vartype source"),
    filled(
        SQL,
        "character_sets",
        "character_set_catalog character_set_schema character_set_name character_repertoire \
         form_of_use default_collate_catalog default_collate_schema default_collate_name",
    ),
    filled(SQL, "information_schema_catalog_name", "catalog_name"),
    empty(SQL, "table_constraints", TABLE_CONSTRAINTS),
    empty(SQL, "key_column_usage", KEY_COLUMN_USAGE),
    empty(SQL, "role_table_grants", TABLE_PRIVILEGES),
    empty(SQL, "table_privileges", TABLE_PRIVILEGES),
    empty(SQL, "constraint_column_usage", KEY_COLUMN_USAGE),
    empty(
        SQL,
        "referential_constraints",
        "constraint_catalog constraint_schema constraint_name unique_constraint_catalog \
         unique_constraint_schema unique_constraint_name match_option update_rule delete_rule",
    ),
    empty(SQL, "check_constraints", "constraint_catalog constraint_schema constraint_name"),
    empty(
        SQL,
        "routines",
        "specific_catalog specific_schema specific_name routine_catalog routine_schema \
         routine_name routine_type data_type",
    ),
    empty(SQL, "parameters", "specific_schema specific_name ordinal_position:n parameter_name"),
    empty(SQL, "sequences", "sequence_catalog sequence_schema sequence_name data_type"),
    empty(SQL, "triggers", "trigger_catalog trigger_schema trigger_name event_object_table"),
    empty(SQL, "domains", "domain_catalog domain_schema domain_name data_type"),
];

const TABLE_PRIVILEGES: &str = "grantor grantee table_catalog table_schema table_name \
     privilege_type is_grantable with_hierarchy";

const TABLE_CONSTRAINTS: &str = "constraint_catalog constraint_schema constraint_name \
     table_catalog table_schema table_name constraint_type is_deferrable initially_deferred";

const KEY_COLUMN_USAGE: &str = "constraint_catalog constraint_schema constraint_name \
     table_catalog table_schema table_name column_name ordinal_position:n \
     position_in_unique_constraint:n";
