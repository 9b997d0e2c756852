//! Secrets of functions: encrypted values in the store, and their removal from output.
//!
//! [`SecretStore`] sets, lists and deletes secrets, and decrypts them for a call. A value is
//! encrypted by AES-256-GCM. The key is outside the lake ([`KeySource`]), so that a copy of the
//! lake's folder or database does not contain it. [`Redactor`] removes known values from the output
//! of a function. No operation returns a value to a client, and no error contains a value.

mod cipher;
mod encryption_key;
mod error;
mod redactor;
mod secret_name;
mod secret_store;

pub use encryption_key::KeySource;
pub use error::{Error, Result};
pub use redactor::Redactor;
pub use secret_name::{NAME_BYTES_MAX, check_name};
pub use secret_store::{SecretStore, VALUE_BYTES_MAX};
