//! Netlink messages, for configuring and querying the kernel's network settings.

/// Flag that marks a message as a request.
pub(crate) const REQUEST: u16 = 1;

/// Message type of an error or an acknowledgement.
pub(crate) const ERROR: u16 = 2;

/// Returns an encoded attribute, padded to a multiple of four bytes.
pub(crate) fn attribute(kind: u16, content: &[u8]) -> Vec<u8> {
    let mut bytes = (content.len() as u16 + 4).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Returns an encoded message of type `kind`, padded to a multiple of four bytes.
pub(crate) fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = (body.len() as u32 + 16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend(0_u32.to_ne_bytes());
    bytes.extend(body);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
