//! Handlers of functions with a Python runtime, and a check that a file defines the function that a
//! handler names.
//!
//! The syntax tree is searched; nothing is executed. A file is rejected only if it certainly does
//! not define the function. Assignments, imports and calls such as `exec` can also bind a name.
//! Only deployments check handlers, so that a version that is already active stays usable.

use headwater_model::ProjectFiles;
use ruff_python_ast::visitor::{self, Visitor};
use ruff_python_ast::{Expr, ExprContext, Pattern, Stmt};

use crate::command::CommandFunction;
use crate::project::deeply;
use crate::{Error, Location, Result};

/// Functions that can bind names in a module, and a name through which a module can be replaced.
const DYNAMIC: [&str; 6] = ["exec", "globals", "locals", "setattr", "vars", "modules"];

/// The function of a module that returns the values of names that the module does not bind.
const GETTER: &str = "__getattr__";

/// A handler of a function with a Python runtime.
#[derive(Debug)]
pub(super) struct Handler {
    /// The file and the function, such as `app.handler`.
    text: String,
    /// The path of the function's folder with a final `/`; empty for the project's folder.
    prefix: String,
    /// Location of the function in the project file.
    at: Location,
}

impl Handler {
    /// Returns the handler of a function; `None` unless the function has a Python runtime.
    pub fn of(function: &CommandFunction) -> Option<Self> {
        let text = function.handler.clone()?;
        let prefix = function.folder.as_ref().map_or(String::new(), |folder| format!("{folder}/"));
        Some(Handler { text, prefix, at: function.callable.at.clone() })
    }

    /// Checks that the handler's file may define its function. A missing file may be in a package.
    pub fn check(&self, files: &ProjectFiles) -> Result<()> {
        let (module, function) = self.text.rsplit_once('.').unwrap_or_default();
        let path = module.replace('.', "/");
        let candidates = [format!("{path}.py"), format!("{path}/__init__.py")];
        let text = |file: &String| Some(files.get(&format!("{}{file}", self.prefix))?.text());
        let Some(file) = candidates.iter().find(|file| text(file).is_some()) else { return Ok(()) };
        let texts: Vec<&str> = candidates.iter().filter_map(text).collect();
        if deeply(|| Ok(texts.iter().any(|text| may_define(text, function))))? {
            return Ok(());
        }
        let message = format!(
            "the file `{file}` does not define `{function}` at its top level, which the handler \
             `{}` needs",
            self.text
        );
        let hint = format!("Define it with `def {function}(event, context):`.");
        Err(Error::invalid(self.at.clone(), message, hint))
    }
}

/// Returns false if a module certainly does not bind the name. Returns true for a file that cannot
/// be parsed or is not text.
fn may_define(text: &str, name: &str) -> bool {
    let Ok(parsed) = ruff_python_parser::parse_module(text) else { return true };
    let mut search = NameSearch { name, is_inner: false, is_found: text.is_empty() };
    search.visit_body(&parsed.syntax().body);
    search.is_found
}

/// A visitor that searches for statements that bind a name of a module.
struct NameSearch<'n> {
    name: &'n str,
    /// True in the body of a function or class, whose names do not belong to the module.
    is_inner: bool,
    is_found: bool,
}

impl NameSearch<'_> {
    fn bind(&mut self, name: &str) {
        self.is_found |= !self.is_inner && (name == self.name || name == GETTER);
    }

    fn visit_inner(&mut self, body: &[Stmt]) {
        let is_inner = std::mem::replace(&mut self.is_inner, true);
        self.visit_body(body);
        self.is_inner = is_inner;
    }
}

impl Visitor<'_> for NameSearch<'_> {
    fn visit_stmt(&mut self, statement: &Stmt) {
        match statement {
            Stmt::FunctionDef(function) => {
                self.bind(function.name.as_str());
                for decorator in &function.decorator_list {
                    self.visit_decorator(decorator);
                }
                self.visit_inner(&function.body);
            }
            Stmt::ClassDef(class) => {
                self.bind(class.name.as_str());
                for decorator in &class.decorator_list {
                    self.visit_decorator(decorator);
                }
                self.visit_inner(&class.body);
            }
            Stmt::Import(import) => {
                for alias in &import.names {
                    let name = alias.asname.as_ref().unwrap_or(&alias.name).as_str();
                    self.bind(name.split('.').next().unwrap_or_default());
                }
            }
            Stmt::ImportFrom(import) => {
                for alias in &import.names {
                    let name = alias.asname.as_ref().unwrap_or(&alias.name).as_str();
                    self.is_found |= name == "*";
                    self.bind(name);
                }
            }
            Stmt::Global(global) => {
                self.is_found |= global.names.iter().any(|name| name.as_str() == self.name);
            }
            _ => visitor::walk_stmt(self, statement),
        }
    }

    fn visit_expr(&mut self, expression: &Expr) {
        match expression {
            Expr::Name(name) if matches!(name.ctx, ExprContext::Store) => {
                self.bind(name.id.as_str());
            }
            Expr::Name(name) => self.is_found |= DYNAMIC.contains(&name.id.as_str()),
            Expr::Attribute(attribute) => {
                self.is_found |= DYNAMIC.contains(&attribute.attr.as_str());
            }
            _ => {}
        }
        visitor::walk_expr(self, expression);
    }

    fn visit_pattern(&mut self, pattern: &Pattern) {
        if let Pattern::MatchAs(capture) = pattern
            && let Some(name) = &capture.name
        {
            self.bind(name.as_str());
        }
        visitor::walk_pattern(self, pattern);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_module_that_certainly_lacks_the_name_is_rejected() {
        for text in [
            "def handler(event, context):\n    return 1\n",
            "async def handler(event, context):\n    return 1\n",
            "class handler:\n    pass\n",
            "handler = make()\n",
            "handler: object = make()\n",
            "one, (handler, two) = make()\n",
            "if fast:\n    handler = a\nelse:\n    handler = b\n",
            "try:\n    from fast import handler\nexcept ImportError:\n    pass\n",
            "with lock() as handler:\n    pass\n",
            "print(handler := make())\n",
            "from app import main as handler\n",
            "from app import *\n",
            "import handler.inner\n",
            "match make():\n    case handler:\n        pass\n",
            "@export(globals())\ndef main(event, context):\n    return 1\n",
            "def set():\n    global handler\n    handler = 1\nset()\n",
            "globals()['handler'] = make()\n",
            "import sys\nsys.modules[__name__] = make()\n",
            "def __getattr__(name):\n    return make()\n",
            "def handler(event:\n",
            "",
        ] {
            assert!(may_define(text, "handler"), "{text}");
        }
        for text in [
            "def main(event, context):\n    return 1\n",
            "def main():\n    def handler(event, context):\n        return 1\n    return handler\n",
            "class App:\n    def handler(self, event, context):\n        return 1\n",
            "class App:\n    handler = 1\n",
            "import app\nfrom app import main\nprint(handler)\n",
            "# handler = 1\n",
        ] {
            assert!(!may_define(text, "handler"), "{text}");
        }
    }
}
