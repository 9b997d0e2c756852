//! The messages that the server sends.

use bytes::{BufMut, BytesMut};
use headwater_model::{ErrorCode, Problem};
use headwater_postgres_catalog::PgType;

use crate::error_position::position;
use crate::sqlstate;

/// The SQLSTATE of a rejected password.
const INVALID_PASSWORD: &str = "28P01";

/// The state of the session's transaction, which clients receive after each statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TransactionStatus {
    /// Outside of a transaction.
    #[default]
    Idle,
    /// In a transaction.
    Transaction,
    /// In a transaction that failed.
    Failed,
}

/// The severity of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The statement failed.
    Error,
    /// The connection is closed.
    Fatal,
}

/// A column of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultColumn {
    /// The name.
    pub name: String,
    /// The type.
    pub pg_type: PgType,
    /// True if the format is binary.
    pub is_binary: bool,
}

/// Writes messages of the server into a buffer.
pub trait ReplyWriter {
    /// Writes a message of this type; `content` writes what follows the length.
    fn message(&mut self, kind: u8, content: impl FnOnce(&mut BytesMut));

    /// Writes a message without content.
    fn simple(&mut self, kind: u8) {
        self.message(kind, |_| {});
    }

    /// Requests a password in clear text.
    fn password_request(&mut self) {
        self.message(b'R', |out| out.put_i32(3));
    }

    /// Reports that the client is authenticated.
    fn authenticated(&mut self) {
        self.message(b'R', |out| out.put_i32(0));
    }

    /// Reports that a newer minor version of the protocol, or options of the client, are not
    /// supported.
    fn negotiate(&mut self, options: &[&str]) {
        self.message(b'v', |out| {
            out.put_i32(3 << 16);
            out.put_i32(options.len() as i32);
            for option in options {
                put_text(out, option);
            }
        });
    }

    /// Reports the value of a setting.
    fn setting(&mut self, name: &str, value: &str) {
        self.message(b'S', |out| {
            put_text(out, name);
            put_text(out, value);
        });
    }

    /// Sends the process id and the secret with which another connection can cancel statements of
    /// this connection.
    fn cancel_key(&mut self, process: i32, secret: i32) {
        self.message(b'K', |out| {
            out.put_i32(process);
            out.put_i32(secret);
        });
    }

    /// Reports that the server is ready for the next message.
    fn ready(&mut self, status: TransactionStatus) {
        let letter = match status {
            TransactionStatus::Idle => b'I',
            TransactionStatus::Transaction => b'T',
            TransactionStatus::Failed => b'E',
        };
        self.message(b'Z', |out| out.put_u8(letter));
    }

    /// Reports the end of a statement with its command tag, for example `SELECT 3`.
    fn complete(&mut self, tag: &str) {
        self.message(b'C', |out| put_text(out, tag));
    }

    /// Describes the columns of the rows that follow.
    fn row_description(&mut self, columns: &[ResultColumn]) {
        self.message(b'T', |out| {
            out.put_u16(columns.len() as u16);
            for column in columns {
                put_text(out, &column.name);
                // The table's OID and the column's number are omitted, because a column can be an
                // expression.
                out.put_u32(0);
                out.put_u16(0);
                out.put_u32(column.pg_type.oid());
                out.put_i16(column.pg_type.size());
                out.put_i32(-1);
                out.put_u16(u16::from(column.is_binary));
            }
        });
    }

    /// Reports the start of a COPY and its format. `kind` is the type of the message.
    fn copy_response(&mut self, kind: u8, columns: usize, is_binary: bool) {
        self.message(kind, |out| {
            out.put_u8(is_binary.into());
            out.put_u16(columns as u16);
            (0..columns).for_each(|_| out.put_u16(is_binary.into()));
        });
    }

    /// Describes the parameters of a statement.
    fn parameter_description(&mut self, types: &[PgType]) {
        self.message(b't', |out| {
            out.put_u16(types.len() as u16);
            for one in types {
                out.put_u32(one.oid());
            }
        });
    }

    /// Reports an error.
    fn error(&mut self, severity: Severity, problem: &Problem) {
        let name = match severity {
            Severity::Error => "ERROR",
            Severity::Fatal => "FATAL",
        };
        self.message(b'E', |out| put_report(out, name, sqlstate::of(problem), problem));
    }

    /// Reports an error of a login, after which the connection is closed. The SQLSTATE of a
    /// rejected password makes clients ask for another password.
    fn login_error(&mut self, problem: &Problem) {
        let sqlstate = match problem.code {
            ErrorCode::Unauthenticated => INVALID_PASSWORD,
            code => code.sqlstate(),
        };
        self.message(b'E', |out| put_report(out, "FATAL", sqlstate, problem));
    }

    /// Reports a notice.
    fn notice(&mut self, problem: &Problem) {
        self.message(b'N', |out| put_report(out, "NOTICE", "00000", problem));
    }
}

impl ReplyWriter for BytesMut {
    fn message(&mut self, kind: u8, content: impl FnOnce(&mut BytesMut)) {
        self.put_u8(kind);
        let start = self.len();
        self.put_u32(0);
        content(self);
        let length = (self.len() - start) as u32;
        self[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }
}

fn put_report(out: &mut BytesMut, severity: &str, sqlstate: &str, problem: &Problem) {
    let causes = problem.causes.join("; ");
    let hint = problem.hint.as_deref().unwrap_or_default();
    let position = position(problem).map_or_else(String::new, |at| at.to_string());
    let fields = [
        (b'S', severity),
        (b'V', severity),
        (b'C', sqlstate),
        (b'M', &problem.message),
        (b'D', &causes),
        (b'H', hint),
        (b'P', &position),
    ];
    for (kind, text) in fields.into_iter().filter(|(_, text)| !text.is_empty()) {
        out.put_u8(kind);
        put_text(out, text);
    }
    out.put_u8(0);
}

/// Writes a text and the zero byte that ends it. Omits zero bytes in the text.
fn put_text(out: &mut BytesMut, text: &str) {
    out.extend(text.bytes().filter(|byte| *byte != 0));
    out.put_u8(0);
}
