//! The operator on real parts: an API server, a RabbitMQ that is set up like Fedora's, and the
//! Python fedora-messaging library.
//!
//! All tests share one API server and one broker. Each test has its own namespace and topics. A
//! test that breaks a part starts its own.

mod admission;
mod ansible;
mod bodies;
mod catalog;
mod certificates;
mod check;
mod cluster;
mod consent;
mod docs;
mod election;
mod end_to_end;
mod events;
mod fidelity;
mod files;
mod from_python;
mod gitops;
mod helm;
mod kube_state_metrics;
mod large;
mod late;
mod manifests;
mod metrics;
mod monitoring;
mod permissions;
mod pipelines;
mod pod_policy;
mod publish;
mod reasons;
mod recorded;
mod release;
mod schemas;
mod secrecy;
mod senders;
mod statuses;
mod tls;
mod traces;
mod ttl;
