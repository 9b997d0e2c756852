//! The options of COPY: parsing, and the format that they describe.

use headwater_model::{ErrorCode, Problem};
use sqlparser::ast::{CopyLegacyCsvOption, CopyLegacyOption, CopyOption, Statement};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use crate::copy::unsupported;
use crate::copy_format::CopyFormat;

/// Parses a statement that begins with COPY. The names in it keep their positions.
pub(crate) fn parse(sql: &str) -> Result<Vec<Statement>, ParserError> {
    let dialect = PostgreSqlDialect {};
    // The parser expects a semicolon after STDIN.
    let text = format!("{};", sql.trim_end().trim_end_matches(';'));
    let mut tokens = Tokenizer::new(&dialect, &text).tokenize_with_location()?;
    spell_switches(&mut tokens);
    Parser::new(&dialect).with_tokens_with_locations(tokens).parse_statements()
}

/// Replaces the values `on`, `off`, `1` and `0` of options by `TRUE` and `FALSE`, the only values
/// that sqlparser reads.
fn spell_switches(tokens: &mut [TokenWithSpan]) {
    let written: Vec<usize> = (0..tokens.len())
        .filter(|index| !matches!(tokens[*index].token, Token::Whitespace(_)))
        .collect();
    for window in written.windows(3) {
        let [before, option, value] = [0, 1, 2].map(|index| &tokens[window[index]].token);
        let is_first = matches!(before, Token::LParen | Token::Comma);
        let is_option = matches!(option, Token::Word(word)
            if matches!(word.keyword, Keyword::FREEZE | Keyword::HEADER));
        if is_first
            && is_option
            && let Some(spelled) = spelled(value)
        {
            tokens[window[2]].token = Token::make_keyword(spelled);
        }
    }
}

fn spelled(value: &Token) -> Option<&'static str> {
    match value.to_string().to_lowercase().as_str() {
        "on" | "1" => Some("TRUE"),
        "off" | "0" => Some("FALSE"),
        _ => None,
    }
}

/// Returns the format that the options of a COPY describe.
pub(crate) fn format_of(
    options: &[CopyOption],
    legacy_options: &[CopyLegacyOption],
) -> Result<CopyFormat, Problem> {
    let is_csv = options.iter().any(
        |option| matches!(option, CopyOption::Format(name) if name.value.eq_ignore_ascii_case("csv")),
    ) || legacy_options.iter().any(|option| matches!(option, CopyLegacyOption::Csv(_)));
    let mut format = if is_csv { CopyFormat::csv() } else { CopyFormat::text() };
    for option in options {
        match option {
            CopyOption::Format(name) if name.value.eq_ignore_ascii_case("binary") => {
                format.is_binary = true;
            }
            CopyOption::Format(name) if ["csv", "text"].contains(&&*name.value.to_lowercase()) => {}
            // FREEZE affects only the way in which PostgreSQL stores the rows, so it has no effect
            // here.
            CopyOption::Freeze(_) => {}
            CopyOption::Encoding(name) if name.to_lowercase().replace('-', "") == "utf8" => {}
            CopyOption::Delimiter(delimiter) => format.delimiter = byte(*delimiter, "DELIMITER")?,
            CopyOption::Null(null) => format.null.clone_from(null),
            CopyOption::Header(has_header) => format.has_header = *has_header,
            CopyOption::Quote(quote) => format.quote = byte(*quote, "QUOTE")?,
            CopyOption::Escape(escape) if byte(*escape, "ESCAPE")? == format.quote => {}
            other => return Err(unsupported(&format!("the option `{other}` of COPY"))),
        }
    }
    for option in legacy_options {
        match option {
            CopyLegacyOption::Binary => format.is_binary = true,
            CopyLegacyOption::Delimiter(delimiter) => {
                format.delimiter = byte(*delimiter, "DELIMITER")?;
            }
            CopyLegacyOption::Null(null) => format.null.clone_from(null),
            CopyLegacyOption::Csv(options) => {
                for option in options {
                    match option {
                        CopyLegacyCsvOption::Header => format.has_header = true,
                        CopyLegacyCsvOption::Quote(quote) => format.quote = byte(*quote, "QUOTE")?,
                        other => {
                            return Err(unsupported(&format!("the option `{other}` of COPY")));
                        }
                    }
                }
            }
            other => return Err(unsupported(&format!("the option `{other}` of COPY"))),
        }
    }
    Ok(format)
}

fn byte(character: char, option: &str) -> Result<u8, Problem> {
    u8::try_from(character).ok().filter(u8::is_ascii).ok_or_else(|| {
        let message = format!("{option} of COPY must be one ASCII character, not `{character}`");
        Problem::new(ErrorCode::InvalidArgument, message)
    })
}
