//! Ranges of IP addresses.

use std::net::IpAddr;

/// A range of addresses, which have the same leading bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cidr {
    address: IpAddr,
    /// Number of leading bits.
    bits: u32,
}

impl Cidr {
    /// Parses `10.0.0.0/8` or `2001:db8::/32`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let is_number = !bits.is_empty() && bits.chars().all(|c| c.is_ascii_digit());
        let bits: u32 = bits.parse().ok().filter(|_| is_number)?;
        (bits <= width(address)).then_some(Cidr { address, bits })
    }

    pub(crate) fn contains(&self, text: &str) -> bool {
        let Ok(address) = text.parse::<IpAddr>() else { return false };
        let is_same_kind = address.is_ipv4() == self.address.is_ipv4();
        let shift = width(address) - self.bits.min(width(address));
        // The shift is too large for the range of all addresses (`/0`), which compares no bits.
        let leading = |address: IpAddr| number(address).checked_shr(shift).unwrap_or(0);
        is_same_kind && leading(address) == leading(self.address)
    }
}

fn width(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}
