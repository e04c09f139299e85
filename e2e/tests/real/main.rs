//! The operator on real parts: an API server, a RabbitMQ that is set up like Fedora's, and the
//! Python fedora-messaging library.
//!
//! All tests share one API server and one broker, each in a namespace and with topics of its own.
//! Who breaks a part starts one for itself.

mod admission;
mod bodies;
mod catalog;
mod check;
mod cluster;
mod consent;
mod docs;
mod election;
mod end_to_end;
mod events;
mod fidelity;
mod from_python;
mod lifetime;
mod manifests;
mod metrics;
mod monitoring;
mod reasons;
mod rights;
mod schemas;
mod secrecy;
mod statuses;
mod tls;
mod traces;
