"""Sends the catalog queries of DBeaver, Rails, TypeORM, Prisma and Drizzle to a server.

The tools send these queries when they connect and when they list tables, columns, indexes and
foreign keys. Arguments: host, port, token.
"""

from __future__ import annotations

import sys

import psycopg

HOST, PORT, TOKEN = sys.argv[1], int(sys.argv[2]), sys.argv[3]

# Queries of objects that a lake does not have, such as indexes. They return no rows.
WITHOUT_ROWS = {
    "DBeaver constraints": """
        SELECT c.oid,c.*,t.relname as tabrelname,rt.relnamespace as refnamespace,d.description
        FROM pg_catalog.pg_constraint c
        INNER JOIN pg_catalog.pg_class t ON t.oid=c.conrelid
        LEFT OUTER JOIN pg_catalog.pg_class rt ON rt.oid=c.confrelid
        LEFT OUTER JOIN pg_catalog.pg_description d
            ON d.objoid=c.oid AND d.objsubid=0 AND d.classoid='pg_constraint'::regclass
        WHERE c.conrelid='listed'::regclass ORDER BY c.oid""",
    "DBeaver indexes": """
        SELECT i.*,i.indkey as keys,c.relname,c.relnamespace,c.relam,c.reltablespace,
            tc.relname as tabrelname,dsc.description,
            pg_catalog.pg_get_expr(i.indpred, i.indrelid) as pred_expr,
            pg_catalog.pg_get_expr(i.indexprs, i.indrelid, true) as expr,
            pg_catalog.pg_relation_size(i.indexrelid) as index_rel_size,
            pg_catalog.pg_stat_get_numscans(i.indexrelid) as index_num_scans
        FROM pg_catalog.pg_index i
        INNER JOIN pg_catalog.pg_class c ON c.oid=i.indexrelid
        INNER JOIN pg_catalog.pg_class tc ON tc.oid=i.indrelid
        LEFT OUTER JOIN pg_catalog.pg_description dsc ON i.indexrelid=dsc.objoid
        WHERE i.indrelid='listed'::regclass ORDER BY tabrelname, c.relname""",
    "DBeaver triggers": """
        SELECT x.oid,x.*,p.pronamespace as func_schema_id,d.description
        FROM pg_catalog.pg_trigger x
        LEFT OUTER JOIN pg_catalog.pg_proc p ON p.oid=x.tgfoid
        LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid=x.oid AND d.objsubid=0
        WHERE x.tgrelid='listed'::regclass AND NOT x.tgisinternal""",
    "DBeaver parents": """
        SELECT i.*,c.relnamespace FROM pg_catalog.pg_inherits i,pg_catalog.pg_class c
        WHERE i.inhrelid='listed'::regclass AND c.oid=i.inhparent ORDER BY i.inhseqno""",
    "DBeaver extensions": """
        SELECT e.oid, cfg.tbls, n.nspname as schema_name, e.*
        FROM pg_catalog.pg_extension e
        JOIN pg_namespace n ON n.oid = e.extnamespace
        LEFT JOIN (
            SELECT ARRAY_AGG(ns.nspname || '.' || cls.relname) tbls, oid_ext
            FROM (SELECT unnest(e1.extconfig) oid, e1.oid oid_ext
                FROM pg_catalog.pg_extension e1) c
            JOIN pg_class cls ON cls.oid = c.oid
            JOIN pg_namespace ns ON ns.oid = cls.relnamespace
            GROUP BY oid_ext) cfg ON cfg.oid_ext = e.oid
        ORDER BY e.oid""",
    "Rails primary key": """
        SELECT a.attname FROM (
            SELECT indrelid, indkey, generate_subscripts(indkey, 1) idx FROM pg_index
            WHERE indrelid = '"listed"'::regclass AND indisprimary) i
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[i.idx]
        ORDER BY i.idx""",
    "Rails indexes": """
        SELECT distinct i.relname, d.indisunique, d.indkey, pg_get_indexdef(d.indexrelid),
            pg_catalog.obj_description(i.oid, 'pg_class') AS comment, d.indisvalid,
            ARRAY(SELECT pg_get_indexdef(d.indexrelid, k + 1, true)
                FROM generate_subscripts(d.indkey, 1) AS k ORDER BY k) AS columns
        FROM pg_class t
        INNER JOIN pg_index d ON t.oid = d.indrelid
        INNER JOIN pg_class i ON d.indexrelid = i.oid
        LEFT JOIN pg_namespace n ON n.oid = t.relnamespace
        WHERE i.relkind IN ('i', 'I') AND d.indisprimary = 'f' AND t.relname = 'listed'
            AND n.nspname = ANY (current_schemas(false))
        ORDER BY i.relname""",
    "Rails foreign keys": """
        SELECT t1.relname AS from_table, t2.oid::regclass::text AS to_table, c.conname AS name,
            c.confupdtype AS on_update, c.convalidated AS valid, c.condeferrable AS deferrable,
            (SELECT array_agg(a.attname ORDER BY idx) FROM (
                SELECT idx, c.conkey[idx] AS conkey_elem
                FROM generate_subscripts(c.conkey, 1) AS idx) indexed_conkeys
            JOIN pg_attribute a ON a.attrelid = t1.oid
                AND a.attnum = indexed_conkeys.conkey_elem) AS conkey_names
        FROM pg_constraint c
        JOIN pg_class t1 ON c.conrelid = t1.oid
        JOIN pg_class t2 ON c.confrelid = t2.oid
        JOIN pg_namespace n ON c.connamespace = n.oid
        WHERE c.contype = 'f' AND n.nspname = ANY (current_schemas(false))
            AND t1.relname IN ('listed')
        ORDER BY c.conname""",
    "Rails checks": """
        SELECT t.relname AS table_name, conname, pg_get_constraintdef(c.oid, true) AS constraintdef
        FROM pg_constraint c
        JOIN pg_class t ON c.conrelid = t.oid
        JOIN pg_namespace n ON n.oid = c.connamespace
        WHERE c.contype = 'c' AND n.nspname = ANY (current_schemas(false))
            AND t.relname IN ('listed')""",
    "Rails sequence": """
        SELECT attr.attname, nsp.nspname, seq.relname
        FROM pg_class seq, pg_attribute attr, pg_depend dep, pg_constraint cons, pg_namespace nsp
        WHERE seq.oid = dep.objid AND seq.relkind = 'S' AND attr.attrelid = dep.refobjid
            AND attr.attnum = dep.refobjsubid AND attr.attrelid = cons.conrelid
            AND attr.attnum = cons.conkey[1] AND seq.relnamespace = nsp.oid
            AND cons.contype = 'p' AND dep.classid = 'pg_class'::regclass
            AND dep.refobjid = '"listed"'::regclass""",
    "Rails enums": """
        SELECT type.typname AS name, type.OID AS oid, n.nspname AS schema,
            array_agg(enum.enumlabel ORDER BY enum.enumsortorder) AS value
        FROM pg_enum AS enum
        JOIN pg_type AS type ON (type.oid = enum.enumtypid)
        JOIN pg_namespace n ON type.typnamespace = n.oid
        WHERE n.nspname = ANY (current_schemas(false))
        GROUP BY type.OID, n.nspname, type.typname""",
    "TypeORM indexes": """
        SELECT "ns"."nspname" AS "table_schema", "t"."relname" AS "table_name",
            "i"."relname" AS "constraint_name", "a"."attname" AS "column_name",
            CASE "ix"."indisunique" WHEN 't' THEN 'TRUE' ELSE'FALSE' END AS "is_unique",
            pg_get_expr("ix"."indpred", "ix"."indrelid") AS "condition"
        FROM "pg_class" "t"
        INNER JOIN "pg_index" "ix" ON "ix"."indrelid" = "t"."oid"
        INNER JOIN "pg_attribute" "a"
            ON "a"."attrelid" = "t"."oid"  AND "a"."attnum" = ANY ("ix"."indkey")
        INNER JOIN "pg_namespace" "ns" ON "ns"."oid" = "t"."relnamespace"
        INNER JOIN "pg_class" "i" ON "i"."oid" = "ix"."indexrelid"
        LEFT JOIN "pg_constraint" "cnst" ON "cnst"."conname" = "i"."relname"
        WHERE "t"."relkind" IN ('r', 'p') AND "cnst"."contype" IS NULL
            AND (("ns"."nspname" = 'public' AND "t"."relname" = 'listed'))""",
    "TypeORM foreign keys": """
        SELECT "con"."conname" AS "constraint_name", "att2"."attname" AS "column_name",
            "cl"."relname" AS "referenced_table_name", "con"."confdeltype" AS "on_delete"
        FROM (
            SELECT UNNEST ("con1"."conkey") AS "parent", UNNEST ("con1"."confkey") AS "child",
                "con1"."confrelid", "con1"."conrelid", "con1"."conname",
                CASE "con1"."confdeltype" WHEN 'a' THEN 'NO ACTION' END as "confdeltype"
            FROM "pg_class" "cl"
            INNER JOIN "pg_namespace" "ns" ON "cl"."relnamespace" = "ns"."oid"
            INNER JOIN "pg_constraint" "con1" ON "con1"."conrelid" = "cl"."oid"
            WHERE "con1"."contype" = 'f' AND "cl"."relname" = 'listed') "con"
        INNER JOIN "pg_attribute" "att"
            ON "att"."attrelid" = "con"."confrelid" AND "att"."attnum" = "con"."child"
        INNER JOIN "pg_class" "cl"
            ON "cl"."oid" = "con"."confrelid"  AND "cl"."relispartition" = 'f'
        INNER JOIN "pg_attribute" "att2"
            ON "att2"."attrelid" = "con"."conrelid" AND "att2"."attnum" = "con"."parent\"""",
}


def with_dbeaver(connection: psycopg.Connection) -> None:
    """Lists the databases, schemas, types, tables and columns as DBeaver does."""

    def rows(query: str, *values: object) -> list[dict]:
        cursor = connection.execute(query, values)
        names = [column.name for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    connection.execute("SET application_name = 'DBeaver 24.2.0 - Main <main>'")
    session = rows("SELECT current_schema(),session_user")
    assert session == [{"current_schema": "public", "session_user": "ann"}]
    databases = """
        SELECT db.oid,db.* FROM pg_catalog.pg_database db
        WHERE datallowconn AND NOT datistemplate OR db.datname =%s ORDER BY db.datname"""
    assert [row["datname"] for row in rows(databases, "main")] == ["main"]
    setting = "select * from pg_catalog.pg_settings where name='standard_conforming_strings'"
    assert [row["setting"] for row in rows(setting)] == ["on"]
    schemas = """
        SELECT n.oid,n.*,d.description FROM pg_catalog.pg_namespace n
        LEFT OUTER JOIN pg_catalog.pg_description d
            ON d.objoid=n.oid AND d.objsubid=0 AND d.classoid='pg_namespace'::regclass
        ORDER BY nspname"""
    (namespace,) = [row["oid"] for row in rows(schemas) if row["nspname"] == "public"]
    types = """
        SELECT t.oid,t.*,c.relkind,
            format_type(nullif(t.typbasetype, 0), t.typtypmod) as base_type_name, d.description
        FROM pg_catalog.pg_type t
        LEFT OUTER JOIN pg_catalog.pg_type et ON et.oid=t.typelem
        LEFT OUTER JOIN pg_catalog.pg_class c ON c.oid=t.typrelid
        LEFT OUTER JOIN pg_catalog.pg_description d ON t.oid=d.objoid
        WHERE t.typname IS NOT NULL AND (c.relkind IS NULL OR c.relkind = 'c')
            AND (et.typcategory IS NULL OR et.typcategory <> 'C')"""
    assert {"int4", "_text"} <= {row["typname"] for row in rows(types)}
    tables = """
        SELECT c.oid,c.*,d.description,
            pg_catalog.pg_get_expr(c.relpartbound, c.oid) as partition_expr,
            pg_catalog.pg_get_partkeydef(c.oid) as partition_key
        FROM pg_catalog.pg_class c
        LEFT OUTER JOIN pg_catalog.pg_description d
            ON d.objoid=c.oid AND d.objsubid=0 AND d.classoid='pg_class'::regclass
        WHERE c.relnamespace=%s AND c.relkind not in ('i','I','c') AND relname=%s"""
    (table,) = rows(tables, namespace, "listed")
    columns = """
        SELECT c.relname,a.*,pg_catalog.pg_get_expr(ad.adbin, ad.adrelid, true) as def_value,
            dsc.description,dep.objid
        FROM pg_catalog.pg_attribute a
        INNER JOIN pg_catalog.pg_class c ON (a.attrelid=c.oid)
        LEFT OUTER JOIN pg_catalog.pg_attrdef ad
            ON (a.attrelid=ad.adrelid AND a.attnum = ad.adnum)
        LEFT OUTER JOIN pg_catalog.pg_description dsc
            ON (c.oid=dsc.objoid AND a.attnum = dsc.objsubid)
        LEFT OUTER JOIN pg_depend dep on dep.refobjid = a.attrelid AND dep.deptype = 'i'
            and dep.refobjsubid = a.attnum and dep.classid = dep.refclassid
        WHERE NOT a.attisdropped AND c.relkind not in ('i','I','c') AND c.oid=%s
        ORDER BY a.attnum"""
    assert [row["attname"] for row in rows(columns, table["oid"])] == ["id", "tags", "flag"]
    sizes = """
        SELECT c.oid, pg_catalog.pg_total_relation_size(c.oid) as total_rel_size,
            pg_catalog.pg_relation_size(c.oid) as rel_size
        FROM pg_class c WHERE c.relnamespace=%s"""
    assert table["oid"] in [row["oid"] for row in rows(sizes, namespace)]
    roles = """
        SELECT a.oid,a.*,pd.description FROM pg_catalog.pg_roles a
        left join pg_catalog.pg_shdescription pd on a.oid = pd.objoid ORDER BY a.rolname"""
    assert "ann" in [row["rolname"] for row in rows(roles)]


def with_rails(connection: psycopg.Connection) -> None:
    """Configures a connection, and lists types, tables and columns as Active Record does."""

    def rows(query: str) -> list[tuple]:
        return connection.execute(query).fetchall()

    for setting in (
        "client_min_messages TO 'warning'",
        "standard_conforming_strings = on",
        "intervalstyle = iso_8601",
        "SESSION timezone TO 'UTC'",
    ):
        connection.execute(f"SET {setting}")
    assert rows("SHOW max_identifier_length") and rows("SHOW intervalstyle") == [("iso_8601",)]
    cursor = connection.execute("SELECT INTERVAL '14 months 3 days 04:05:06.5'")
    # psycopg cannot parse this form, so read the text.
    assert cursor.pgresult.get_value(0, 0) == b"P1Y2M3DT4H5M6.5S"
    assert rows("SELECT current_schemas(false)") == [(["public"],)]
    types = """
        SELECT t.oid, t.typname, t.typelem, t.typdelim, t.typinput, r.rngsubtype, t.typtype
        FROM pg_type as t LEFT JOIN pg_range as r ON oid = rngtypid
        WHERE t.typname IN ('int4') OR t.typtype IN ('r', 'e', 'd')
            OR t.typinput = 'array_in(cstring,oid,internal)'::regprocedure OR t.typelem != 0"""
    assert {"int4", "_text"} <= {row[1] for row in rows(types)}
    types = """
        SELECT t.oid, t.typname FROM pg_type AS t LEFT JOIN pg_range AS r ON oid = rngtypid
        WHERE t.oid IN (23)
        UNION
        SELECT t.oid, t.typname FROM pg_type AS t LEFT JOIN pg_range AS r ON oid = rngtypid
        WHERE t.typtype IN ('r', 'e', 'd') AND t.typnamespace != 'pg_catalog'::regnamespace"""
    assert rows(types) == [(23, "int4")]
    oids = rows("SELECT 'integer'::regtype::oid, 'character varying(9)'::regtype::oid")
    assert oids == [(23, 25)]
    tables = """
        SELECT c.relname FROM pg_class c LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = ANY (current_schemas(false)) AND c.relname = 'listed'
            AND c.relkind IN ('r','p')"""
    assert rows(tables) == [("listed",)]
    columns = """
        SELECT a.attname, format_type(a.atttypid, a.atttypmod), pg_get_expr(d.adbin, d.adrelid),
            a.attnotnull, c.collname, col_description(a.attrelid, a.attnum) AS comment,
            attidentity AS identity, attgenerated as attgenerated
        FROM pg_attribute a
        LEFT JOIN pg_attrdef d ON a.attrelid = d.adrelid AND a.attnum = d.adnum
        LEFT JOIN pg_type t ON a.atttypid = t.oid
        LEFT JOIN pg_collation c ON a.attcollation = c.oid AND a.attcollation <> t.typcollation
        WHERE a.attrelid = '"listed"'::regclass AND a.attnum > 0 AND NOT a.attisdropped
        ORDER BY a.attnum"""
    assert [row[:2] for row in rows(columns)] == [
        ("id", "integer"),
        ("tags", "text[]"),
        ("flag", "boolean"),
    ]
    options = """
        SELECT t.relname AS table_name, t.comment, t.partition_key, parent.relname AS parent
        FROM (
            SELECT DISTINCT ON (c.relname) c.oid, c.relname,
                pg_catalog.obj_description(c.oid, 'pg_class') AS comment,
                pg_catalog.pg_get_partkeydef(c.oid) AS partition_key
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = ANY (current_schemas(false)) AND c.relname IN ('listed')
            ORDER BY c.relname, array_position(current_schemas(false), n.nspname)) t
        LEFT JOIN pg_inherits i ON i.inhrelid = t.oid
        LEFT JOIN pg_class parent ON i.inhparent = parent.oid ORDER BY t.relname, i.inhseqno"""
    assert rows(options) == [("listed", None, None, None)]
    # The check before a comparison that ignores case.
    lower = """
        SELECT exists(SELECT * FROM pg_proc WHERE proname = 'lower'
            AND proargtypes = ARRAY['character varying'::regtype]::oidvector
        ) OR exists(SELECT * FROM pg_proc
            INNER JOIN pg_cast ON ARRAY[casttarget]::oidvector = proargtypes
            WHERE proname = 'lower' AND castsource = 'character varying'::regtype)"""
    assert rows(lower) == [(True,)]


def with_typeorm(connection: psycopg.Connection) -> None:
    """Lists the tables and columns as the synchronization of TypeORM does."""
    tables = """
        SELECT "table_schema", "table_name",
            obj_description((quote_ident("table_schema") || '.' || quote_ident("table_name"))
                ::regclass, 'pg_class') AS table_comment
        FROM "information_schema"."tables"
        WHERE ("table_schema" = 'public' AND "table_name" = 'listed')"""
    assert connection.execute(tables).fetchall() == [("public", "listed", None)]
    columns = """
        SELECT columns.*, pg_catalog.col_description((quote_ident(table_catalog) || '.'
                || quote_ident(table_schema) || '.' || quote_ident(table_name))::regclass::oid,
                ordinal_position) AS description,
            ('"' || "udt_schema" || '"."' || "udt_name" || '"')::"regtype"::text AS "regtype",
            pg_catalog.format_type("col_attr"."atttypid", "col_attr"."atttypmod") AS "format_type"
        FROM "information_schema"."columns"
        LEFT JOIN "pg_catalog"."pg_attribute" AS "col_attr"
            ON "col_attr"."attname" = "columns"."column_name"
            AND "col_attr"."attrelid" = (
                SELECT "cls"."oid" FROM "pg_catalog"."pg_class" AS "cls"
                LEFT JOIN "pg_catalog"."pg_namespace" AS "ns" ON "ns"."oid" = "cls"."relnamespace"
                WHERE "cls"."relname" = "columns"."table_name"
                    AND "ns"."nspname" = "columns"."table_schema")
        WHERE ("table_schema" = 'public' AND "table_name" = 'listed')"""
    cursor = connection.execute(columns)
    names = [column.name for column in cursor.description or ()]
    found = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    found = [(row["column_name"], row["regtype"], row["format_type"]) for row in found]
    expected = [("flag", "boolean"), ("id", "integer"), ("tags", "text[]")]
    assert sorted(found) == [(name, kind, kind) for name, kind in expected], found


def with_introspection(connection: psycopg.Connection) -> None:
    """Reads the columns as `prisma db pull` and `drizzle-kit pull` do."""
    prisma = """
        SELECT info.column_name, format_type(att.atttypid, att.atttypmod) as formatted_type,
            pg_get_expr(attdef.adbin, attdef.adrelid) AS column_default
        FROM information_schema.columns info
        JOIN pg_attribute att ON att.attname = info.column_name
        JOIN (SELECT pg_class.oid, relname, pg_namespace.nspname as namespace FROM pg_class
            JOIN pg_namespace on pg_namespace.oid = pg_class.relnamespace
            AND pg_namespace.nspname = ANY ( %s ) WHERE reltype > 0) as oid
        ON oid.oid = att.attrelid AND relname = info.table_name AND namespace = info.table_schema
        LEFT OUTER JOIN pg_attrdef attdef ON attdef.adrelid = att.attrelid
            AND attdef.adnum = att.attnum AND table_schema = namespace
        WHERE table_schema = ANY ( %s ) AND table_name = 'listed'
        ORDER BY namespace, table_name, ordinal_position"""
    columns = [("id", "integer", None), ("tags", "text[]", None), ("flag", "boolean", None)]
    assert connection.execute(prisma, (["public"], ["public"])).fetchall() == columns
    drizzle = """
        SELECT a.attname, CASE WHEN a.atttypid = ANY ('{int,int8,int2}'::regtype[]) AND EXISTS (
            SELECT FROM pg_attrdef ad WHERE ad.adrelid = a.attrelid AND ad.adnum = a.attnum
                AND pg_get_expr(ad.adbin, ad.adrelid) = 'nextval('''
                || pg_get_serial_sequence(a.attrelid::regclass::text, a.attname)::regclass
                || '''::regclass)')
        THEN CASE a.atttypid WHEN 'int'::regtype THEN 'serial' WHEN 'int8'::regtype
            THEN 'bigserial' WHEN 'int2'::regtype THEN 'smallserial' END
        ELSE format_type(a.atttypid, a.atttypmod) END AS data_type,
            INFORMATION_SCHEMA.COLUMNS.column_default
        FROM pg_attribute a
        JOIN INFORMATION_SCHEMA.COLUMNS ON INFORMATION_SCHEMA.COLUMNS.column_name = a.attname
        WHERE a.attrelid = '"public"."listed"'::regclass
            AND INFORMATION_SCHEMA.COLUMNS.table_name = 'listed'
            AND INFORMATION_SCHEMA.COLUMNS.table_schema = 'public'
            AND a.attnum > 0 AND NOT a.attisdropped
        ORDER BY a.attnum"""
    assert connection.execute(drizzle).fetchall() == columns


place = {"host": HOST, "port": PORT, "user": "ann", "password": TOKEN, "dbname": "main"}
with psycopg.connect(**place, autocommit=True) as shared:
    shared.execute("CREATE TABLE listed (id INT, tags TEXT[], flag BOOLEAN)")
    for name, query in WITHOUT_ROWS.items():
        assert shared.execute(query).fetchall() == [], name
    with_dbeaver(shared)
    with_typeorm(shared)
    with_introspection(shared)
    with_rails(shared)
