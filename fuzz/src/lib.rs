//! What the fuzz targets share: how much memory they allow, the inputs they make, and what must
//! be true of everything that comes out.

pub mod input;
pub mod memory;
pub mod rules;
