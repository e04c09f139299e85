//! A real RabbitMQ with Fedora's setup: TLS with client certificates only, the certificate's common
//! name as the user, and permissions on topics for each user.
//!
//! Users, virtual host and permissions are in `testdata/broker/definitions.json`:
//!
//! | user | permissions |
//! |---|---|
//! | `nice-app`, `nice-app.stg` | publish to `amq.topic`, topics `nice.*` (with or without Fedora's prefix) |
//! | `publisher` | publish to `amq.topic`, any topic |
//! | `consumer` | declare queues, bind them to `amq.topic` and consume |
//! | `admin` | everything on `/pubsub` |
//! | `reader` | read, but publish nowhere |
//! | `no-vhost` | log in, but not to `/pubsub` |

use std::{fs, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, Result};

use crate::{
    command::output,
    guard::{Guard, Signal},
    pki::{ClientCert, Pki, Request},
    port::Port,
    rabbitmq::RabbitMq,
    testdata,
};

const NODE: &str = "rabbitmq";
const EPMD: &str = "epmd";
const START_WITHIN: Duration = Duration::from_secs(90);
const STOP_WITHIN: Duration = Duration::from_secs(30);
/// In bytes. It is small, so that a test can exceed it. Fedora has the default of 128 MiB.
const MAX_MESSAGE_SIZE: usize = 1024 * 1024;

/// The configuration, below `testdata`. docker-compose.yml mounts the same file.
pub const CONFIG: &str = "broker/rabbitmq.conf";
/// Virtual host, users and permissions, below `testdata`. docker-compose.yml mounts the same file.
pub const DEFINITIONS: &str = "broker/definitions.json";
/// The plugins, below `testdata`. docker-compose.yml has these and the management page.
pub const PLUGINS: &str = "broker/enabled_plugins";

/// A running RabbitMQ.
#[derive(Debug)]
pub struct Broker {
    // The first field is dropped first, so the processes end before the ports are released.
    guard: Guard,
    rabbitmq: RabbitMq,
    pki: Pki,
    name: String,
    port: Port,
    dist_port: Port,
    epmd_port: Port,
}

/// Options of a broker.
#[derive(Debug, Clone)]
pub struct Options {
    /// The names in the server's certificate. Clients use the first.
    pub server_names: Vec<String>,
    /// The address on which it listens.
    pub address: String,
    /// The port, or `None` for a free one.
    pub port: Option<u16>,
    /// Additional lines for its `rabbitmq.conf`. They override the shared file.
    pub config: String,
    /// Additional plugins.
    pub plugins: Vec<&'static str>,
}

/// The broker's users, as in `testdata/broker/definitions.json`. The broker refuses any other.
pub const USERS: [&str; 7] = ["nice-app", "nice-app.stg", "publisher", "consumer", "admin", "reader", "no-vhost"];

impl Default for Options {
    fn default() -> Self {
        Self {
            server_names: vec!["localhost".into(), "127.0.0.1".into()],
            address: "127.0.0.1".into(),
            port: None,
            config: String::new(),
            plugins: Vec::new(),
        }
    }
}

impl Broker {
    /// Starts a broker with its own CA, and waits until it accepts connections.
    pub fn start() -> Result<Self> {
        Self::start_with(&Options::default())
    }

    /// Starts a broker with options.
    pub fn start_with(options: &Options) -> Result<Self> {
        Self::start_from(RabbitMq::find()?, options)
    }

    /// Starts this RabbitMQ with options.
    pub fn start_from(rabbitmq: RabbitMq, options: &Options) -> Result<Self> {
        let broker = Self {
            rabbitmq,
            pki: Pki::new("broker-ca")?,
            name: options.server_names.first().cloned().unwrap_or_default(),
            port: options.port.map_or_else(Port::reserve, |number| Ok(Port::alone(number)))?,
            dist_port: Port::reserve()?,
            epmd_port: Port::reserve()?,
            guard: Guard::new("broker")?,
        };
        broker.write_config(options)?;
        broker.launch_epmd()?;
        broker.restart()?;
        Ok(broker)
    }

    /// Returns the URL, by default `amqps://localhost:PORT/%2Fpubsub`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("amqps://{}:{}/%2Fpubsub", self.name, self.port())
    }

    /// Returns the AMQP port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Returns the CA that the broker trusts, and that signed its certificate.
    #[must_use]
    pub fn pki(&self) -> &Pki {
        &self.pki
    }

    /// Issues a certificate for the user `cn`.
    pub fn client(&self, cn: &str) -> Result<ClientCert> {
        self.pki.client(cn)
    }

    /// Runs `rabbitmqctl` and returns its output. Takes about a second.
    pub fn ctl(&self, args: &[&str]) -> Result<String> {
        output(self.script("rabbitmqctl").arg("-q").args(args)).with_context(|| args.join(" "))
    }

    /// Stops it cleanly, as `systemctl stop` does: it closes the connections of its clients.
    pub fn stop(&self) -> Result<()> {
        self.guard.stop(NODE, STOP_WITHIN).map(drop)
    }

    /// Kills it (SIGKILL). Data and port stay.
    pub fn kill(&self) -> Result<()> {
        self.guard.kill(NODE)
    }

    /// Freezes it (SIGSTOP) with its connections open.
    pub fn freeze(&self) -> Result<()> {
        self.guard.signal(NODE, Signal::Freeze)
    }

    /// Resumes it after [`Broker::freeze`].
    pub fn thaw(&self) -> Result<()> {
        self.guard.signal(NODE, Signal::Thaw)
    }

    /// Restricts it to these CPU cores.
    pub fn confine(&self, cores: &[usize]) -> Result<()> {
        self.guard.confine(NODE, cores)
    }

    /// Starts it after [`Broker::stop`] or [`Broker::kill`], with the same data on the same port,
    /// and waits until it accepts connections.
    pub fn restart(&self) -> Result<()> {
        self.guard.start(NODE, &self.script("rabbitmq-server"))?;
        self.guard.wait_ready(NODE, START_WITHIN, || self.port.answers())
    }

    /// Raises or clears the memory alarm. While it is on, the broker blocks publishers.
    pub fn set_memory_alarm(&self, on: bool) -> Result<()> {
        let watermark = if on { "0" } else { "0.4" };
        self.ctl(&["set_vm_memory_high_watermark", watermark]).map(drop)
    }

    /// Returns the broker's log.
    pub fn log(&self) -> Result<String> {
        let log = fs::read(self.guard.out(NODE)).context("no log")?;
        Ok(String::from_utf8_lossy(&log).into_owned())
    }

    /// Returns the guard of the processes, which can run an additional process.
    #[must_use]
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    fn path(&self, name: &str) -> PathBuf {
        self.guard.scratch().join(name)
    }

    /// Writes the differences from the shared configuration: paths, port, size limit and options.
    fn write_config(&self, options: &Options) -> Result<()> {
        let mut request = Request::server(&[]);
        request.cn = options.server_names.first().cloned().unwrap_or_default();
        request.names.clone_from(&options.server_names);
        let server = self.pki.issue(&request)?.write(self.guard.scratch(), "server")?;
        fs::create_dir(self.path("conf.d"))?;
        fs::create_dir(self.path("home"))?;
        fs::write(self.path("env.conf"), "")?;
        fs::write(self.path("advanced.config"), "[].\n")?;
        // RabbitMQ writes to this file when plugins change.
        let mut plugins = fs::read_to_string(testdata(PLUGINS))?;
        for plugin in &options.plugins {
            plugins = plugins.replace(']', &format!(",{plugin}]"));
        }
        fs::write(self.path("enabled_plugins"), plugins)?;
        let config = format!(
            "listeners.ssl.default = {}:{}\nmax_message_size = {MAX_MESSAGE_SIZE}\n\
             ssl_options.cacertfile = {}\nssl_options.certfile = {}\nssl_options.keyfile = {}\n\
             load_definitions = {}\nlog.file = false\nlog.console = true\nlog.console.use_colors = off\n{}\n",
            options.address,
            self.port(),
            server.ca.display(),
            server.cert.display(),
            server.key.display(),
            testdata(DEFINITIONS).display(),
            options.config
        );
        fs::write(self.path("conf.d/local.conf"), config)?;
        Ok(())
    }

    /// Starts Erlang's name server. Otherwise RabbitMQ starts one as a daemon that outlives it.
    fn launch_epmd(&self) -> Result<()> {
        let mut command = self.rabbitmq.epmd();
        let port = self.epmd_port.number().to_string();
        command.args(["-address", "127.0.0.1", "-port", &port]);
        self.guard.start(EPMD, &command)?;
        self.guard.wait_ready(EPMD, START_WITHIN, || self.epmd_port.answers())
    }

    /// Returns a command for one of RabbitMQ's scripts, with the environment of this node.
    fn script(&self, name: &str) -> Command {
        let mut command = self.rabbitmq.script(name);
        command
            .env("HOME", self.path("home"))
            .env("LANG", "C.UTF-8")
            .env("RABBITMQ_NODENAME", "rig@localhost")
            .env("RABBITMQ_CONF_ENV_FILE", self.path("env.conf"))
            .env("RABBITMQ_CONFIG_FILE", testdata(CONFIG))
            .env("RABBITMQ_CONFIG_FILES", self.path("conf.d"))
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", self.path("advanced.config"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", self.path("enabled_plugins"))
            .env("RABBITMQ_MNESIA_BASE", self.path("data"))
            .env("RABBITMQ_LOG_BASE", self.path("log"))
            .env("RABBITMQ_PID_FILE", self.path("rabbitmq.pid"))
            .env("RABBITMQ_DIST_PORT", self.dist_port.number().to_string())
            .env("ERL_EPMD_PORT", self.epmd_port.number().to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}");
        command
    }
}
