//! The last check before every write to a broker, and before every request to create a Pod. A process
//! that lost its leadership during a pause writes nothing (docs/decisions/0012).

use std::fmt;
use std::io;
use std::sync::Arc;

/// Allows writes while it is open.
#[derive(Clone)]
pub struct Fence(Arc<dyn Fn() -> bool + Send + Sync>);

impl Fence {
    /// Creates a fence that is open while `is_open` returns true. Each write calls it, so it must
    /// be fast.
    pub fn new(is_open: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(is_open))
    }

    /// Creates a fence that is always open.
    #[must_use]
    pub fn always_open() -> Self {
        Self::new(|| true)
    }

    /// Returns an error if the fence is closed.
    pub fn pass(&self) -> io::Result<()> {
        if (self.0)() {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "this operator is no longer the leader"))
    }
}

impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Fence").field(&self.pass().is_ok()).finish()
    }
}
