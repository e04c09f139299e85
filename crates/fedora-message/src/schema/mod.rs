//! Message schemas: the catalog, the validator, and the check of a message.

pub mod catalog;
pub mod check;
mod numbers;
#[cfg(test)]
mod tests;
pub mod validator;
