//! The command line: data on stdout, chatter on stderr, exit codes that a script can use.

mod backtest;
mod bench;
pub mod config;
mod daemon;
mod demo;
mod explain;
mod get;
mod history;
mod incident;
mod pause;
mod record;
mod replay;
mod resolve;
mod run;
mod status;
pub mod style;
mod undo;

use crate::cluster::{Cluster, ClusterOptions, connect};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};
use style::Style;
use tokio::runtime;

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
    /// Nobody reads the output any more; what a shell says of a program that ended so.
    pub const CLOSED: u8 = 141;
}

const CODES: &str = "Exit codes: 0 ok, 1 error, 2 usage, 3 unhealthy verdict, 4 rolled back, 5 refused by a gate or rule, \
6 nothing can be told, 124 timeout.";

/// The automatic-rollback watchdog for Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "lastgood", version, about, after_help = CODES, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Which cluster, as whom.
#[derive(Debug, Clone, Args)]
struct ClusterArgs {
    /// The kubeconfig file; else KUBECONFIG, ~/.kube/config, or the pod's service account.
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig to use.
    #[arg(long, global = true)]
    context: Option<String>,
}

impl ClusterArgs {
    fn options(&self) -> ClusterOptions {
        ClusterOptions { kubeconfig: self.kubeconfig.clone(), context: self.context.clone(), namespaces: Vec::new() }
    }
}

/// What every command that talks to a cluster has.
#[derive(Debug, Args)]
struct Global {
    #[command(flatten)]
    cluster: ClusterArgs,
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

/// A command's own arguments, and those that all have.
#[derive(Debug, Args)]
struct With<T: Args> {
    #[command(flatten)]
    args: T,
    #[command(flatten)]
    global: Global,
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
    /// See it work on a simulated cluster: no cluster, no Prometheus, nothing to install.
    Demo(demo::DemoArgs),
    /// List workloads, their verdicts and what may be done about them.
    Get(With<get::GetArgs>),
    /// Say why: the verdict, the measurements behind it, and what would be done.
    Explain(With<resolve::WorkloadArg>),
    /// List the revisions of a workload: which are known good, which known bad.
    History(With<resolve::WorkloadArg>),
    /// Put a workload back to its last good revision, or to one you choose.
    Undo(With<undo::UndoArgs>),
    /// Tell how a rollout stands; with --wait, until it is decided.
    Status(With<status::StatusArgs>),
    /// Tell Lastgood to leave something alone.
    Pause(With<pause::PauseArgs>),
    /// End a pause.
    Resume(With<pause::ResumeArgs>),
    /// Incidents: what was bad and what was done about it.
    Incident(With<incident::IncidentArgs>),
    /// Check, show and explain the configuration.
    Config(config::ConfigArgs),
    /// Write down what the daemon observes, as a trace for `replay`.
    Record(With<record::RecordArgs>),
    /// Judge a recorded trace, or the history of a Prometheus, by today's thresholds, on a virtual clock.
    Replay(replay::ReplayArgs),
    /// Measure the decision, and the rules that people use today, on generated rollouts.
    Bench(bench::BenchArgs),
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

impl<E: std::error::Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let any: &(dyn std::error::Error + 'static) = &error;
        let io = any.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        let json = || any.downcast_ref::<serde_json::Error>().and_then(serde_json::Error::io_error_kind);
        match io.or_else(json) {
            // Whoever reads has seen enough (`… | head`): there is nobody to say anything to.
            Some(std::io::ErrorKind::BrokenPipe) => Self::new(exit::CLOSED, ""),
            _ => Self::new(exit::ERROR, error.to_string()),
        }
    }
}

/// What a command needs of its surroundings.
struct Context {
    cluster: Cluster,
    global: Global,
    style: Style,
}

impl Context {
    async fn of(global: Global) -> Result<Self, Failure> {
        let cluster = connect(&global.cluster.options()).await?;
        let style = if global.no_color { Style::of_stdout().without_colour() } else { Style::of_stdout() };
        Ok(Self { cluster, global, style })
    }

    fn namespace(&self) -> &str {
        self.global.namespace.as_deref().unwrap_or(&self.cluster.default_namespace)
    }
}

/// Two, however many processors the node has: the daemon mostly waits, and each thread keeps memory of its own.
const WORKERS: usize = 2;

/// Parses the command line, runs the command, and says what went wrong in the last line.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match &cli.command {
        // Time that leaps from one thing that is due to the next.
        Command::Demo(args) if args.fast => {
            runtime::Builder::new_current_thread().enable_all().start_paused(true).build()
        }
        _ => runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build(),
    };
    let done = runtime.map_err(Failure::from).and_then(|runtime| {
        let done = runtime.block_on(command(cli, &mut std::io::stdout()));
        // A file or a name server that hangs must not keep the process alive.
        runtime.shutdown_timeout(Duration::from_secs(2));
        done
    });
    match done {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            if !failure.text.is_empty() {
                // A closed stderr is no reason to fail differently.
                let _ = writeln!(std::io::stderr(), "lastgood: {}", failure.text);
            }
            ExitCode::from(failure.code)
        }
    }
}

async fn command(cli: Cli, out: &mut dyn Write) -> Result<u8, Failure> {
    match cli.command {
        Command::Run(args) => run::run(args).await,
        Command::Demo(args) => Box::pin(demo::demo(&args, out)).await,
        Command::Config(args) => Ok(config::run(&args, config::process_environment(), out, &mut std::io::stderr())?),
        Command::Bench(args) => bench::bench(&args, out),
        Command::Record(with) => record::record(with.global, &with.args, out).await,
        Command::Replay(args) => Box::pin(replay::replay(&args, out, &mut std::io::stderr())).await,
        Command::Schema => Ok(config::schema(out)?),
        Command::Get(with) => get::get(&Context::of(with.global).await?, &with.args, out).await,
        Command::Explain(with) => explain::explain(&Context::of(with.global).await?, &with.args, out).await,
        Command::History(with) => history::history(&Context::of(with.global).await?, &with.args, out).await,
        Command::Undo(with) => Box::pin(undo::undo(&Context::of(with.global).await?, &with.args, out)).await,
        Command::Status(with) => status::status(&Context::of(with.global).await?, &with.args, out).await,
        Command::Pause(with) => pause::pause(&Context::of(with.global).await?, &with.args, out).await,
        Command::Resume(with) => pause::resume(&Context::of(with.global).await?, &with.args, out).await,
        Command::Incident(with) => incident::incident(&Context::of(with.global).await?, with.args, out).await,
    }
}

fn cannot_write(path: &Path, e: &std::io::Error) -> Failure {
    Failure::new(exit::ERROR, format!("cannot write {}: {e}", path.display()))
}

/// A file that can be written; what it holds stays. Said before there is anything to lose.
fn writable(path: &Path) -> Result<File, Failure> {
    File::options().append(true).create(true).open(path).map_err(|e| cannot_write(path, &e))
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
