//! The functions of a source file: their length, their parameters, and the type to which they
//! belong.

use super::source::{closing, is_word, line};

/// A function with a body or a signature.
#[derive(Debug)]
pub struct Function {
    /// The 1-based line of the keyword `fn`.
    pub line: usize,
    /// Lines of the body, without blank lines.
    pub body_lines: usize,
    /// The parameters as text, `self` included.
    pub parameters: Vec<String>,
    /// The type of the inherent `impl` block that contains the function.
    pub of_type: Option<String>,
    /// True if a trait dictates the function's signature.
    pub is_trait_impl: bool,
    /// True if the function is `pub` without restriction.
    pub is_public: bool,
}

impl Function {
    /// Returns the number of parameters whose type is a tuple or a reference to a tuple.
    pub fn tuple_parameters(&self) -> usize {
        let types = self.parameters.iter().filter_map(|parameter| parameter.split_once(": "));
        let is_tuple = |kind: &str| {
            let kind = kind.trim_start_matches(['&', ' ']).trim_start_matches("mut ");
            kind.starts_with('(') && !kind.starts_with("()") && kind.contains(',')
        };
        types.filter(|(_, kind)| is_tuple(kind)).count()
    }
}

/// An `impl` block: its span, and its type if the block does not implement a trait.
struct Block {
    start: usize,
    end: usize,
    inherent: Option<String>,
}

/// Lists the functions of a file. In `text`, comments and literals must be blanked out.
pub fn list(text: &str) -> Vec<Function> {
    let blocks = impl_blocks(text);
    let starts = words(text, "fn");
    starts.into_iter().filter_map(|at| function(text, at, &blocks)).collect()
}

/// Returns the positions of a keyword.
pub fn words(text: &str, word: &str) -> Vec<usize> {
    let bytes = text.as_bytes();
    let is_alone = |at: usize| {
        let before = at == 0 || !is_word(bytes[at - 1]);
        before && bytes.get(at + word.len()).is_some_and(|byte| !is_word(*byte))
    };
    text.match_indices(word).map(|(at, _)| at).filter(|at| is_alone(*at)).collect()
}

fn impl_blocks(text: &str) -> Vec<Block> {
    let bytes = text.as_bytes();
    let opens = |at: usize| {
        let line_start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        ["", "unsafe"].contains(&text[line_start..at].trim())
    };
    let block = |at: usize| {
        let open = at + text[at..].find('{')?;
        let header = without_generics(&text[at + "impl".len()..open]);
        let subject = header.split(" where ").next().unwrap_or_default();
        let inherent = (!subject.contains(" for ")).then(|| subject.trim().to_owned());
        Some(Block { start: at, end: closing(bytes, open), inherent })
    };
    words(text, "impl").into_iter().filter(|at| opens(*at)).filter_map(block).collect()
}

fn without_generics(header: &str) -> String {
    let mut depth = 0usize;
    let kept = header.replace("->", "").replace('\n', " ");
    let keep = |c: &char| {
        match c {
            '<' => depth += 1,
            '>' => depth = depth.saturating_sub(1),
            _ => return depth == 0,
        }
        false
    };
    kept.chars().filter(keep).collect()
}

fn function(text: &str, at: usize, blocks: &[Block]) -> Option<Function> {
    let bytes = text.as_bytes();
    let name = at + 3;
    if !bytes.get(name).copied().is_some_and(is_word) {
        return None;
    }
    let open = parameters_start(bytes, name)?;
    let after = closing(bytes, open);
    let block = blocks.iter().rfind(|block| block.start < at && at < block.end);
    let line_start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    Some(Function {
        line: line(text, at),
        body_lines: body_lines(text, after),
        parameters: split(&text[open + 1..after - 1]),
        of_type: block.and_then(|block| block.inherent.clone()),
        is_trait_impl: block.is_some_and(|block| block.inherent.is_none()),
        is_public: text[line_start..at].trim_start().starts_with("pub "),
    })
}

/// Returns the position of the parenthesis after the name and its generics.
fn parameters_start(bytes: &[u8], name: usize) -> Option<usize> {
    let mut depth = 0usize;
    let mut before = b' ';
    for (at, byte) in bytes.iter().enumerate().skip(name) {
        match byte {
            b'<' => depth += 1,
            b'>' if before != b'-' => depth = depth.saturating_sub(1),
            b'(' if depth == 0 => return Some(at),
            b'{' | b';' => return None,
            _ => {}
        }
        before = *byte;
    }
    None
}

fn body_lines(text: &str, after: usize) -> usize {
    let bytes = text.as_bytes();
    let mut at = after;
    while at < bytes.len() {
        match bytes[at] {
            b';' => return 0,
            b'(' | b'[' => at = closing(bytes, at),
            b'{' => {
                let body = &text[at..closing(bytes, at)];
                let lines = body.lines().filter(|line| !line.trim().is_empty()).count();
                return lines.saturating_sub(2);
            }
            _ => at += 1,
        }
    }
    0
}

/// Splits parameters at the commas outside of brackets.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let (mut depth, mut before) = (0usize, ' ');
    for c in text.chars() {
        match c {
            '(' | '[' | '{' | '<' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            '>' if before != '-' => depth = depth.saturating_sub(1),
            _ => {}
        }
        before = c;
        if c == ',' && depth == 0 {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    let parts = parts.into_iter().map(|part| part.trim().to_owned());
    parts.filter(|part| !part.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_measured() {
        let text = "impl<T: Fn() -> u8> Lake<T> {\n    pub async fn a<F>(&self, b: (u8, u8), \
                    c: HashMap<u8, u8>) -> [u8; 2] {\n        1;\n\n        2\n    }\n}\n\
                    impl Drop for Lake {\n    fn drop(&mut self) {}\n}\nfn free() {}\n";
        let functions = list(text);
        assert_eq!(functions.len(), 3);
        let first = &functions[0];
        assert_eq!((first.line, first.body_lines, first.parameters.len()), (2, 2, 3));
        assert_eq!(first.of_type.as_deref(), Some("Lake"));
        assert_eq!((first.tuple_parameters(), first.is_public), (1, true));
        assert!(functions[1].is_trait_impl && functions[1].of_type.is_none());
        assert!(!functions[2].is_trait_impl && !functions[2].is_public);
    }
}
