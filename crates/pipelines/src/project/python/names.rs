//! Resolution of names in a file to members of `headwater`.

use std::collections::HashMap;

use ruff_python_ast::statement_visitor::{StatementVisitor, walk_stmt};
use ruff_python_ast::{Expr, ModModule, Stmt, StmtImportFrom};
use ruff_text_size::Ranged;

use crate::source::SourceText;
use crate::{Error, Result};

/// The package that provides the decorators.
pub(super) const PACKAGE: &str = "headwater";

/// The names a file imported from `headwater`.
#[derive(Default)]
pub(super) struct Names {
    modules: Vec<String>,
    members: HashMap<String, String>,
    star: Option<usize>,
}

impl Names {
    pub fn of(module: &ModModule, source: &SourceText) -> Result<Names> {
        let mut names = Names::default();
        names.visit_body(&module.body);
        if let Some(offset) = names.star {
            let message = "`from headwater import *` hides where names come from";
            return Err(Error::invalid(source.at(offset), message, "Write `import headwater`."));
        }
        Ok(names)
    }

    pub fn is_empty(&self) -> bool {
        self.modules.is_empty() && self.members.is_empty()
    }

    /// Returns the member of `headwater` that an expression names: `model`, `Model`.
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

impl StatementVisitor<'_> for Names {
    fn visit_stmt(&mut self, statement: &Stmt) {
        match statement {
            Stmt::Import(import) => {
                for alias in import.names.iter().filter(|alias| &alias.name == PACKAGE) {
                    let local = alias.asname.as_ref().unwrap_or(&alias.name);
                    self.modules.push(local.to_string());
                }
            }
            Stmt::ImportFrom(import)
                if import.level == 0
                    && import.module.as_ref().is_some_and(|name| name == PACKAGE) =>
            {
                self.import_from(import);
            }
            _ => walk_stmt(self, statement),
        }
    }
}
