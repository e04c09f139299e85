//! The catalog of schemas as it lies in a file, read again when the file changes.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::interval;
use tracing::{info, warn};

use crate::cli::SchemaArgs;
use fedora_message::schema::catalog::Catalog;
use fedora_message::schema::check::Schemas;

/// How often the file is looked at. A mounted `ConfigMap` takes a minute to change anyway.
const LOOK: Duration = Duration::from_secs(10);

/// The schemas in use, and the file that they are from.
#[derive(Default)]
pub struct SchemaFile {
    path: Option<PathBuf>,
    state: Mutex<Loaded>,
}

#[derive(Default)]
struct Loaded {
    schemas: Arc<Schemas>,
    /// What was last seen in the file.
    version: Option<FileVersion>,
    /// Whether the schemas in use are those in the file.
    in_step: bool,
}

/// A fingerprint of the file, or why it could not be read.
type FileVersion = Result<u64, String>;

impl SchemaFile {
    /// Reads the file that the command line names, if it names one.
    pub fn open(arguments: &SchemaArgs) -> Result<Self, String> {
        let unknown = arguments.unknown_schemas.into();
        let Some(path) = arguments.schema_catalog.clone() else {
            let schemas = Arc::new(Schemas { catalog: None, unknown });
            return Ok(Self { path: None, state: Mutex::new(Loaded { schemas, version: None, in_step: true }) });
        };
        let bytes = read(&path)?;
        let catalog = Some(Arc::new(catalog(&path, &bytes)?));
        let schemas = Arc::new(Schemas { catalog, unknown });
        let state = Loaded { schemas, version: Some(Ok(fingerprint(&bytes))), in_step: true };
        Ok(Self { path: Some(path), state: Mutex::new(state) })
    }

    /// What is known of schemas now.
    #[must_use]
    pub fn current(&self) -> Arc<Schemas> {
        self.state.lock().schemas.clone()
    }

    /// How many schemas are known, and whether that is what the file says; nothing without a file.
    #[must_use]
    pub fn report(&self) -> Option<(usize, bool)> {
        self.path.as_ref()?;
        let state = self.state.lock();
        let known = state.schemas.catalog.as_ref().map_or(0, |catalog| catalog.schemas.len());
        Some((known, state.in_step))
    }

    /// Looks at the file now and then, for as long as the program runs.
    pub async fn watch(self: Arc<Self>) {
        if self.path.is_none() {
            return;
        }
        let mut look = interval(LOOK);
        loop {
            look.tick().await;
            let file = self.clone();
            // It fails only while the program ends.
            let _ = tokio::task::spawn_blocking(move || file.refresh()).await;
        }
    }

    /// Takes what is new in the file; if that is no catalog, keeps the one before and says so, once.
    fn refresh(&self) {
        let Some(path) = &self.path else { return };
        let read = read(path);
        let version = read.as_ref().map(|bytes| fingerprint(bytes)).map_err(Clone::clone);
        if self.state.lock().version.as_ref() == Some(&version) {
            return;
        }
        let catalog = read.and_then(|bytes| catalog(path, &bytes));
        let mut state = self.state.lock();
        state.version = Some(version);
        state.in_step = catalog.is_ok();
        match catalog {
            Ok(catalog) => {
                info!(schemas = catalog.schemas.len(), "read the catalog of schemas again");
                let unknown = state.schemas.unknown;
                state.schemas = Arc::new(Schemas { catalog: Some(Arc::new(catalog)), unknown });
            }
            Err(detail) => warn!("{detail}; messages are checked by the catalog that was there before"),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("can't read {}: {error}: check the file's name", path.display()))
}

fn catalog(path: &Path, bytes: &[u8]) -> Result<Catalog, String> {
    Catalog::read(bytes).map_err(|error| format!("can't use {}: {error}", path.display()))
}

fn fingerprint(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
