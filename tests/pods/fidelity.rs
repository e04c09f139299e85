//! The messages of the other fidelity tests, and how they are compared.

#[expect(dead_code, reason = "the other tests use the rest of it")]
#[path = "../real/fidelity/cases.rs"]
pub mod cases;
#[path = "../real/fidelity/stage.rs"]
pub mod stage;
