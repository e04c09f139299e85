//! What the tests and the benchmarks on real parts share. The parts themselves are in the package
//! `rig`.

#![expect(
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    clippy::new_without_default,
    reason = "only tests and benchmarks call these functions"
)]

pub mod bench;
pub mod fidelity;
pub mod overlay;
pub mod program;
pub mod raw;
pub mod world;
