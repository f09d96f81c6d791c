//! The `lastgood` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before any client is built: reqwest and kube must find one crypto provider, and the same.
    // An error means that one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    lastgood::cli::main()
}
