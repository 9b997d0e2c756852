//! Attributes of steps, which are compared with the patterns of selectors.

use crate::Step;

/// An attribute of a step that patterns are compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attribute {
    /// The name of the model or expectation.
    Name,
    /// A tag.
    Tag,
    /// The path of the file, or of a folder that contains it.
    Path,
    /// The name of the file, with or without its extension.
    File,
    /// The project, the folders and the name, separated by dots. A pattern may omit the project,
    /// and parts at the end.
    FullName,
    /// The name of the project.
    Package,
}

impl Attribute {
    /// Returns the texts of a step that a pattern is compared with.
    pub fn texts(self, project: &str, step: &Step) -> Vec<String> {
        match self {
            Attribute::Name => vec![step.name.clone()],
            Attribute::Tag => step.tags.clone(),
            Attribute::Path => {
                let paths = std::iter::successors(Some(&*step.at.file), |path| {
                    path.rsplit_once('/').map(|(folder, _)| folder)
                });
                paths.map(str::to_owned).collect()
            }
            Attribute::File => {
                let path: &str = &step.at.file;
                let file = path.rsplit_once('/').map_or(path, |(_, file)| file);
                let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
                vec![file.to_owned(), stem.to_owned()]
            }
            Attribute::FullName => full_names(project, step),
            Attribute::Package => vec![project.to_owned(), "this".to_owned()],
        }
    }

    /// Returns the plural of the attribute, for hints.
    pub const fn plural(self) -> &'static str {
        match self {
            Attribute::Name => "models",
            Attribute::Tag => "tags",
            Attribute::Path | Attribute::File => "files",
            Attribute::FullName => "names",
            Attribute::Package => "projects",
        }
    }
}

/// Returns the name of a step, and the beginnings of its full name with and without the project.
fn full_names(project: &str, step: &Step) -> Vec<String> {
    let folder = step.at.file.rsplit_once('/').map_or("", |(folder, _)| folder);
    let folders = folder.split('/').enumerate();
    let folders =
        folders.filter(|(number, part)| !part.is_empty() && (*number, *part) != (0, "models"));
    let folders = folders.map(|(_, part)| part);
    let parts: Vec<&str> =
        std::iter::once(project).chain(folders).chain([step.name.as_str()]).collect();
    let mut names = vec![step.name.clone()];
    for start in 0..2 {
        for end in start + 1..=parts.len() {
            names.push(parts[start..end].join("."));
        }
    }
    names
}
