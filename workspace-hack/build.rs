//! Nothing: with a build script, the build dependencies count.

fn main() {}
