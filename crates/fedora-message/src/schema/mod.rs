//! Schemas of messages: the catalog, the validator, and the check.

pub mod catalog;
pub mod check;
mod numbers;
#[cfg(test)]
mod tests;
pub mod validator;
