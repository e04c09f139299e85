//! The flags about schemas of messages.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use fedora_message::schema::check::Unknown;

/// Which schemas are known, and what becomes of messages of others.
#[derive(Args, Clone, Debug)]
pub struct SchemaArgs {
    /// File with the schemas that bodies and headers are checked against, as `just schemas` writes it;
    /// nothing is checked unless given
    #[arg(long, env = "SCHEMA_CATALOG", value_name = "FILE")]
    pub schema_catalog: Option<PathBuf>,
    /// What becomes of messages whose schema is not in that file
    #[arg(long, env = "UNKNOWN_SCHEMAS", value_enum, default_value_t = UnknownSchemas::Allow)]
    pub unknown_schemas: UnknownSchemas,
}

/// What becomes of messages whose schema is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum UnknownSchemas {
    /// They are sent without a check, and their status says so
    Allow,
    /// They are given up as invalid
    Refuse,
}

impl From<UnknownSchemas> for Unknown {
    fn from(unknown: UnknownSchemas) -> Self {
        match unknown {
            UnknownSchemas::Allow => Self::Allow,
            UnknownSchemas::Refuse => Self::Refuse,
        }
    }
}

/// What `check` is asked about schemas, without a broker.
#[derive(Args, Clone, Debug)]
pub struct SchemaCheckArgs {
    /// Which schemas are known.
    #[command(flatten)]
    pub catalog: SchemaArgs,
    /// List the schemas in the catalog, and what is wrong with them
    #[arg(long, requires = "schema_catalog", conflicts_with_all = ["env", "cluster", "schema"])]
    pub schemas: bool,
    /// Check files against this schema of the catalog, by the name of its entry point
    #[arg(long, value_name = "NAME", requires_all = ["schema_catalog", "files"], conflicts_with_all = ["env", "cluster"])]
    pub schema: Option<String>,
    /// With --schema: files with FedoraMessage manifests; - for standard input
    #[arg(short, long = "filename", id = "files", value_name = "FILE", requires = "schema")]
    pub files: Vec<PathBuf>,
}
