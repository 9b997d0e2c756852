//! Messages of a client.

use bytes::{Buf, Bytes};
use headwater_model::{ErrorCode, Problem};

/// A message after the startup.
#[derive(Debug, PartialEq, Eq)]
pub enum FrontendMessage {
    /// SQL in the simple protocol.
    Query(String),
    /// Prepares a statement.
    Parse(Parse),
    /// Binds values to a statement.
    Bind(Bind),
    /// Requests the types of a statement or portal.
    Describe(StatementOrPortal),
    /// Executes a portal. Returns at most this number of rows; 0 returns all.
    Execute(String, u32),
    /// Removes a statement or portal.
    Close(StatementOrPortal),
    /// Ends a group of messages. After an error, messages up to the next Sync are skipped.
    Sync,
    /// Requests all pending replies.
    Flush,
    /// Ends the connection.
    Terminate,
    /// COPY data, which is ignored because no COPY is in progress.
    Copy,
    /// The response to a password request.
    Password(Bytes),
}

/// A request to prepare a statement.
#[derive(Debug, PartialEq, Eq)]
pub struct Parse {
    /// Name of the statement; empty for the unnamed statement.
    pub name: String,
    /// The SQL.
    pub sql: String,
    /// Types of the first parameters, as OIDs; 0 for a type that the server infers.
    pub types: Vec<u32>,
}

/// A request to bind values to a prepared statement.
#[derive(Debug, PartialEq, Eq)]
pub struct Bind {
    /// Name of the portal; empty for the unnamed portal.
    pub portal: String,
    /// Name of the statement.
    pub statement: String,
    /// Formats of the values: an empty list (all text), one format for all values, or one for each
    /// value.
    pub formats: Vec<ValueFormat>,
    /// The values; `None` for null.
    pub values: Vec<Option<Bytes>>,
    /// Formats of the result's columns: an empty list (all text), one format for all columns, or
    /// one for each column.
    pub results: Vec<ValueFormat>,
}

/// The format of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ValueFormat {
    /// Text.
    #[default]
    Text,
    /// The binary form of the type.
    Binary,
}

impl ValueFormat {
    /// Returns the format of the value at an index: text if `formats` is empty. A single format
    /// applies to all values.
    pub fn at(formats: &[ValueFormat], index: usize) -> ValueFormat {
        match formats {
            [] => ValueFormat::Text,
            [one] => *one,
            all => all.get(index).copied().unwrap_or_default(),
        }
    }
}

/// The name of a prepared statement or of a portal.
#[derive(Debug, PartialEq, Eq)]
pub enum StatementOrPortal {
    /// A statement, by its name.
    Statement(String),
    /// A portal, by its name.
    Portal(String),
}

impl FrontendMessage {
    /// Decodes a message.
    ///
    /// Errors: `invalid_argument` for an unknown message type, and for missing or excess bytes.
    pub fn decode(kind: u8, content: Bytes) -> Result<Self, Problem> {
        let mut fields = FieldReader(content);
        let message = fields.message(kind).ok_or_else(|| malformed(kind))?;
        if fields.0.has_remaining() && message != FrontendMessage::Copy {
            return Err(malformed(kind));
        }
        Ok(message)
    }
}

fn malformed(kind: u8) -> Problem {
    let message = format!("the message `{}` is malformed", kind.escape_ascii());
    Problem::new(ErrorCode::InvalidArgument, message)
        .with_hint("Use a client for version 3 of the PostgreSQL protocol.")
}

/// Reader of the fields of a message. Reads past the end return `None`.
pub struct FieldReader(pub Bytes);

impl FieldReader {
    fn message(&mut self, kind: u8) -> Option<FrontendMessage> {
        Some(match kind {
            b'Q' => FrontendMessage::Query(self.text()?),
            b'P' => FrontendMessage::Parse(Parse {
                name: self.text()?,
                sql: self.text()?,
                types: self.list(|fields| fields.0.try_get_u32().ok())?,
            }),
            b'B' => FrontendMessage::Bind(Bind {
                portal: self.text()?,
                statement: self.text()?,
                formats: self.list(Self::format)?,
                values: self.list(Self::value)?,
                results: self.list(Self::format)?,
            }),
            b'D' => FrontendMessage::Describe(self.target()?),
            b'C' => FrontendMessage::Close(self.target()?),
            b'E' => {
                let portal = self.text()?;
                FrontendMessage::Execute(
                    portal,
                    u32::try_from(self.0.try_get_i32().ok()?).unwrap_or(0),
                )
            }
            b'S' => FrontendMessage::Sync,
            b'H' => FrontendMessage::Flush,
            b'X' => FrontendMessage::Terminate,
            b'd' | b'c' | b'f' => FrontendMessage::Copy,
            b'p' => FrontendMessage::Password(std::mem::take(&mut self.0)),
            _ => return None,
        })
    }

    /// Reads a text that ends with a zero byte.
    pub fn text(&mut self) -> Option<String> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let text = self.0.split_to(end);
        self.0.advance(1);
        String::from_utf8(text.to_vec()).ok()
    }

    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.0.try_get_u16().ok()?;
        // Do not reserve capacity for the number of items that the client declares, because it
        // cannot be trusted.
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(item(self)?);
        }
        Some(items)
    }

    fn format(&mut self) -> Option<ValueFormat> {
        match self.0.try_get_u16().ok()? {
            0 => Some(ValueFormat::Text),
            1 => Some(ValueFormat::Binary),
            _ => None,
        }
    }

    /// Reads a value; the length of null is -1.
    #[expect(clippy::option_option, reason = "the end of the message, null, or a value")]
    fn value(&mut self) -> Option<Option<Bytes>> {
        match self.0.try_get_i32().ok()? {
            -1 => Some(None),
            length => {
                let length = usize::try_from(length).ok()?;
                (length <= self.0.len()).then(|| Some(self.0.split_to(length)))
            }
        }
    }

    fn target(&mut self) -> Option<StatementOrPortal> {
        match self.0.try_get_u8().ok()? {
            b'S' => Some(StatementOrPortal::Statement(self.text()?)),
            b'P' => Some(StatementOrPortal::Portal(self.text()?)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: u8, content: &'static [u8], expected: Option<FrontendMessage>) {
        assert_eq!(FrontendMessage::decode(kind, Bytes::from_static(content)).ok(), expected);
    }

    #[test]
    fn messages_are_decoded() {
        check(b'Q', b"SELECT 1\0", Some(FrontendMessage::Query("SELECT 1".into())));
        let parse = Parse { name: "a".into(), sql: "b".into(), types: vec![23] };
        check(b'P', b"a\0b\0\0\x01\0\0\0\x17", Some(FrontendMessage::Parse(parse)));
        let bind = Bind {
            portal: String::new(),
            statement: "s".into(),
            formats: vec![ValueFormat::Binary],
            values: vec![None, Some(Bytes::from_static(b"ab"))],
            results: Vec::new(),
        };
        let bytes = b"\0s\0\0\x01\0\x01\0\x02\xff\xff\xff\xff\0\0\0\x02ab\0\0";
        check(b'B', bytes, Some(FrontendMessage::Bind(bind)));
        check(b'E', b"\0\0\0\0\x05", Some(FrontendMessage::Execute(String::new(), 5)));
        check(
            b'C',
            b"Sx\0",
            Some(FrontendMessage::Close(StatementOrPortal::Statement("x".into()))),
        );
        check(b'S', b"", Some(FrontendMessage::Sync));
    }

    #[test]
    fn a_message_with_wrong_lengths_is_an_error() {
        check(b'Q', b"SELECT 1", None);
        check(b'Q', b"a\0b\0", None);
        check(b'Q', b"\xff\0", None);
        check(b'P', b"a\0b\0\xff\xff\0\0\0\x17", None);
        check(b'B', b"\0\0\0\0\0\x01\x7f\xff\xff\xff", None);
        check(b'B', b"\0\0\0\0\0\x01\x80\0\0\0\0\0", None);
        check(b'B', b"\0\0\0\x01\0\x07\0\0\0\0", None);
        check(b'D', b"Zx\0", None);
        check(b'E', b"", None);
        check(b'S', b"x", None);
        check(0xff, b"", None);
    }
}
