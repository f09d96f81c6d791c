//! The `lastgood` program.

use std::{process::ExitCode, time::Duration};

/// Two, however many processors the node has: the daemon mostly waits, and each thread keeps memory of its own.
const WORKERS: usize = 2;

fn main() -> ExitCode {
    // Before any client is built: reqwest and kube must find one crypto provider, and the same.
    // An error means that one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(lastgood::cli::main());
            // A file or a name server that hangs must not keep the process alive.
            runtime.shutdown_timeout(Duration::from_secs(2));
            code
        }
        Err(_) => ExitCode::FAILURE,
    }
}
