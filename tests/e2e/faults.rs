//! A proxy in front of Prometheus that can lie: one per story, so that no other story notices.
use crate::{
    fail::Result,
    http::{self, Asked},
    plane::prometheus,
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What the proxy does with an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Fault {
    /// Hands it on.
    #[default]
    None,
    /// Closes the connection.
    Down,
    /// 503.
    Unavailable,
    /// No series.
    Empty,
    /// Every value is NaN.
    Nan,
    /// Hands it on with a warning that it is partial.
    Partial,
    /// Is later than any deadline.
    Slow,
    /// An HTML login page with status 200.
    Html,
}

/// A running fault proxy; dropping it stops it.
pub(crate) struct FaultProxy {
    pub(crate) url: String,
    fault: Arc<Mutex<Fault>>,
    /// Queries that came through.
    pub(crate) queries: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FaultProxy {
    pub(crate) async fn start(http: reqwest::Client) -> Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let fault = Arc::new(Mutex::new(Fault::None));
        let queries = Arc::new(AtomicU64::new(0));
        let (now, count) = (fault.clone(), queries.clone());
        let task = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (http, now, count) = (http.clone(), now.clone(), count.clone());
                open.spawn(async move { drop(connection(stream, &http, &now, &count).await) });
                while open.try_join_next().is_some() {}
            }
        });
        Ok(Self { url, fault, queries, task })
    }

    pub(crate) fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }
}

async fn connection(
    stream: TcpStream,
    http: &reqwest::Client,
    fault: &Mutex<Fault>,
    queries: &AtomicU64,
) -> Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(asked) = http::read(&mut stream).await? {
        if asked.path.contains("/query") {
            queries.fetch_add(1, Ordering::Relaxed);
        }
        let now = *fault.lock().unwrap_or_else(PoisonError::into_inner);
        let (code, kind, body) = match now {
            Fault::Down => return Ok(()),
            Fault::Unavailable => (503, "text/plain", "Service Unavailable".to_owned()),
            Fault::Html => (200, "text/html", "<html><title>Sign in</title></html>".to_owned()),
            Fault::Slow => {
                tokio::time::sleep(Duration::from_secs(60)).await;
                return Ok(());
            }
            Fault::None | Fault::Empty | Fault::Nan | Fault::Partial => {
                let (code, text) = forward(http, asked).await?;
                (code, "application/json", distort(now, text))
            }
        };
        stream.write_all(&http::answer(code, "", kind, &body)).await?;
    }
    Ok(())
}

async fn forward(http: &reqwest::Client, asked: Asked) -> Result<(u16, String)> {
    let url = format!("{}{}", prometheus::URL, asked.path);
    let kind = asked.header("content-type").to_owned();
    let request = if asked.method == "POST" { http.post(url).body(asked.body) } else { http.get(url) };
    let request = if kind.is_empty() { request } else { request.header("content-type", kind) };
    let answer = request.send().await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

fn distort(fault: Fault, text: String) -> String {
    let Ok(mut body) = serde_json::from_str::<Value>(&text) else { return text };
    let is_query = body["data"]["result"].is_array();
    match fault {
        Fault::Empty if is_query => body["data"]["result"] = json!([]),
        Fault::Partial => body["warnings"] = json!(["PromQL: one store did not answer: results are partial"]),
        Fault::Nan if is_query => {
            for series in body["data"]["result"].as_array_mut().into_iter().flatten() {
                if let Some(sample) = series.get_mut("value") {
                    sample[1] = "NaN".into();
                }
                for sample in series.get_mut("values").and_then(Value::as_array_mut).into_iter().flatten() {
                    sample[1] = "NaN".into();
                }
            }
        }
        _ => return text,
    }
    body.to_string()
}
