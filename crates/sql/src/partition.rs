//! `PARTITIONED BY (day(ts), origin)`, which no dialect of sqlparser reads with transforms: it is
//! cut out of the words of a CREATE TABLE before the rest is parsed.

use headwater_model::PartitionField;
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::error::{Error, Result};
use crate::table_name::span_start;

/// Takes the partition fields out of a CREATE TABLE's words.
pub fn take(mut tokens: Vec<TokenWithSpan>) -> Result<(Vec<TokenWithSpan>, Vec<PartitionField>)> {
    let Some((begin, open)) = clause(&tokens) else { return Ok((tokens, Vec::new())) };
    let position = span_start(tokens[begin].span);
    let Some(close) = closing(&tokens, open) else {
        let message = "the list after PARTITIONED BY is not closed".to_owned();
        return Err(Error::Syntax { message, hint: None, position });
    };
    let fields = fields(&tokens[open + 1..close])?;
    if fields.is_empty() {
        let message = "the list after PARTITIONED BY is empty".to_owned();
        return Err(Error::Syntax { message, hint: None, position });
    }
    tokens.drain(begin..=close);
    Ok((tokens, fields))
}

/// Where the clause begins, and where its list opens.
fn clause(tokens: &[TokenWithSpan]) -> Option<(usize, usize)> {
    let words: Vec<usize> =
        (0..tokens.len()).filter(|&i| !matches!(tokens[i].token, Token::Whitespace(_))).collect();
    if !words.first().is_some_and(|&first| is_keyword(&tokens[first].token, Keyword::CREATE)) {
        return None;
    }
    let mut depth = 0_i32;
    for three in words.windows(3) {
        match tokens[three[0]].token {
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            _ => {}
        }
        let named = |index: usize| &tokens[three[index]].token;
        let begins =
            is_keyword(named(0), Keyword::PARTITIONED) || is_keyword(named(0), Keyword::PARTITION);
        if depth == 0 && begins && is_keyword(named(1), Keyword::BY) && *named(2) == Token::LParen {
            return Some((three[0], three[2]));
        }
    }
    None
}

/// Whether a word is this keyword, and no quoted name.
pub fn is_keyword(token: &Token, keyword: Keyword) -> bool {
    matches!(token, Token::Word(word) if word.keyword == keyword && word.quote_style.is_none())
}

fn closing(tokens: &[TokenWithSpan], open: usize) -> Option<usize> {
    let mut depth = 0_i32;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        match token.token {
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(index);
        }
    }
    None
}

fn fields(tokens: &[TokenWithSpan]) -> Result<Vec<PartitionField>> {
    let words = tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_)));
    let mut texts = vec![String::new()];
    let mut depth = 0_i32;
    for word in words {
        match word.token {
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            _ => {}
        }
        match (&word.token, texts.last_mut()) {
            (Token::Comma, _) if depth == 0 => texts.push(String::new()),
            (Token::Word(name), Some(text)) => text.push_str(&name.value),
            (other, Some(text)) => text.push_str(&other.to_string()),
            (_, None) => {}
        }
    }
    texts.iter().filter(|text| !text.is_empty()).map(|text| parse(text)).collect()
}

/// One partition field as text.
pub fn parse(text: &str) -> Result<PartitionField> {
    Ok(text.parse()?)
}
