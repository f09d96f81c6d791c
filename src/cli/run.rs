//! `lastgood run`.

use super::{ClusterArgs, Failure, config::ConfigLocation, exit};
use crate::{app, telemetry::log};
use clap::Args;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// Arguments of `run`.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    location: ConfigLocation,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(super) async fn run(args: RunArgs) -> Result<u8, Failure> {
    let loaded = args.location.load()?;
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
    app::run(loaded, &args.cluster.options(), stop).await?;
    Ok(exit::OK)
}
