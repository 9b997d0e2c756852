//! Random calls of every registered function with extreme arguments, based on its example
//! signatures.

/// Functions and their argument types. The engine's tests check that the list is complete.
const FUNCTIONS: &str = include_str!("../../../../tests/functions.txt");

/// Tables with extreme values.
pub const TABLES: [&str; 1] = ["CREATE TABLE extremes AS SELECT * FROM (VALUES \
    (1, -9223372036854775807, 0.0, '', TIMESTAMP '0001-01-01 00:00:00', [1, NULL, 3]), \
    (2, 9223372036854775807, 1e308, 'a\\b(%', TIMESTAMP '9999-12-31 23:59:59', NULL), \
    (3, 0, -1e308, 'ß𝄞é', TIMESTAMP '1970-01-01 00:00:00', []), \
    (4, NULL, NULL, NULL, NULL, [9223372036854775807, -1]), \
    (5, 2147483647, 'NaN'::DOUBLE, repeat('long ', 20000), NULL, range(1, 5000))) \
    AS v(id, i, f, s, t, l)"];

const INTEGERS: &[&str] = &[
    "NULL",
    "0",
    "1",
    "-1",
    "2",
    "7",
    "100",
    "2147483647",
    "-2147483648",
    "2147483648",
    "4294967296",
    "1000000000",
    "9223372036854775807",
    "-9223372036854775807",
    "cast(NULL AS BIGINT)",
    "t.i",
    "t.id",
];

const NUMBERS: &[&str] = &[
    "0.0",
    "-0.0",
    "1.5",
    "1e308",
    "-1e308",
    "1e-320",
    "'NaN'::DOUBLE",
    "'inf'::DOUBLE",
    "'-inf'::DOUBLE",
    "cast(1 AS DECIMAL(38, 37))",
    "99999999999999999999999999999999999999",
    "t.f",
    "NULL",
];

const TEXTS: &[&str] = &[
    "''",
    "NULL",
    "'a'",
    "t.s",
    "repeat('x', 10000000)",
    "repeat(t.s, 1000)",
    "'../../../etc/passwd'",
    "'UTC'",
    "'%Y-%m-%d %+ %c'",
    "'9999999-12-31'",
    "'-1'",
    "'1e999'",
    "'\\\\1$0$1'",
    "'(a*)*b{1,999}'",
    "'((((((a{50}){50}){50})))'",
    "'g'",
    "'day'",
    "'nanosecond'",
    "'hex'",
    "'base64'",
    "'sha512'",
    "'Timestamp(s, \"../x\")'",
    "'Dictionary(Int8, Utf8)'",
    "'FixedSizeBinary(2147483647)'",
    "'FixedSizeList(2147483647, Int64)'",
    "'Decimal256(76, 76)'",
    "'Date32'",
    "'ß𝄞é'",
    "chr(0)",
    "'[1,{\"a\":null}]'",
];

const TIMES: &[&str] = &[
    "NULL",
    "t.t",
    "TIMESTAMP '0001-01-01 00:00:00'",
    "TIMESTAMP '9999-12-31 23:59:59.999999'",
    "DATE '0001-01-01'",
    "DATE '9999-12-31'",
    "arrow_cast(2147483647, 'Date32')",
    "now()",
    "arrow_cast(9223372036854775807, 'Timestamp(s)')",
    "arrow_cast(-1, 'Time64(us)')",
    "arrow_cast(9223372036854775807, 'Timestamp(ns, \"UTC\")')",
    "current_date()",
    "arrow_cast(9223372036854775807, 'Date64')",
];

const DATES: &[&str] = &[
    "NULL",
    "DATE '0001-01-01'",
    "DATE '9999-12-31'",
    "arrow_cast(arrow_cast(2147483647, 'Int32'), 'Date32')",
    "arrow_cast(arrow_cast(-2147483648, 'Int32'), 'Date32')",
    "DATE '2000-02-29'",
];

const INTERVALS: &[&str] = &[
    "NULL",
    "INTERVAL '1' DAY",
    "INTERVAL '-1' MONTH",
    "INTERVAL '0' SECOND",
    "INTERVAL '1' SECOND",
    "INTERVAL '178956970' YEAR",
    "INTERVAL '1 month -30 days'",
    "arrow_cast(1, 'Duration(ns)')",
];

const LISTS: &[&str] = &[
    "NULL",
    "[]",
    "t.l",
    "[1, NULL]",
    "[NULL]",
    "[[1], NULL, []]",
    "['a', '']",
    "range(1, 100000)",
    "array_repeat(NULL, 100000)",
    "array_repeat(t.s, 100)",
    "array_repeat(array_repeat(1, 1000), 1000)",
    "['NaN'::DOUBLE, 1e308]",
    "map(['a'], [1])",
    "struct(1, 'a')",
    "arrow_cast([1], 'LargeList(Int64)')",
    "arrow_cast([1, 2], 'FixedSizeList(2, Int64)')",
];

const BYTES: &[&str] =
    &["NULL", "X''", "X'00ff'", "arrow_cast(t.s, 'Binary')", "digest(t.s, 'md5')"];

const BOOLS: &[&str] = &["NULL", "true", "false", "t.id > 2"];

/// Excluded functions: non-deterministic functions, and functions that need other statements.
const LEFT_OUT: &[&str] = &["input_file_name", "file_row_index"];

struct Function {
    kind: &'static str,
    name: &'static str,
    examples: Vec<Vec<&'static str>>,
}

pub struct Calls {
    functions: Vec<Function>,
    random: Random,
    at: usize,
}

impl Calls {
    pub fn new(seed: u64) -> Self {
        let functions: Vec<Function> = FUNCTIONS.lines().filter_map(read).collect();
        assert!(functions.len() > 300, "{}", functions.len());
        Calls { functions, random: Random(seed ^ 0x5851_F42D_4C95_7F2D), at: 0 }
    }

    /// Returns the number of functions. [`next`](Self::next) calls them in turn.
    pub fn functions(&self) -> usize {
        self.functions.len()
    }

    pub fn next(&mut self) -> String {
        let function = &self.functions[self.at % self.functions.len()];
        self.at += 1;
        let random = &mut self.random;
        let arguments = arguments(function, random);
        let call = format!("{}({})", function.name, arguments.join(", "));
        let with_rows = random.one_in(2) || call.contains("t.");
        let from = if with_rows { " FROM extremes AS t" } else { "" };
        match function.kind {
            "window" => format!("SELECT {call} OVER (ORDER BY t.id) AS v FROM extremes AS t"),
            "aggregate" if random.one_in(3) => {
                format!("SELECT {call} OVER (ORDER BY t.id) AS v FROM extremes AS t")
            }
            "aggregate" if random.one_in(2) => {
                format!("SELECT t.id % 2 AS k, {call} AS v FROM extremes AS t GROUP BY 1")
            }
            "scalar" if with_rows && random.one_in(4) => {
                format!("SELECT t.id FROM extremes AS t WHERE {call} IS NOT NULL ORDER BY {call}")
            }
            _ => format!("SELECT {call} AS v{from}"),
        }
    }
}

fn read(line: &'static str) -> Option<Function> {
    let (kind, rest) = line.split_once(' ')?;
    let (name, examples) = rest.split_once(':')?;
    let examples = examples.split(',').map(|one| one.split_whitespace().collect()).collect();
    (!LEFT_OUT.contains(&name)).then_some(Function { kind, name, examples })
}

/// Returns arguments with the types of an example. Returns random types if there are no examples,
/// and in one of eight calls.
fn arguments(function: &Function, random: &mut Random) -> Vec<&'static str> {
    let example = &function.examples[random.below(function.examples.len())];
    let unknown = function.examples.iter().all(Vec::is_empty);
    if unknown || random.one_in(8) {
        let count = random.below(5);
        let kinds = ["int", "number", "text", "date", "timestamp", "interval", "list", "bytes"];
        return (0..count).map(|_| value(kinds[random.below(kinds.len())], random)).collect();
    }
    example.iter().map(|kind| value(kind, random)).collect()
}

fn value(kind: &str, random: &mut Random) -> &'static str {
    let values = match kind {
        "bool" => BOOLS,
        "int" => INTEGERS,
        "number" => NUMBERS,
        "text" => TEXTS,
        "bytes" => BYTES,
        "date" => DATES,
        "timestamp" | "time" => TIMES,
        "interval" => INTERVALS,
        "list" => LISTS,
        _ => [INTEGERS, NUMBERS, TEXTS, TIMES, LISTS][random.below(5)],
    };
    values[random.below(values.len())]
}

/// A pseudo-random number generator with a seed (`SplitMix64`).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % bound.max(1) as u64).unwrap_or(0)
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}
