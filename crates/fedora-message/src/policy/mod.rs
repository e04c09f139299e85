//! How attempts end, and what follows.

pub mod backoff;
pub mod outcome;
pub mod retry;
pub mod ttl;
