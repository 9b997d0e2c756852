//! Events and calls through the protocols of AWS, compared with `MiniStack` in the same run: calls
//! through Lambda's API, objects that call a function, accepted events, and delays.

mod accepted;
mod calls;
mod delays;
mod lake;
mod ministack;
mod objects;
mod signing;

pub use lake::measure;
