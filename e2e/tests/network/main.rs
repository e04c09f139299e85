//! The network between operator and broker fails, Secrets change, and brokers are hostile. The
//! operator keeps its promises.

mod addresses;
mod amqp;
mod api_connection;
mod connections;
mod credentials;
mod hostile;
mod leaks;
mod ledger;
mod limits;
mod process;
mod refusals;
