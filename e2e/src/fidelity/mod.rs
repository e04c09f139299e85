//! Messages beside those that the Python library itself publishes.

pub mod cases;
pub mod stage;
