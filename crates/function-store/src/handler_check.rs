//! Checks of handlers: the file in which a runtime searches for the function must exist.

use headwater_model::{FunctionSettings, ProjectFiles};

use crate::paths::printable;
use crate::{Error, Result};

/// Maximum number of files that a hint names.
const NAMED_MAX: usize = 5;

/// Checks that a function's files contain the file of its handler.
///
/// Errors: `invalid_argument`; the hint names files that the function has.
pub fn check_handler(settings: &FunctionSettings, files: &ProjectFiles) -> Result<()> {
    let runtime = settings.runtime.as_str();
    let handler = settings.handler.as_deref().unwrap_or_default();
    let (candidates, ending): (Vec<String>, &str) = if runtime.starts_with("python") {
        let (module, _) = handler.rsplit_once('.').unwrap_or_default();
        let path = module.replace('.', "/");
        (vec![format!("{path}.py"), format!("{path}/__init__.py")], ".py")
    } else if runtime.starts_with("nodejs") {
        let start = handler.rfind('/').map_or(0, |at| at + 1);
        let dot = handler[start..].find('.').map_or(0, |at| start + at);
        let file = &handler[..dot];
        ([".js", ".mjs", ".cjs"].map(|ending| format!("{file}{ending}")).to_vec(), "js")
    } else if runtime.starts_with("provided") {
        (vec!["bootstrap".to_owned()], "")
    } else {
        let message = match runtime {
            "" => "a new function needs a runtime".to_owned(),
            other => format!("`{}` is not a supported runtime", printable(other)),
        };
        let hint = "Use `python3.10` or later, `nodejs20`, `nodejs22`, `nodejs24` or `provided`";
        return Err(Error::invalid(message, hint));
    };
    if candidates.iter().any(|file| files.contains_key(file)) {
        return check_bootstrap(runtime, files);
    }
    let needs_handler = !runtime.starts_with("provided");
    if needs_handler && (handler.is_empty() || candidates[0].starts_with('.')) {
        let message =
            format!("`{}` is not a handler for the runtime `{runtime}`", printable(handler));
        return Err(Error::invalid(
            message,
            "Write the file, a dot and the function: `app.handler`",
        ));
    }
    let what = if needs_handler {
        format!(
            "handler `{}` needs the file `{}`, which",
            printable(handler),
            printable(&candidates[0])
        )
    } else {
        "the runtime `provided` needs the program `bootstrap`, which".to_owned()
    };
    Err(Error::invalid(format!("{what} does not exist"), existing(files, ending)))
}

/// Rejects a `bootstrap` program without the execute permission, because it cannot be started.
fn check_bootstrap(runtime: &str, files: &ProjectFiles) -> Result<()> {
    let program = files.get("bootstrap").filter(|_| runtime.starts_with("provided"));
    if program.is_none_or(headwater_model::FileContent::is_executable) {
        return Ok(());
    }
    let hint = "Begin a script with `#!/bin/sh`, or run `chmod +x bootstrap` for a program";
    Err(Error::invalid("`bootstrap` is not executable", hint))
}

/// Returns a hint that names existing files, preferably files with the file extension of the
/// runtime's handlers.
fn existing(files: &ProjectFiles, ending: &str) -> String {
    let with_ending: Vec<&String> = files.keys().filter(|path| path.ends_with(ending)).collect();
    let named = if with_ending.is_empty() { files.keys().collect() } else { with_ending };
    let shown: Vec<String> =
        named.iter().take(NAMED_MAX).map(|path| format!("`{}`", printable(path))).collect();
    let more = match named.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("The function's files are {}{more}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use headwater_model::ToProblem;

    use super::*;

    #[test]
    fn the_file_of_a_handler_must_exist() {
        let files: ProjectFiles = ["main.py", "lib/app.py", "index.mjs", "bootstrap"]
            .into_iter()
            .map(|path| (path.to_owned(), "#!/bin/sh\n".into()))
            .collect();
        let check = |runtime: &str, handler: &str| {
            let handler = Some(handler.to_owned()).filter(|text| !text.is_empty());
            let settings =
                FunctionSettings { runtime: runtime.to_owned(), handler, ..Default::default() };
            check_handler(&settings, &files)
        };
        for (runtime, handler) in [
            ("python3.11", "main.handler"),
            ("python3.11", "lib/app.handler"),
            ("python3.11", "lib.app.handler"),
            ("nodejs20.x", "index.handler"),
            ("provided.al2023", ""),
        ] {
            check(runtime, handler).expect(handler);
        }
        for (runtime, handler) in [
            ("python3.11", "app.handler"),
            ("python3.11", "handler"),
            ("python3.11", ""),
            ("nodejs20", "app.handler"),
            ("java21", "app.handler"),
            ("", "app.handler"),
        ] {
            check(runtime, handler).expect_err(handler);
        }
        let missing = check("python3.11", "app.handler").expect_err("missing");
        assert_eq!(
            missing.to_string(),
            "handler `app.handler` needs the file `app.py`, which does not exist"
        );
        assert_eq!(
            missing.hint().as_deref(),
            Some("The function's files are `lib/app.py`, `main.py`")
        );
    }
}
