//! What the tests of all sources share: trials, and servers that misbehave on purpose.

use crate::domain::{Kind, Observation, PodId, PodTarget, Revision, Rules, TrialTarget, WorkloadId};
use axum::{Router, body::Bytes, extract::Request, response::Response};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A trial with the default rules and the pods `<name>-old-1` (Ready) and `<name>-new-1` (Ready).
pub(super) fn trial(namespace: &str, name: &str) -> TrialTarget {
    let pod = |suffix: &str, revision: &str| PodTarget {
        pod: PodId::new(namespace, format!("{name}-{suffix}")),
        revision: Revision::from(revision),
        address: None,
        ready: true,
        scrape: [].into(),
        port: None,
    };
    TrialTarget {
        workload: WorkloadId::new(namespace, Kind::Deployment, name),
        rules: Arc::new(Rules::default()),
        gone: Vec::new(),
        pods: vec![pod("old-1", "old"), pod("new-1", "new")],
    }
}

/// One request as a server saw it.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) path: String,
    pub(super) headers: axum::http::HeaderMap,
    pub(super) body: String,
}

impl Seen {
    /// A form parameter, decoded.
    pub(super) fn param(&self, name: &str) -> Option<String> {
        let url = reqwest::Url::parse(&format!("http://x/?{}", self.body)).unwrap();
        url.query_pairs().find(|(n, _)| n == name).map(|(_, v)| v.into_owned())
    }
}

/// A server on loopback, and all that it was asked.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) seen: Arc<Mutex<Vec<Seen>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Answers every request with what `answer` makes of it.
    pub(super) async fn new(answer: impl Fn(&Seen) -> Response + Clone + Send + Sync + 'static) -> Self {
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let log = Arc::clone(&seen);
        let app = Router::new().fallback(move |request: Request| {
            let (answer, log) = (answer.clone(), Arc::clone(&log));
            async move {
                let (parts, body) = request.into_parts();
                let body: Bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
                let path = parts.uri.path_and_query().unwrap().to_string();
                let body = String::from_utf8(body.to_vec()).unwrap();
                let seen = Seen { path, headers: parts.headers, body };
                let response = answer(&seen);
                log.lock().unwrap().push(seen);
                response
            }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, seen, task }
    }

    /// Takes the request and then writes these bytes; keeps the connection open without another word, or
    /// closes it.
    pub(super) async fn raw(bytes: &'static [u8], then_stall: bool) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::default();
        let task = tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut some = [0; 4096];
                let _ = stream.read(&mut some).await;
                let _ = stream.write_all(bytes).await;
                if then_stall {
                    open.push(stream);
                }
            }
        });
        Self { address, seen, task }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

/// An address on which nothing listens.
pub(super) async fn nobody() -> SocketAddr {
    tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// A response with a type.
pub(super) fn response(status: u16, media_type: &str, body: impl Into<axum::body::Body>) -> Response {
    Response::builder().status(status).header("content-type", media_type).body(body.into()).unwrap()
}

/// The closing observation of a reading.
pub(super) fn state(observed: &[crate::domain::Observed]) -> (bool, Option<String>) {
    match observed.last().map(|o| &o.what) {
        Some(Observation::Source { ok, reason, .. }) => (*ok, reason.clone()),
        other => panic!("a reading ends with the state of its source, not {other:?}"),
    }
}

/// An HTTPS server with a certificate of its own CA, which also demands a client certificate of that CA.
/// Answers every request with `answer`.
pub(super) struct TlsServer {
    pub(super) port: u16,
    /// PEM files: the CA, a client certificate and its key.
    pub(super) folder: tempfile::TempDir,
}

impl TlsServer {
    pub(super) fn new(answer: &'static str) -> Self {
        use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
        use std::io::{Read, Write};
        super::http::ensure_crypto();
        let folder = tempfile::tempdir().unwrap();
        let save = |name: &str, pem: String| std::fs::write(folder.path().join(name), pem).unwrap();
        let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let authority = ca.self_signed(&key).unwrap();
        save("ca.pem", authority.pem());
        let issuer = rcgen::Issuer::new(ca, key);
        let of = |name: &str| {
            let key = rcgen::KeyPair::generate().unwrap();
            (rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap(), key)
        };
        let (client, client_key) = of("client");
        save("client.pem", client.pem());
        save("client.key", client_key.serialize_pem());
        let (server, server_key) = of("localhost");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority.der().clone()).unwrap();
        let verifier = rustls::server::WebPkiClientVerifier::builder(roots.into()).build().unwrap();
        let key = PrivateKeyDer::from_pem_slice(server_key.serialize_pem().as_bytes()).unwrap();
        let config = rustls::ServerConfig::builder()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![server.der().clone()], key)
            .unwrap();
        let config = Arc::new(config);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let Ok(tls) = rustls::ServerConnection::new(Arc::clone(&config)) else { continue };
                let mut stream = rustls::StreamOwned::new(tls, stream);
                let mut request = [0; 8192];
                if stream.read(&mut request).is_ok() {
                    let _ = write!(
                        stream,
                        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}",
                        answer.len()
                    );
                    let _ = stream.flush();
                }
            }
        });
        Self { port, folder }
    }
}
