//! Models and expectations that use decorators of other packages. Such a model is an error, because
//! a run that ignored it would appear to be complete.

use std::collections::{BTreeMap, HashMap};

use ruff_python_ast::{Expr, ModModule, Stmt, StmtFunctionDef};
use ruff_text_size::Ranged;

use super::imported_names::{BAUPLAN, PACKAGE};
use crate::source_location::SourceText;
use crate::{Error, Result};

/// Decorator names that define pipeline nodes in other packages.
const NODES: [&str; 2] = ["model", "expectation"];

/// Rejects `@X.model` and `@X.expectation` unless `X` is a supported package.
pub(super) fn refuse(
    source: &SourceText,
    module: &ModModule,
    files: &BTreeMap<String, String>,
) -> Result<()> {
    let packages = packages(module, files);
    if packages.is_empty() {
        return Ok(());
    }
    let functions = module.body.iter().filter_map(Stmt::as_function_def_stmt);
    functions.into_iter().try_for_each(|function| refuse_function(source, function, &packages))
}

fn refuse_function(
    source: &SourceText,
    function: &StmtFunctionDef,
    packages: &HashMap<String, ImportedName>,
) -> Result<()> {
    for decorator in &function.decorator_list {
        let expression = &decorator.expression;
        let target = expression.as_call_expr().map_or(expression, |call| &*call.func);
        let Some((package, member)) = resolve(target, packages) else { continue };
        let written = &source.text[target.range()];
        let message = format!(
            "`@{written}` of `{}` belongs to the package `{package}`, whose projects are not supported",
            function.name
        );
        let hint = format!("Write `import headwater` and `@headwater.{member}()`.");
        let at = source.at(decorator.range().start().to_usize());
        return Err(Error::invalid(at, message, hint));
    }
    Ok(())
}

/// Meaning of an imported name within the file.
enum ImportedName {
    /// A package, imported by `import`.
    Package(String),
    /// `model` or `expectation` of a package, imported by `from … import`.
    Node(String, &'static str),
}

/// Returns the package and the member that an expression refers to.
fn resolve<'a>(
    expression: &Expr,
    packages: &'a HashMap<String, ImportedName>,
) -> Option<(&'a str, &'static str)> {
    match expression {
        Expr::Name(name) => match packages.get(name.id.as_str())? {
            ImportedName::Node(package, member) => Some((package, member)),
            ImportedName::Package(_) => None,
        },
        Expr::Attribute(attribute) => {
            let name = attribute.value.as_name_expr()?;
            match packages.get(name.id.as_str())? {
                ImportedName::Package(package) => Some((package, node(&attribute.attr)?)),
                ImportedName::Node(..) => None,
            }
        }
        _ => None,
    }
}

fn node(name: &str) -> Option<&'static str> {
    NODES.into_iter().find(|node| *node == name)
}

/// Returns the names that the file imports from packages whose decorators are not supported.
/// Modules of the project are excluded.
fn packages(module: &ModModule, files: &BTreeMap<String, String>) -> HashMap<String, ImportedName> {
    let is_other = |package: &str| {
        let first = package.split('.').next().unwrap_or_default();
        let own = [format!("{first}.py"), format!("{first}/")];
        let is_own = |path: &String| {
            own.iter().any(|own| path.starts_with(own) || path.contains(&format!("/{own}")))
        };
        ![PACKAGE, BAUPLAN].contains(&first) && !files.keys().any(is_own)
    };
    let mut packages = HashMap::new();
    for statement in &module.body {
        match statement {
            Stmt::Import(import) => {
                for alias in import.names.iter().filter(|alias| is_other(&alias.name)) {
                    let package = alias.name.to_string();
                    let local = alias.asname.as_ref().unwrap_or(&alias.name).to_string();
                    packages.insert(local, ImportedName::Package(package));
                }
            }
            Stmt::ImportFrom(import) if import.level == 0 => {
                let Some(package) = import.module.as_ref().filter(|name| is_other(name)) else {
                    continue;
                };
                for alias in &import.names {
                    let Some(member) = node(&alias.name) else { continue };
                    let local = alias.asname.as_ref().unwrap_or(&alias.name).to_string();
                    packages.insert(local, ImportedName::Node(package.to_string(), member));
                }
            }
            _ => {}
        }
    }
    packages
}
