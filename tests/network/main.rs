//! The network between operator and broker fails, Secrets change, and brokers are hostile: what is
//! promised holds all the same.

mod amqp;
mod credentials;
mod hostile;
mod leaks;
mod ledger;
mod links;
mod process;
#[path = "../real/program.rs"]
mod program;
#[expect(dead_code, reason = "the other tests use the rest of it")]
#[path = "../real/raw.rs"]
mod raw;
mod refusals;
#[expect(dead_code, reason = "the other tests use the rest of it")]
#[path = "../real/world.rs"]
mod world;
