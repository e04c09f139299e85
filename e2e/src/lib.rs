//! What the tests and the benchmarks on real parts share. The parts themselves are in the package
//! `rig`.

pub mod bench;
pub mod fidelity;
pub mod overlay;
pub mod program;
pub mod raw;
pub mod world;
