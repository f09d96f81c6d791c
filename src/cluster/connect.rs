//! Clients of the API server. Reading and writing have clients of their own: the one that writes
//! never retries by itself (a patch that landed but answered 504 must be looked up, not sent again).

use crate::telemetry::metrics;
use kube::{
    Client, Config,
    client::ClientBuilder,
    config::{KubeConfigOptions, Kubeconfig},
};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};

/// Deadline of one read.
pub const READ_DEADLINE: Duration = Duration::from_secs(15);
/// Deadline of one write.
pub const WRITE_DEADLINE: Duration = Duration::from_secs(8);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No kubeconfig and no pod environment.
    #[error("found no cluster to talk to: {0}. Give --kubeconfig FILE, set KUBECONFIG, or run inside a cluster")]
    NoConfig(String),
    /// The kubeconfig is there but cannot be used.
    #[error("cannot use the kubeconfig {path}: {why}")]
    BadConfig {
        /// Which file.
        path: String,
        /// Why.
        why: String,
    },
    /// The client could not be built.
    #[error("cannot build a client for {url}: {why}")]
    Client {
        /// The API server's address.
        url: String,
        /// Why.
        why: String,
    },
}

/// Which cluster, as whom.
#[derive(Debug, Clone, Default)]
pub struct ClusterOptions {
    /// A kubeconfig file; else `KUBECONFIG`, `~/.kube/config`, or the pod's own service account.
    pub kubeconfig: Option<PathBuf>,
    /// A context of that file.
    pub context: Option<String>,
    /// The namespaces to watch; empty for all.
    pub namespaces: Vec<String>,
}

/// A connection to one cluster.
#[derive(Clone)]
pub struct Cluster {
    /// For gets, lists and watches.
    pub reader: Client,
    /// For writes: no retries.
    pub writer: Client,
    /// The API server's address, for messages.
    pub url: String,
    /// When each watched resource last answered a watch request.
    pub contact: Contact,
    /// Namespace of the context or of the pod.
    pub default_namespace: String,
    /// The namespaces that are watched; empty for all.
    pub namespaces: Vec<String>,
}

/// Builds the clients. Reaches no server.
///
/// # Errors
/// Says what was tried and what to do.
pub async fn connect(options: &ClusterOptions) -> Result<Cluster, ConnectError> {
    let mut config = load(options).await?;
    config.connect_timeout = Some(Duration::from_secs(10));
    let url = config.cluster_url.to_string();
    let default_namespace = config.default_namespace.clone();
    let contact = Contact::default();
    let failed = |e: kube::Error| ConnectError::Client { url: url.clone(), why: e.to_string() };
    let layer = tower::layer::layer_fn({
        let contact = contact.clone();
        move |inner| Touching { inner, contact: contact.clone() }
    });
    let reader = ClientBuilder::try_from(config.clone()).map_err(failed)?.with_layer(&layer).build();
    config.default_retry = false;
    config.read_timeout = Some(WRITE_DEADLINE);
    config.reset_reader_on_write = true;
    let writer = ClientBuilder::try_from(config).map_err(failed)?.with_layer(&layer).build();
    Ok(Cluster { reader, writer, url, contact, default_namespace, namespaces: options.namespaces.clone() })
}

async fn load(options: &ClusterOptions) -> Result<Config, ConnectError> {
    let how = KubeConfigOptions { context: options.context.clone(), ..KubeConfigOptions::default() };
    let bad = |path: String, why: String| ConnectError::BadConfig { path, why };
    if let Some(path) = &options.kubeconfig {
        let name = path.display().to_string();
        let file = Kubeconfig::read_from(path).map_err(|e| bad(name.clone(), e.to_string()))?;
        return Config::from_custom_kubeconfig(file, &how).await.map_err(|e| bad(name, e.to_string()));
    }
    if options.context.is_some() {
        return Config::from_kubeconfig(&how).await.map_err(|e| bad("(default)".into(), e.to_string()));
    }
    Config::infer().await.map_err(|e| ConnectError::NoConfig(e.to_string()))
}

/// What the API server's answers tell besides their content: that something was refused, and when each resource last
/// answered a watch request. A healthy watch is renewed every
/// [`super::watch::WATCH_SECONDS`], so an older contact means that the watch is dead.
#[derive(Debug, Clone, Default)]
pub struct Contact {
    watches: Arc<Mutex<BTreeMap<String, Instant>>>,
    refused: Arc<Notify>,
}

impl Contact {
    /// Seconds since the last contact, by resource.
    pub fn staleness(&self) -> BTreeMap<String, f64> {
        let map = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        map.iter().map(|(resource, at)| (resource.clone(), at.elapsed().as_secs_f64())).collect()
    }

    fn touch(&self, path: &str) {
        let resource = path.rsplit('/').next().unwrap_or(path).to_owned();
        self.watches.lock().unwrap_or_else(PoisonError::into_inner).insert(resource, Instant::now());
    }

    /// Waits until a request is answered 403; one that was since the last call counts.
    pub async fn refused(&self) {
        self.refused.notified().await;
    }
}

/// The verb of a request, as audit logs say it.
fn verb(method: &http::Method, is_watch: bool) -> &'static str {
    match method.as_str() {
        "GET" if is_watch => "watch",
        "GET" => "get",
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "other",
    }
}

/// Counts requests, and notes each watch request that the API server accepted.
#[derive(Clone)]
struct Touching<S> {
    inner: S,
    contact: Contact,
}

impl<S, B, R> tower::Service<http::Request<B>> for Touching<S>
where
    S: tower::Service<http::Request<B>, Response = http::Response<R>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = futures::future::BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let is_watch = request.uri().query().is_some_and(|q| q.contains("watch=true"));
        let path = is_watch.then(|| request.uri().path().to_owned());
        let verb = verb(request.method(), is_watch);
        let contact = self.contact.clone();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            metrics::api_request(verb, answer.as_ref().map_or(0, |a| a.status().as_u16()));
            let answer = answer?;
            if answer.status() == http::StatusCode::FORBIDDEN {
                contact.refused.notify_one();
            }
            if let Some(path) = path.filter(|_| answer.status().is_success()) {
                contact.touch(&path);
            }
            Ok(answer)
        })
    }
}
