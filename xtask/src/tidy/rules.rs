//! The limits, the same as in CONTRIBUTING.md.

/// Lines of a file.
pub const FILE_LINES_MAX: usize = 500;

/// Columns of a line.
pub const LINE_COLUMNS_MAX: usize = 100;

/// Lines of a function's body, without blank lines and comments.
pub const FUNCTION_LINES_MAX: usize = 70;

/// Parameters of a function, `self` included.
pub const PARAMETERS_MAX: usize = 5;

/// Public methods of a type.
pub const PUBLIC_METHODS_MAX: usize = 30;

/// Source lines of a crate, without its `tests` folder.
pub const CRATE_LINES_MAX: usize = 10_000;

/// A rule: its name in the exceptions file, and the largest number that needs no exception.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// The section in the exceptions file.
    pub name: &'static str,
    /// The limit; 0 if the number counts violations.
    pub limit: usize,
    /// The unit of the number, for messages.
    pub unit: &'static str,
}

/// Lines per file.
pub const FILE_LINES: Rule = Rule { name: "file_lines", limit: FILE_LINES_MAX, unit: "lines" };

/// Lines that are too wide, per file.
pub const WIDE_LINES: Rule = Rule { name: "wide_lines", limit: 0, unit: "lines over 100 columns" };

/// Functions that are too long, per file.
pub const LONG_FUNCTIONS: Rule =
    Rule { name: "long_functions", limit: 0, unit: "functions over 70 lines" };

/// Functions with too many parameters, per file.
pub const MANY_PARAMETERS: Rule =
    Rule { name: "many_parameters", limit: 0, unit: "functions with over 5 parameters" };

/// Parameters whose type is a tuple, per file.
pub const TUPLE_PARAMETERS: Rule =
    Rule { name: "tuple_parameters", limit: 0, unit: "tuple parameters" };

/// Items other than `mod` and `use` in `lib.rs` or `mod.rs`, per file.
pub const MODULE_LOGIC: Rule =
    Rule { name: "module_logic", limit: 0, unit: "items other than `mod` and `use`" };

/// Modules whose root is `NAME.rs` next to the folder `NAME`, not `NAME/mod.rs`.
pub const MODULE_ROOTS: Rule =
    Rule { name: "module_roots", limit: 0, unit: "module root outside its folder" };

/// Banned words, per file.
pub const BANNED_WORDS: Rule = Rule { name: "banned_words", limit: 0, unit: "banned words" };

/// Public methods per type.
pub const PUBLIC_METHODS: Rule =
    Rule { name: "public_methods", limit: PUBLIC_METHODS_MAX, unit: "public methods" };

/// Source lines per crate.
pub const CRATE_LINES: Rule = Rule { name: "crate_lines", limit: CRATE_LINES_MAX, unit: "lines" };

/// All rules, in the order of the exceptions file.
pub const RULES: [Rule; 10] = [
    CRATE_LINES,
    PUBLIC_METHODS,
    FILE_LINES,
    MODULE_LOGIC,
    MODULE_ROOTS,
    LONG_FUNCTIONS,
    MANY_PARAMETERS,
    TUPLE_PARAMETERS,
    WIDE_LINES,
    BANNED_WORDS,
];

/// A number that a rule limits.
#[derive(Debug, Clone)]
pub struct Measurement {
    /// The rule.
    pub rule: Rule,
    /// A file, a crate's folder, or a crate's folder and a type.
    pub subject: String,
    /// The measured number.
    pub number: usize,
    /// Locations that exceed the limit, such as `line 12, line 80`; may be empty.
    pub details: String,
}
