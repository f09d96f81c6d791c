//! `lastgood run`.

use super::{Failure, exit};
use crate::{app, cluster::ClusterOptions, config::Settings, telemetry::log};
use clap::Args;
use std::path::PathBuf;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// Arguments of `run`.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// Folder with lastgood.yaml and thresholds.yaml, or a lastgood.yaml.
    #[arg(long, value_name = "DIR", env = "LASTGOOD_CONFIG", default_value = "config")]
    config: PathBuf,
}

pub(super) async fn run(args: RunArgs, cluster: &ClusterOptions) -> Result<u8, Failure> {
    let environment: std::collections::BTreeMap<String, String> = std::env::vars().collect();
    let settings = Settings::load(&args.config, &environment)?;
    log::init(&settings.log)?;
    let folder = if args.config.is_dir() { args.config } else { args.config.parent().map(PathBuf::from).unwrap_or_default() };
    let (tx, stop) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        let _ = tx.send(true);
        // Whoever asks twice wants it now; what is open is taken up at the next start.
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        std::process::exit(i32::from(exit::ERROR));
    });
    app::run(settings, cluster, folder, stop).await?;
    Ok(exit::OK)
}
