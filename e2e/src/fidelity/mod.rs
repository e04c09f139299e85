//! Compares messages with those of the Python library.

pub mod cases;
pub mod stage;
