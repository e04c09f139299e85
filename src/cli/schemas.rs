//! The flags about schemas of messages.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::schema_file::SchemaSettings;
use fedora_message::schema::check::UnknownSchemaPolicy;

/// The known schemas, and how messages of other schemas are treated.
#[derive(Args, Clone, Debug)]
pub struct SchemaArgs {
    /// File with the schemas that bodies and headers are checked against, as `just schemas` writes it. Without it
    /// nothing is checked
    #[arg(long, env = "SCHEMA_CATALOG", value_name = "FILE")]
    pub schema_catalog: Option<PathBuf>,
    /// How to treat messages whose schema is not in that file
    #[arg(long, env = "UNKNOWN_SCHEMAS", value_enum, default_value_t = UnknownSchemas::Allow)]
    pub unknown_schemas: UnknownSchemas,
}

impl SchemaArgs {
    /// Returns the settings that these flags make.
    #[must_use]
    pub fn settings(&self) -> SchemaSettings {
        let unknown = match self.unknown_schemas {
            UnknownSchemas::Allow => UnknownSchemaPolicy::Allow,
            UnknownSchemas::Refuse => UnknownSchemaPolicy::Refuse,
        };
        SchemaSettings { catalog: self.schema_catalog.clone(), unknown }
    }
}

/// How messages are treated whose schema is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum UnknownSchemas {
    /// Send them without a check, and say so in their status
    Allow,
    /// Hold them back until the catalog has their schema
    Refuse,
}

/// The flags of `check` about schemas, for which no broker is needed.
#[derive(Args, Clone, Debug)]
pub struct SchemaCheckArgs {
    /// The known schemas.
    #[command(flatten)]
    pub catalog: SchemaArgs,
    /// List the schemas in the catalog, and what is wrong with them
    #[arg(long, requires = "schema_catalog", conflicts_with_all = ["env", "cluster", "schema"])]
    pub schemas: bool,
    /// With -f: check against this schema of the catalog, by the name of its entry point, instead of the messages' own
    #[arg(long, value_name = "NAME", requires_all = ["schema_catalog", "files"])]
    pub schema: Option<String>,
    /// Check the messages in these files: manifests, or recorded messages; - for standard input. With a catalog,
    /// also against their schemas
    #[arg(short, long = "filename", id = "files", value_name = "FILE", conflicts_with_all = ["env", "cluster", "sender"])]
    pub files: Vec<PathBuf>,
}
