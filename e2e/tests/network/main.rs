//! The network between operator and broker fails, Secrets change, and brokers are hostile: what is
//! promised holds all the same.

mod amqp;
mod credentials;
mod hostile;
mod leaks;
mod ledger;
mod links;
mod process;
mod refusals;
