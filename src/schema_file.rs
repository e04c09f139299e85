//! The catalog of schemas in a file, which is read again when the file changes.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use anyhow::anyhow;
use parking_lot::Mutex;
use tokio::time::interval;
use tracing::{info, warn};

use fedora_message::schema::catalog::Catalog;
use fedora_message::schema::check::{Schemas, UnknownSchemaPolicy};

/// The time between two looks at the file. A mounted `ConfigMap` takes a minute to change anyway.
const INTERVAL: Duration = Duration::from_secs(10);

/// The known schemas, and how messages of other schemas are treated.
#[derive(Clone, Debug)]
pub struct SchemaSettings {
    /// The file with the catalog. Without one no message is checked.
    pub catalog: Option<PathBuf>,
    /// How messages are treated whose schema is not in the catalog.
    pub unknown: UnknownSchemaPolicy,
}

/// The schemas in use, and the file that they are from.
#[derive(Default)]
pub struct SchemaFile {
    path: Option<PathBuf>,
    state: Mutex<Loaded>,
}

#[derive(Default)]
struct Loaded {
    schemas: Arc<Schemas>,
    /// The file's content when it was last read.
    version: Option<FileVersion>,
    /// True if the schemas in use are those in the file.
    in_step: bool,
}

/// A fingerprint of the file's content, or the kind of error that reading it caused.
type FileVersion = Result<u64, io::ErrorKind>;

impl SchemaFile {
    /// Reads the file that the settings name, if they name one.
    pub fn open(settings: SchemaSettings) -> anyhow::Result<Self> {
        let SchemaSettings { catalog: path, unknown } = settings;
        let (catalog, version) = match &path {
            None => (None, None),
            Some(path) => {
                let bytes = fs::read(path).map_err(|error| unreadable(path, &error))?;
                (Some(Arc::new(catalog(path, &bytes)?)), Some(Ok(fingerprint(&bytes))))
            }
        };
        let state = Loaded { schemas: Arc::new(Schemas { catalog, unknown }), version, in_step: true };
        Ok(Self { path, state: Mutex::new(state) })
    }

    /// Returns the schemas in use.
    #[must_use]
    pub fn current(&self) -> Arc<Schemas> {
        self.state.lock().schemas.clone()
    }

    /// Returns the number of schemas, and true if they are those in the file. Without a file, returns `None`.
    #[must_use]
    pub fn report(&self) -> Option<(usize, bool)> {
        self.path.as_ref()?;
        let state = self.state.lock();
        let known = state.schemas.catalog.as_ref().map_or(0, |catalog| catalog.schemas.len());
        Some((known, state.in_step))
    }

    /// Looks at the file at every interval, while the program runs. Calls `on_change` whenever it has
    /// read another catalog.
    pub async fn watch(self: Arc<Self>, on_change: impl Fn()) {
        if self.path.is_none() {
            return;
        }
        let mut interval = interval(INTERVAL);
        loop {
            interval.tick().await;
            let file = self.clone();
            // It fails only while the program ends.
            if tokio::task::spawn_blocking(move || file.refresh()).await.unwrap_or_default() {
                on_change();
            }
        }
    }

    /// Reads the file if it has changed. If it holds no catalog, keeps the previous one and logs that once. Returns
    /// true if another catalog is in use.
    fn refresh(&self) -> bool {
        let Some(path) = &self.path else { return false };
        let bytes = fs::read(path);
        let version = bytes.as_deref().map(fingerprint).map_err(io::Error::kind);
        if self.state.lock().version.as_ref() == Some(&version) {
            return false;
        }
        let catalog = bytes.map_err(|error| unreadable(path, &error)).and_then(|bytes| catalog(path, &bytes));
        let mut state = self.state.lock();
        state.version = Some(version);
        state.in_step = catalog.is_ok();
        match catalog {
            Ok(catalog) => {
                info!(schemas = catalog.schemas.len(), "read the catalog of schemas again");
                let unknown = state.schemas.unknown;
                state.schemas = Arc::new(Schemas { catalog: Some(Arc::new(catalog)), unknown });
            }
            Err(error) => warn!("{error}; the previous catalog stays in use"),
        }
        state.in_step
    }
}

fn unreadable(path: &Path, error: &io::Error) -> anyhow::Error {
    anyhow!("can't read {}: {error}: check the file's name", path.display())
}

fn catalog(path: &Path, bytes: &[u8]) -> anyhow::Result<Catalog> {
    Catalog::read(bytes).map_err(|error| anyhow!("can't use {}: {error}", path.display()))
}

fn fingerprint(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
