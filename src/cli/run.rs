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
    /// Folder with lastgood.yaml and thresholds.yaml, or a lastgood.yaml; else config/.
    #[arg(long, value_name = "DIR", env = "LASTGOOD_CONFIG")]
    config: Option<PathBuf>,
}

pub(super) async fn run(args: RunArgs, cluster: &ClusterOptions) -> Result<u8, Failure> {
    let loaded = Settings::load(args.config.as_deref(), std::env::vars())?;
    log::init(&loaded.settings.log)?;
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
    app::run(loaded, cluster, stop).await?;
    Ok(exit::OK)
}
