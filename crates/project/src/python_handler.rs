//! Handlers of functions with a Python runtime, and a check that a file is valid Python and defines
//! the function that a handler names.
//!
//! The syntax tree is searched; nothing is executed. A file is rejected only if it certainly cannot
//! be imported, or certainly does not define the function. Assignments, imports and calls such as
//! `exec` can also bind a name. Only deployments check handlers, so that a version that is already
//! active stays usable.

use headwater_model::{FileContent, ProjectFiles};
use ruff_python_ast::visitor::{self, Visitor};
use ruff_python_ast::{Expr, ExprContext, Pattern, Stmt};

use crate::command_function::CommandFunction;
use crate::project::deeply;
use crate::python::lower_first;
use crate::source_location::SourceText;
use crate::{Error, Location, Result};

/// Maximum size of a handler's file in bytes. Larger files are not checked.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Functions that can bind names in a module, and the attribute `modules` of the module `sys`,
/// through which a module can be replaced.
const DYNAMIC: [&str; 6] = ["exec", "globals", "locals", "setattr", "vars", "modules"];

/// The function of a module that Python calls to look up a name that the module does not bind.
const GETTER: &str = "__getattr__";

/// A handler of a function with a Python runtime.
#[derive(Debug)]
pub(super) struct PythonHandler {
    /// The file and the function, such as `app.handler`.
    text: String,
    /// The path of the function's folder with a final `/`; empty for the project's folder.
    prefix: String,
    /// Location of the function in the project file.
    at: Location,
}

impl PythonHandler {
    /// Returns the handler of a function; `None` unless the function has a Python runtime.
    pub fn of(function: &CommandFunction) -> Option<Self> {
        let text = function.handler.clone()?;
        let prefix = function.folder.as_ref().map_or(String::new(), |folder| format!("{folder}/"));
        Some(PythonHandler { text, prefix, at: function.callable.at.clone() })
    }

    /// Returns the files that may define the function, relative to the function's folder.
    fn candidates(&self) -> [String; 2] {
        let (module, _) = self.text.rsplit_once('.').unwrap_or_default();
        let path = module.replace('.', "/");
        [format!("{path}.py"), format!("{path}/__init__.py")]
    }

    /// Returns true if a file may define the handler's function.
    pub fn is_in(&self, file: &str) -> bool {
        self.candidates()
            .iter()
            .any(|name| file.strip_prefix(&self.prefix).is_some_and(|rest| rest == name))
    }

    /// Checks that the handler's file may define its function. A missing file may be in a package.
    pub fn check(&self, files: &ProjectFiles) -> Result<()> {
        let (_, function) = self.text.rsplit_once('.').unwrap_or_default();
        let check = |name: String| {
            let file = files.get(&format!("{}{name}", self.prefix))?;
            Some((name, FileCheck::of(file, function)))
        };
        let found: Vec<(String, FileCheck)> =
            deeply(|| Ok(self.candidates().into_iter().filter_map(check).collect()))?;
        if found.iter().any(|(_, check)| matches!(check, FileCheck::MayDefine)) {
            return Ok(());
        }
        let (message, hint) = match found.into_iter().next() {
            None | Some((_, FileCheck::MayDefine)) => return Ok(()),
            Some((file, FileCheck::Lacks)) => (
                format!(
                    "the file `{file}` does not define `{function}` at its top level, which the \
                     handler `{}` needs",
                    self.text
                ),
                format!("Define it with `def {function}(event, context):`."),
            ),
            Some((file, FileCheck::Invalid { line, reason })) => (
                format!(
                    "line {line} of the file `{file}` of the handler `{}` is invalid Python: \
                     {reason}",
                    self.text
                ),
                "Correct the file.".to_owned(),
            ),
        };
        Err(Error::invalid(self.at.clone(), message, hint))
    }
}

/// The result of the check of a handler's file.
#[derive(Debug, PartialEq, Eq)]
enum FileCheck {
    /// The file may define the function, or cannot be checked.
    MayDefine,
    /// The file certainly does not define the function.
    Lacks,
    /// The file certainly cannot be imported.
    Invalid { line: u32, reason: String },
}

impl FileCheck {
    /// Checks that a file may bind the name. A file that cannot be read may always bind it.
    fn of(file: &FileContent, name: &str) -> Self {
        let Ok(Some(bytes)) = file.read(FILE_BYTES_MAX) else { return FileCheck::MayDefine };
        if declares_encoding(&bytes) {
            return FileCheck::MayDefine;
        }
        match std::str::from_utf8(&bytes) {
            Ok(text) => Self::of_text(text, name),
            Err(error) => {
                let before = &bytes[..error.valid_up_to()];
                let lines = before.split(|byte| *byte == b'\n').count();
                let line = u32::try_from(lines).unwrap_or(u32::MAX);
                FileCheck::Invalid { line, reason: "the text is not UTF-8".to_owned() }
            }
        }
    }

    fn of_text(text: &str, name: &str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let parsed = match ruff_python_parser::parse_module(text) {
            Ok(parsed) => parsed,
            Err(error) => {
                let source = SourceText::new("", text);
                let line = source.at(error.location.start().to_usize()).line;
                let reason = lower_first(&error.error.to_string());
                return FileCheck::Invalid { line, reason };
            }
        };
        let mut search = NameSearch { name, is_inner: false, is_found: false };
        search.visit_body(&parsed.syntax().body);
        if search.is_found { FileCheck::MayDefine } else { FileCheck::Lacks }
    }
}

/// Returns true if a comment in the first two lines declares an encoding other than UTF-8, as
/// PEP 263 allows.
fn declares_encoding(bytes: &[u8]) -> bool {
    bytes.split(|byte| *byte == b'\n').take(2).any(|line| {
        let line = String::from_utf8_lossy(line).to_ascii_lowercase();
        let comment = line.trim_start_matches(['\u{feff}', ' ', '\t', '\u{c}']).strip_prefix('#');
        let encoding = comment
            .and_then(|comment| comment.split_once("coding"))
            .and_then(|(_, rest)| rest.strip_prefix([':', '=']));
        encoding.is_some_and(|name| {
            let name = name.trim_start();
            !name.starts_with("utf-8") && !name.starts_with("utf8")
        })
    })
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
        ] {
            assert_eq!(FileCheck::of_text(text, "handler"), FileCheck::MayDefine, "{text}");
        }
        for text in [
            "def main(event, context):\n    return 1\n",
            "def main():\n    def handler(event, context):\n        return 1\n    return handler\n",
            "class App:\n    def handler(self, event, context):\n        return 1\n",
            "class App:\n    handler = 1\n",
            "import app\nfrom app import main\nprint(handler)\n",
            "# handler = 1\n",
            "",
        ] {
            assert_eq!(FileCheck::of_text(text, "handler"), FileCheck::Lacks, "{text}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_imported_is_rejected_with_its_line() {
        for (bytes, expected) in [
            (&b"import os\n\ndef handler(:\n    pass\n"[..], Some(3)),
            (b"def handler(event, context):\nreturn 1\n", Some(2)),
            (b"# caf\xe9\ndef handler(event, context): pass\n", Some(1)),
            (b"# coding: utf-8\nhandler = '\xe9'\n", Some(2)),
            (b"# -*- coding: latin-1 -*-\nhandler = '\xe9'\n", None),
            (b"\xef\xbb\xbfhandler = print\n", None),
        ] {
            let line = match FileCheck::of(&FileContent::new(bytes.to_vec(), false), "handler") {
                FileCheck::Invalid { line, .. } => Some(line),
                FileCheck::MayDefine => None,
                FileCheck::Lacks => panic!("the name is bound"),
            };
            assert_eq!(line, expected, "{}", bytes.escape_ascii());
        }
    }
}
