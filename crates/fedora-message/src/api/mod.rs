//! The custom resource: its types, its CRD and its decoder.

pub mod compare;
mod crd;
pub mod names;
pub mod object;
mod serde;
pub mod v1alpha1;
