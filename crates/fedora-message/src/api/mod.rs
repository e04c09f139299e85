//! The custom resources: their types, their CRDs and their decoders.

pub mod compare;
mod crd;
pub mod manager;
pub mod names;
pub mod object;
pub mod sender;
mod serde;
pub mod v1alpha1;
