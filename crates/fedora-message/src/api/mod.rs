//! The custom resource: types, CRD, and how it is decoded.

pub mod compare;
mod crd;
pub mod names;
pub mod object;
mod serde;
pub mod v1alpha1;
