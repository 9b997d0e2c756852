//! Resolves names in a file to members of a package that provides decorators.

use std::collections::HashMap;

use ruff_python_ast::statement_visitor::{StatementVisitor, walk_stmt};
use ruff_python_ast::{Arguments, Decorator, Expr, ModModule, Stmt, StmtImportFrom};
use ruff_text_size::Ranged;

use crate::source_location::SourceText;
use crate::{Error, Result};

/// The package that provides the decorators.
pub(super) const PACKAGE: &str = "headwater";

/// The package with the decorators of Bauplan.
pub(super) const BAUPLAN: &str = "bauplan";

/// The names that a file imports from a package.
pub(super) struct ImportedNames {
    package: &'static str,
    modules: Vec<String>,
    members: HashMap<String, String>,
    star: Option<usize>,
}

impl ImportedNames {
    pub fn of(
        module: &ModModule,
        source: &SourceText,
        package: &'static str,
    ) -> Result<ImportedNames> {
        let (modules, members) = (Vec::new(), HashMap::new());
        let mut names = ImportedNames { package, modules, members, star: None };
        names.visit_body(&module.body);
        if let Some(offset) = names.star {
            let message = format!("`from {package} import *` is not supported");
            let hint = format!("Write `import {package}`.");
            return Err(Error::invalid(source.at(offset), message, hint));
        }
        Ok(names)
    }

    pub fn is_empty(&self) -> bool {
        self.modules.is_empty() && self.members.is_empty()
    }

    /// Returns the member of the package that an expression refers to, such as `model` or `Model`.
    pub fn resolve<'a>(&'a self, expression: &'a Expr) -> Option<&'a str> {
        match expression {
            Expr::Name(name) => self.members.get(name.id.as_str()).map(String::as_str),
            Expr::Attribute(attribute) => {
                let module = attribute.value.as_name_expr()?;
                let ours = self.modules.iter().any(|ours| ours == module.id.as_str());
                ours.then(|| attribute.attr.as_str())
            }
            _ => None,
        }
    }

    /// Returns the member of the package that a decorator refers to, with its arguments.
    pub fn resolve_decorator<'d>(
        &'d self,
        decorator: &'d Decorator,
    ) -> Option<(&'d str, Option<&'d Arguments>)> {
        let (target, arguments) = match &decorator.expression {
            Expr::Call(call) => (&*call.func, Some(&call.arguments)),
            bare => (bare, None),
        };
        self.resolve(target).map(|member| (member, arguments))
    }

    fn import_from(&mut self, import: &StmtImportFrom) {
        for alias in &import.names {
            if &alias.name == "*" {
                self.star = Some(import.range().start().to_usize());
            }
            let local = alias.asname.as_ref().unwrap_or(&alias.name);
            self.members.insert(local.to_string(), alias.name.to_string());
        }
    }
}

impl StatementVisitor<'_> for ImportedNames {
    fn visit_stmt(&mut self, statement: &Stmt) {
        match statement {
            Stmt::Import(import) => {
                for alias in &import.names {
                    let name = alias.name.as_str();
                    let is_inner = name
                        .strip_prefix(self.package)
                        .is_some_and(|rest| rest.starts_with('.') && alias.asname.is_none());
                    if name == self.package || is_inner {
                        let local = alias.asname.as_ref().map(ruff_python_ast::Identifier::as_str);
                        self.modules.push(local.unwrap_or(self.package).to_owned());
                    }
                }
            }
            Stmt::ImportFrom(import)
                if import.level == 0
                    && import.module.as_ref().is_some_and(|name| name == self.package) =>
            {
                self.import_from(import);
            }
            _ => walk_stmt(self, statement),
        }
    }
}
