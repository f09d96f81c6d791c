//! The `lastgood` program.
fn main() {}
