//! The operator on real parts: an API server, a RabbitMQ that is set up like Fedora's, and the
//! Python fedora-messaging library.
//!
//! All tests share one API server and one broker, each in a namespace and with topics of its own.
//! Who breaks a part starts one for itself.

mod admission;
mod check;
mod docs;
mod end_to_end;
mod fidelity;
mod program;
mod raw;
mod reasons;
mod tls;
mod world;
