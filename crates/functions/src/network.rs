//! What a function may reach over the network.
//!
//! A sandbox has a network of its own in which everything it connects to by TCP leads to one
//! listener, the server's. The server looks at where the connection was meant to go, and where that is
//! allowed connects there itself and passes bytes on; names are resolved the same way. So a function
//! never holds a socket of the host's, and reaches neither the host, at whichever of its addresses, nor
//! another function.

mod allowed;
mod gate;
mod names;
mod own;
mod refused;
mod relay;

pub use allowed::{Host, Network};
pub(crate) use allowed::{NAMESERVER, Reach};
pub(crate) use gate::{Gate, raise_limit};
pub(crate) use names::nameservers;
pub(crate) use relay::{Doors, relay};
