//! Asks the daemon what it knows: at an address, else through the API server's proxy to its Service.

use super::{Context, Failure, Global, exit};
use crate::{cluster::READ_DEADLINE, domain::Snapshot, sources::Fault};
use futures::{AsyncBufRead, TryStreamExt};
use std::{io, pin::Pin, time::Duration};

/// Port of the daemon's Service.
const SERVICE: &str = "lastgood:http";
const SNAPSHOT: &str = "/api/v1/snapshot";
const OBSERVATIONS: &str = "/api/v1/observations";
const DEADLINE: Duration = Duration::from_secs(5);
const MAX_BYTES: usize = 64 << 20;
/// For an answer that goes on to begin: behind a proxy that may be with its first byte, a blank line after 20 s.
const FIRST_BYTE: Duration = Duration::from_secs(30);

/// The daemon's snapshot.
pub(super) async fn snapshot(ctx: &Context) -> Result<Snapshot, Failure> {
    let text = match &ctx.global.server {
        Some(url) => direct(url).await.map_err(|why| Failure::new(exit::ERROR, why))?,
        None => through_api_server(ctx).await?,
    };
    serde_json::from_str(&text).map_err(|e| {
        Failure::new(
            exit::ERROR,
            format!("the answer is not that of a Lastgood daemon: {e}. --server URL asks another"),
        )
    })
}

/// A client that goes straight to an address.
fn straight() -> reqwest::ClientBuilder {
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).connect_timeout(DEADLINE)
}

/// A page of the daemon at an address.
async fn page(client: reqwest::ClientBuilder, url: &str, path: &str) -> Result<reqwest::Response, String> {
    let unreachable = |e: reqwest::Error| unreachable(url, &e);
    let client = client.build().map_err(unreachable)?;
    let answer = client.get(format!("{}{path}", url.trim_end_matches('/'))).send().await.map_err(unreachable)?;
    answer.error_for_status().map_err(unreachable)
}

fn unreachable(url: &str, error: &reqwest::Error) -> String {
    let why = match error.status() {
        Some(status) => format!("it answers {status}"),
        None if error.is_builder() => "that is no URL; write http://HOST:PORT".to_owned(),
        None => Fault::from(error).to_string(),
    };
    format!("no daemon answers at {url}: {why}")
}

/// A page of the daemon behind its Service.
fn proxied(ctx: &Context, path: &str) -> Result<http::Request<Vec<u8>>, Failure> {
    let namespace = &ctx.global.daemon_namespace;
    http::Request::get(format!("/api/v1/namespaces/{namespace}/services/{SERVICE}/proxy{path}"))
        .body(Vec::new())
        .map_err(|e| Failure::new(exit::USAGE, format!("{namespace} is not a namespace: {e}")))
}

async fn direct(url: &str) -> Result<String, String> {
    let answer = page(straight().timeout(DEADLINE), url, SNAPSHOT).await?;
    if answer.content_length().is_some_and(|n| n > MAX_BYTES as u64) {
        return Err(format!("the answer from {url} is larger than {MAX_BYTES} bytes"));
    }
    answer.text().await.map_err(|e| unreachable(url, &e))
}

/// Everything that the daemon observes from now on, line by line, until it stops. A daemon that is named by its
/// address is asked without a cluster.
pub(super) async fn observations(global: Global) -> Result<Pin<Box<dyn AsyncBufRead>>, Failure> {
    let late = |_| Failure::new(exit::ERROR, format!("the daemon has not answered for {} s", FIRST_BYTE.as_secs()));
    if let Some(url) = &global.server {
        // No deadline on an answer that goes on; only until it begins.
        let page = tokio::time::timeout(FIRST_BYTE, page(straight(), url, OBSERVATIONS)).await.map_err(late)?;
        let answer = page.map_err(|why| Failure::new(exit::ERROR, why))?;
        let chunks = futures::stream::try_unfold(answer, |mut answer| async move {
            let chunk = answer.chunk().await.map_err(|e| io::Error::other(e.without_url()))?;
            Ok::<_, io::Error>(chunk.map(|chunk| (chunk, answer)))
        });
        return Ok(Box::pin(Box::pin(chunks).into_async_read()));
    }
    let ctx = Context::of(global).await?;
    let namespace = &ctx.global.daemon_namespace;
    // The client for reads, for the same reason.
    let stream = ctx.cluster.reader.request_stream(proxied(&ctx, OBSERVATIONS)?);
    let stream = tokio::time::timeout(FIRST_BYTE, stream).await.map_err(late)?.map_err(|e| {
        let text = format!("the daemon in namespace {namespace} cannot be asked: {e}. --server URL asks it directly");
        Failure::new(exit::ERROR, text)
    })?;
    Ok(Box::pin(stream))
}

async fn through_api_server(ctx: &Context) -> Result<String, Failure> {
    let namespace = &ctx.global.daemon_namespace;
    let request = proxied(ctx, SNAPSHOT)?;
    // Not the client that retries: 503 means that no daemon stands behind the Service.
    let why = match tokio::time::timeout(READ_DEADLINE, ctx.cluster.writer.request_text(request)).await {
        Ok(Ok(text)) => return Ok(text),
        // Not the daemon's fault.
        Ok(Err(kube::Error::Service(_) | kube::Error::HyperError(_))) => {
            let text = format!("the API server at {} cannot be reached", ctx.cluster.url);
            return Err(Failure::new(exit::ERROR, text));
        }
        Ok(Err(kube::Error::Api(status))) => format!("{} ({})", status.message, status.code),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer in time".into(),
    };
    let text = format!(
        "the daemon in namespace {namespace} cannot be asked: {why}. Is it installed (kubectl apply -k deploy/)? --server URL asks it directly"
    );
    Err(Failure::new(exit::ERROR, text))
}
