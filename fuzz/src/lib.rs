//! Code that the fuzz targets share: the memory limit, the inputs, and the rules for every output.

pub mod input;
pub mod memory;
pub mod rules;
