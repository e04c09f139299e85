//! The pure parts, as tables.
