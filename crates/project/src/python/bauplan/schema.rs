//! Schemas of typed contracts: classes with the base `bauplan.TableSchema`.

use std::collections::BTreeMap;

use ruff_python_ast::{Arguments, Expr, ModModule, Operator, Stmt, StmtClassDef};
use ruff_text_size::Ranged;

use crate::python::fingerprinted_code::candidates;
use crate::python::imported_names::{BAUPLAN, ImportedNames};
use crate::source_location::SourceText;
use crate::{ColumnType, DeclaredColumn, Error, InputColumn, Location, Result, unknown_name_hints};

/// The columns of one schema, in source order.
pub(crate) type Schema = Vec<DeclaredColumn>;

/// A schema with the declared sources of its columns.
#[derive(Clone)]
pub(crate) struct SchemaWithLineage {
    /// Identity of the class: the file that defines the class, and the name of the class.
    pub origin: String,
    /// The columns.
    pub columns: Schema,
    /// For each column, the name and the sources that the class declares.
    fields: Vec<SchemaField>,
}

#[derive(Clone)]
struct SchemaField {
    /// Name of the class attribute, which differs from the column's name if `TableField` has a
    /// `name`.
    attribute: String,
    /// The columns of other schemas that `lineage` names. Empty if the class declares none, or if
    /// the schema of one of them is not known.
    sources: Vec<LineageColumn>,
}

/// A column of a schema, as in `lineage=Trips["zone"]`.
#[derive(Clone)]
struct LineageColumn {
    /// Name of the class in its file or, once resolved, the identity of the class.
    schema: String,
    column: String,
    at: Location,
}

/// Arguments of `TableField`.
const FIELD: [&str; 3] = ["name", "doc", "lineage"];

/// The schemas that a file defines or imports from other files of the project, by the name of the
/// class in the file.
#[derive(Default)]
pub(crate) struct Schemas {
    by_name: BTreeMap<String, SchemaWithLineage>,
}

impl Schemas {
    /// Reads the schemas that a file defines or imports.
    pub fn of(
        source: &SourceText<'_>,
        module: &ModModule,
        files: &BTreeMap<String, String>,
    ) -> Result<Schemas> {
        let mut schemas = Schemas::defined(source, module)?;
        let mut imported = Schemas::default();
        let folder = source.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for import in module.body.iter().filter_map(Stmt::as_import_from_stmt) {
            let name = import.module.as_ref().map_or("", |name| name.as_str());
            for path in candidates(folder, import.level, name, files) {
                if path == &*source.path {
                    continue;
                }
                let others = Schemas::of_file(path, &files[path])?;
                for alias in &import.names {
                    if let Some(schema) = others.by_name.get(alias.name.as_str()) {
                        let local = alias.asname.as_ref().unwrap_or(&alias.name);
                        imported.by_name.insert(local.to_string(), schema.clone());
                    }
                }
            }
        }
        let unknown = schemas.resolve_sources(&imported)?;
        schemas.by_name.extend(imported.by_name);
        match unknown {
            Some(source) => Err(schemas.unknown_schema(&source)),
            None => Ok(schemas),
        }
    }

    /// Reads the schemas that a file defines; none if the file cannot be parsed.
    pub fn of_file(path: &str, text: &str) -> Result<Schemas> {
        if !text.contains("TableSchema") {
            return Ok(Schemas::default());
        }
        match ruff_python_parser::parse_module(text) {
            Ok(parsed) => {
                let mut schemas = Schemas::defined(&SourceText::new(path, text), parsed.syntax())?;
                // Imported schemas are not read here, so columns with sources in them lose their
                // sources.
                schemas.resolve_sources(&Schemas::default())?;
                Ok(schemas)
            }
            Err(_) => Ok(Schemas::default()),
        }
    }

    /// Returns the columns of the schema named `name`.
    pub fn get(&self, name: &str) -> Option<&Schema> {
        self.by_name.get(name).map(|schema| &schema.columns)
    }

    /// Returns the schema named `name`, with the declared sources of its columns.
    pub fn typed(&self, name: &str) -> Option<&SchemaWithLineage> {
        self.by_name.get(name)
    }

    /// Returns the names of all schemas.
    pub fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.by_name.keys().map(String::as_str)
    }

    fn defined(source: &SourceText<'_>, module: &ModModule) -> Result<Schemas> {
        let names = ImportedNames::of(module, source, BAUPLAN)?;
        let reader = SchemaReader { source, names: &names };
        let mut schemas = Schemas::default();
        for class in module.body.iter().filter_map(Stmt::as_class_def_stmt) {
            let bases = class.bases().iter();
            if bases.filter_map(|base| names.resolve(base)).any(|base| base == "TableSchema") {
                schemas.by_name.insert(class.name.to_string(), reader.read(class)?);
            }
        }
        Ok(schemas)
    }

    /// Replaces the class name in each column's sources by the identity of the class. A column with
    /// a source in an unknown schema loses all its sources. Returns the first source in an unknown
    /// schema.
    ///
    /// Fails if a known schema does not have the column of a source.
    fn resolve_sources(&mut self, imported: &Schemas) -> Result<Option<LineageColumn>> {
        let known = Schemas { by_name: self.by_name.clone() };
        let mut unknown = None;
        let schemas = self.by_name.values_mut();
        for field in schemas.flat_map(|schema| schema.fields.iter_mut()) {
            let mut resolved = Vec::new();
            for source in &field.sources {
                let name = &source.schema;
                match imported.typed(name).or_else(|| known.typed(name)) {
                    Some(schema) => resolved.push(schema.source(source)?),
                    None => unknown = unknown.or_else(|| Some(source.clone())),
                }
            }
            if resolved.len() < field.sources.len() {
                resolved.clear();
            }
            field.sources = resolved;
        }
        Ok(unknown)
    }

    fn unknown_schema(&self, source: &LineageColumn) -> Error {
        let name = &source.schema;
        let message = format!("`{name}` is not a class with the base `bauplan.TableSchema`");
        let hint = unknown_name_hints::hint(name, self.names(), "schemas of this file");
        Error::invalid(source.at.clone(), message, hint)
    }
}

impl SchemaWithLineage {
    /// Resolves a source that names this schema: returns the identity of the schema and the
    /// column's name, which may differ from the name of the class attribute.
    fn source(&self, source: &LineageColumn) -> Result<LineageColumn> {
        let name = &source.column;
        let mut columns = self.columns.iter().zip(&self.fields);
        let found =
            columns.find(|(column, field)| column.name == *name || field.attribute == *name);
        let Some((column, _)) = found else {
            let message = format!("the schema `{}` has no column `{name}`", source.schema);
            let known = self.columns.iter().map(|column| column.name.as_str());
            let hint = unknown_name_hints::hint(name, known, "columns");
            return Err(Error::invalid(source.at.clone(), message, hint));
        };
        let (schema, column) = (self.origin.clone(), column.name.clone());
        Ok(LineageColumn { schema, column, at: source.at.clone() })
    }

    /// Returns the input columns from which each column of this schema is computed. `inputs` are
    /// the identities of the schemas of a model's inputs. Leaves out columns without declared
    /// sources, and columns with a source in a schema that no input has.
    pub fn lineage(&self, inputs: &[Option<String>]) -> BTreeMap<String, Vec<InputColumn>> {
        let of_source = |source: &LineageColumn| {
            let mut columns: Vec<InputColumn> = Vec::new();
            for (input, origin) in inputs.iter().enumerate() {
                if origin.as_deref() == Some(source.schema.as_str()) {
                    columns.push(InputColumn { input, column: source.column.clone() });
                }
            }
            if columns.is_empty() { None } else { Some(columns) }
        };
        let mut lineage = BTreeMap::new();
        for (column, field) in self.columns.iter().zip(&self.fields) {
            let sources: Option<Vec<Vec<InputColumn>>> =
                field.sources.iter().map(of_source).collect();
            let sources: Vec<InputColumn> =
                sources.unwrap_or_default().into_iter().flatten().collect();
            if !sources.is_empty() {
                lineage.insert(column.name.clone(), sources);
            }
        }
        lineage
    }
}

/// Reader of the schemas of one file.
struct SchemaReader<'a> {
    source: &'a SourceText<'a>,
    names: &'a ImportedNames,
}

impl SchemaReader<'_> {
    fn read(&self, class: &StmtClassDef) -> Result<SchemaWithLineage> {
        let (mut columns, mut fields) = (Schema::new(), Vec::new());
        for field in class.body.iter().filter_map(Stmt::as_ann_assign_stmt) {
            let Some(name) = field.target.as_name_expr() else { continue };
            let (column, sources) = self.column(name.id.as_str(), &field.annotation)?;
            if columns.iter().any(|known| known.name == column.name) {
                let message = format!("`{}` declares `{}` twice", class.name, column.name);
                return Err(self.invalid(&*field.target, message, "Declare each column once."));
            }
            columns.push(column);
            fields.push(SchemaField { attribute: name.id.as_str().to_owned(), sources });
        }
        if columns.is_empty() {
            let message = format!("the schema `{}` declares no column", class.name);
            return Err(self.invalid(
                &class.name,
                message,
                "Add a line such as `id: bauplan.Int64`.",
            ));
        }
        let origin = format!("{}:{}", self.source.path, class.name);
        Ok(SchemaWithLineage { origin, columns, fields })
    }

    /// Reads a column and its declared sources.
    fn column(
        &self,
        name: &str,
        annotation: &Expr,
    ) -> Result<(DeclaredColumn, Vec<LineageColumn>)> {
        let (declared, field) = match annotated(annotation) {
            Some((declared, metadata)) => (declared, metadata),
            None => (annotation, &[][..]),
        };
        let mut column = self.column_type(name, declared)?;
        let mut sources = Vec::new();
        for call in field.iter().filter_map(Expr::as_call_expr) {
            if self.names.resolve(&call.func) == Some("TableField") {
                self.apply_field(&mut column, &call.arguments)?;
                let lineage = call.arguments.find_keyword("lineage");
                sources = lineage.map_or_else(Vec::new, |keyword| self.sources(&keyword.value));
            }
        }
        Ok((column, sources))
    }

    /// Reads `Trips["zone"]`, or a list of such columns. Returns no columns for other expressions.
    fn sources(&self, written: &Expr) -> Vec<LineageColumn> {
        let written = match written {
            Expr::List(list) => &list.elts[..],
            Expr::Tuple(tuple) => &tuple.elts[..],
            one => std::slice::from_ref(one),
        };
        let source = |written: &Expr| {
            let subscript = written.as_subscript_expr()?;
            let schema = subscript.value.as_name_expr()?.id.as_str().to_owned();
            let column = subscript.slice.as_string_literal_expr()?.value.to_str().to_owned();
            let at = self.source.at(written.range().start().to_usize());
            Some(LineageColumn { schema, column, at })
        };
        written.iter().map(source).collect::<Option<Vec<_>>>().unwrap_or_default()
    }

    fn apply_field(&self, column: &mut DeclaredColumn, arguments: &Arguments) -> Result<()> {
        for keyword in &arguments.keywords {
            let given = keyword.arg.as_ref().map_or("**", |name| name.as_str());
            if !FIELD.contains(&given) {
                let message = format!("`TableField` has no argument `{given}`");
                let hint = unknown_name_hints::hint(given, FIELD, "arguments");
                return Err(self.invalid(keyword, message, hint));
            }
            let Some(text) = keyword.value.as_string_literal_expr() else { continue };
            match given {
                "name" => text.value.to_str().clone_into(&mut column.name),
                "doc" => column.doc = Some(text.value.to_str().trim().to_owned()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Reads a column's type: `Int64`, or `Int64 | None` if nulls are allowed.
    fn column_type(&self, name: &str, declared: &Expr) -> Result<DeclaredColumn> {
        let name = name.to_owned();
        if let Expr::BinOp(either) = declared
            && either.op == Operator::BitOr
        {
            let (one, other) = (&*either.left, &*either.right);
            let inner = if one.is_none_literal_expr() { other } else { one };
            if one.is_none_literal_expr() != other.is_none_literal_expr() {
                let column = self.column_type(&name, inner)?;
                return Ok(DeclaredColumn { nullable: true, ..column });
            }
        }
        if let Expr::Subscript(subscript) = declared {
            if is_named(&subscript.value, "Optional") {
                let column = self.column_type(&name, &subscript.slice)?;
                return Ok(DeclaredColumn { nullable: true, ..column });
            }
            // `TimestampMicro[UTC]` is another notation of `TimestampMicroUTC`.
            let utc = self.names.resolve(&subscript.value).map(|base| format!("{base}UTC"));
            if let Some(column_type) = utc.as_deref().and_then(ColumnType::parse) {
                return Ok(required(name, column_type));
            }
        }
        let member = self.names.resolve(declared);
        if member == Some("Any") || is_named(declared, "Any") {
            return Ok(DeclaredColumn { name, column_type: None, nullable: true, doc: None });
        }
        if let Some(column_type) = member.and_then(ColumnType::parse) {
            return Ok(required(name, column_type));
        }
        let written = &self.source.text[declared.range()];
        let message = format!("`{written}` is not a column type");
        let known = ColumnType::ALL.map(|(name, _)| name);
        let hint = unknown_name_hints::hint(member.unwrap_or(written), known, "types");
        Err(self.invalid(declared, message, hint))
    }

    fn invalid(&self, node: &impl Ranged, message: String, hint: impl Into<String>) -> Error {
        Error::invalid(self.source.at(node.range().start().to_usize()), message, hint)
    }
}

/// Returns a column that does not allow nulls.
fn required(name: String, column_type: ColumnType) -> DeclaredColumn {
    DeclaredColumn { name, column_type: Some(column_type), nullable: false, doc: None }
}

/// Returns the type and the metadata of `Annotated[type, metadata…]`.
pub(super) fn annotated(annotation: &Expr) -> Option<(&Expr, &[Expr])> {
    let subscript = annotation.as_subscript_expr()?;
    if !is_named(&subscript.value, "Annotated") {
        return None;
    }
    subscript.slice.as_tuple_expr()?.elts.split_first()
}

/// Returns true if an expression is the name `name`, alone or as an attribute of a module.
fn is_named(expression: &Expr, name: &str) -> bool {
    match expression {
        Expr::Name(written) => written.id.as_str() == name,
        Expr::Attribute(attribute) => attribute.attr.as_str() == name,
        _ => false,
    }
}
