//! docker-compose.yml and the Containerfiles on a real Docker engine. Needs Linux and root.

mod compose;
mod containerfiles;
