//! The last word on whether anything may be sent: asked before every write to a broker, so that a
//! process that was paused, and has lost the right to send meanwhile, sends nothing any more
//! (docs/decisions/0012).

use std::fmt;
use std::io;
use std::sync::Arc;

/// Open or closed, at any time.
#[derive(Clone)]
pub struct Fence(Arc<dyn Fn() -> bool + Send + Sync>);

impl Fence {
    /// A gate that is open whenever `is_open` says so. It is asked for each write: be quick.
    pub fn new(is_open: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(is_open))
    }

    /// A gate that is always open.
    #[must_use]
    pub fn always_open() -> Self {
        Self::new(|| true)
    }

    /// An error, if it is closed.
    pub fn pass(&self) -> io::Result<()> {
        if (self.0)() {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "this operator does not lead any more"))
    }
}

impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Gate").field(&self.pass().is_ok()).finish()
    }
}
