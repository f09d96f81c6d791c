//! The command line: data on stdout, chatter on stderr, exit codes that a script can use.

mod config;
mod daemon;
mod explain;
mod get;
mod history;
mod incident;
mod pause;
mod resolve;
mod run;
mod status;
pub mod style;
mod undo;

use crate::cluster::{Cluster, ClusterOptions, connect};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::{io::Write, path::PathBuf, process::ExitCode};

/// Exit codes (documented in `--help`).
pub mod exit {
    /// Fine.
    pub const OK: u8 = 0;
    /// An error.
    pub const ERROR: u8 = 1;
    /// Wrong usage.
    pub const USAGE: u8 = 2;
    /// The verdict is bad.
    pub const UNHEALTHY: u8 = 3;
    /// It was rolled back.
    pub const ROLLED_BACK: u8 = 4;
    /// A gate or a rule refuses.
    pub const REFUSED: u8 = 5;
    /// Nothing can be told: no data.
    pub const BLIND: u8 = 6;
    /// The time is over.
    pub const TIMEOUT: u8 = 124;
}

const CODES: &str = "Exit codes: 0 ok, 1 error, 2 usage, 3 unhealthy verdict, 4 rolled back, 5 refused by a gate or rule, \
6 nothing can be told, 124 timeout.";

/// The automatic-rollback watchdog for Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "lastgood", version, about, after_help = CODES, max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Global {
    /// The kubeconfig file; else KUBECONFIG, ~/.kube/config, or the pod's service account.
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig to use.
    #[arg(long, global = true)]
    context: Option<String>,
    /// The namespace; else that of the context.
    #[arg(short, long, global = true)]
    namespace: Option<String>,
    /// How to write the answer.
    #[arg(short, long, global = true, value_enum, default_value = "text")]
    output: Output,
    /// Address of the daemon's HTTP port; else it is asked through the API server.
    #[arg(long, global = true, value_name = "URL", env = "LASTGOOD_SERVER")]
    server: Option<String>,
    /// Namespace that the daemon runs in.
    #[arg(long, global = true, value_name = "NAMESPACE", env = "LASTGOOD_NAMESPACE", default_value = "lastgood")]
    daemon_namespace: String,
    /// Never use colour (NO_COLOR is heard too).
    #[arg(long, global = true)]
    no_color: bool,
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// For people, with more columns.
    Wide,
    /// For programs.
    Json,
    /// For programs, readable.
    Yaml,
    /// Names only.
    Name,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the watchdog.
    Run(run::RunArgs),
    /// List workloads, their verdicts and what may be done about them.
    Get(get::GetArgs),
    /// Say why: the verdict, the measurements behind it, and what would be done.
    Explain(resolve::WorkloadArg),
    /// List the revisions of a workload: which are known good, which known bad.
    History(resolve::WorkloadArg),
    /// Put a workload back to its last good revision, or to one you choose.
    Undo(undo::UndoArgs),
    /// Tell how a rollout stands; with --wait, until it is decided.
    Status(status::StatusArgs),
    /// Tell Lastgood to leave something alone.
    Pause(pause::PauseArgs),
    /// End a pause.
    Resume(pause::ResumeArgs),
    /// Incidents: what was bad and what was done about it.
    #[command(subcommand)]
    Incident(incident::IncidentCommand),
    /// Check, show and explain the configuration.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Print the JSON Schema of thresholds.yaml.
    Schema,
}

/// An error of a command: what to say and with which code to end.
#[derive(Debug)]
struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    fn new(code: u8, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(exit::ERROR, error.to_string())
    }
}

/// What a command needs of its surroundings.
struct Context {
    cluster: Cluster,
    global: Global,
}

impl Context {
    fn namespace(&self) -> &str {
        self.global.namespace.as_deref().unwrap_or(&self.cluster.default_namespace)
    }
}

/// Parses the command line, runs the command, and says what went wrong in the last line.
pub async fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut out = std::io::stdout();
    match command(cli, &mut out).await {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            // A closed stderr is no reason to fail differently.
            let _ = writeln!(std::io::stderr(), "lastgood: {}", failure.text);
            ExitCode::from(failure.code)
        }
    }
}

async fn command(cli: Cli, out: &mut dyn Write) -> Result<u8, Failure> {
    let Cli { global, command } = cli;
    if global.no_color {
        style::never();
    }
    let options = ClusterOptions { kubeconfig: global.kubeconfig.clone(), context: global.context.clone() };
    match command {
        Command::Run(args) => return run::run(args, &options).await,
        Command::Config(command) => return config::command(command, out),
        Command::Schema => {
            writeln!(out, "{}", crate::config::schema_json())?;
            return Ok(exit::OK);
        }
        _ => {}
    }
    let cluster = connect(&options).await?;
    let ctx = Context { cluster, global };
    match command {
        Command::Get(args) => get::get(&ctx, args, out).await,
        Command::Explain(args) => explain::explain(&ctx, &args, out).await,
        Command::History(args) => history::history(&ctx, &args, out).await,
        Command::Undo(args) => undo::undo(&ctx, args, out).await,
        Command::Status(args) => status::status(&ctx, &args, out).await,
        Command::Pause(args) => pause::pause(&ctx, &args, out).await,
        Command::Resume(args) => pause::resume(&ctx, &args, out).await,
        Command::Incident(command) => incident::incident(&ctx, command, out).await,
        Command::Run(_) | Command::Config(_) | Command::Schema => Ok(exit::OK),
    }
}

/// Writes a value as JSON or YAML; `false` when the output is for people.
fn machine<T: serde::Serialize>(ctx: &Context, value: &T, out: &mut dyn Write) -> Result<bool, Failure> {
    match ctx.global.output {
        Output::Json => {
            serde_json::to_writer_pretty(&mut *out, value)?;
            writeln!(out)?;
            Ok(true)
        }
        Output::Yaml => {
            let text = serde_saphyr::to_string(value).map_err(|e| Failure::new(exit::ERROR, e.to_string()))?;
            write!(out, "{text}")?;
            Ok(true)
        }
        _ => Ok(false),
    }
}
