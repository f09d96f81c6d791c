//! How a Prometheus is reached: URL, credentials, TLS, deadline, caps, and what its status codes mean.

use super::envelope::{Series, parse};
use crate::{
    clock::{Clock, seconds},
    config::PrometheusSettings,
    sources::{
        error::SourceError,
        http::{Fault, builder, is_json, media_type, read_capped},
    },
};
use prometheus_http_query::{Client, Error as ClientError};
use reqwest::{
    Certificate, Identity, Response, Url,
    header::{AUTHORIZATION, DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
};
use std::{
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::timeout;

/// Most that the server's clock (its `Date` header) may differ from ours, seconds. Beyond it, "now" means
/// another time to the two of us (safety.md fault 40; ±90 s must still work: decision.md S50).
const CLOCK_TOLERANCE: f64 = 120.0;
/// Longest wait that a `Retry-After` can impose.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// Most points of one series that Prometheus gives out.
pub(super) const MOST_POINTS: f64 = 11_000.0;

/// A reachable Prometheus.
pub(super) struct Connection {
    settings: PrometheusSettings,
    base: Url,
    headers: HeaderMap,
    clock: Clock,
    /// The client and the digest of the TLS files that it was built from.
    built: Mutex<Option<(Vec<u8>, reqwest::Client)>>,
    /// Not asked before this time, because it said so.
    not_before: Mutex<f64>,
}

fn settings(text: impl Into<String>) -> SourceError {
    SourceError::Settings(text.into())
}

impl Connection {
    /// # Errors
    /// [`SourceError::Settings`]; the text never repeats a URL or a header's value, which may hold secrets.
    pub(super) fn new(given: &PrometheusSettings, clock: Clock) -> Result<Self, SourceError> {
        let base = Url::parse(given.url.trim().trim_end_matches('/')).map_err(|e| {
            settings(format!("sources.prometheus.url is not a URL ({e}); write http://prometheus.monitoring:9090"))
        })?;
        if !base.username().is_empty() || base.password().is_some() {
            return Err(settings(
                "sources.prometheus.url holds credentials; use bearerTokenFile, or username and passwordFile",
            ));
        }
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
            return Err(settings("sources.prometheus.url must begin with http:// or https:// and name a host"));
        }
        if base.query().is_some() || base.fragment().is_some() {
            return Err(settings("sources.prometheus.url must end with its path: no ? and no #"));
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &given.headers {
            let name: HeaderName =
                name.parse().map_err(|_| settings("sources.prometheus.headers has a name that is no HTTP header"))?;
            let mut value = HeaderValue::from_str(value)
                .map_err(|_| settings(format!("sources.prometheus.headers.{name} is no valid header value")))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        if given.bearer_token_file.is_some() && given.username.is_some() {
            return Err(settings("sources.prometheus has both bearerTokenFile and username; choose one"));
        }
        if given.cert_file.is_some() != given.key_file.is_some() {
            return Err(settings("sources.prometheus needs certFile and keyFile together"));
        }
        let connection = Self {
            settings: given.clone(),
            base,
            headers,
            clock,
            built: Mutex::default(),
            not_before: Mutex::new(f64::MIN),
        };
        connection.client()?;
        connection.authorization()?;
        Ok(connection)
    }

    /// Deadline of one query.
    pub(super) fn deadline(&self) -> Duration {
        self.settings.timeout
    }

    /// `host:port/path`, for people; a checked URL holds no secret.
    pub(super) fn place(&self) -> String {
        let port = self.base.port().map(|p| format!(":{p}")).unwrap_or_default();
        let path = self.base.path().trim_end_matches('/');
        format!("{}{port}{path}", self.base.host_str().unwrap_or(""))
    }

    /// The client; built anew when a mounted certificate changed.
    fn client(&self) -> Result<Client, SourceError> {
        let read = |path: &Path, what: &str| {
            std::fs::read(path).map_err(|e| settings(format!("cannot read the {what} {}: {e}", path.display())))
        };
        let ca = self.settings.ca_file.as_deref().map(|p| read(p, "CA bundle")).transpose()?;
        let mut identity = Vec::new();
        if let (Some(cert), Some(key)) = (&self.settings.cert_file, &self.settings.key_file) {
            identity = read(cert, "client certificate")?;
            identity.push(b'\n');
            let key = key.read().map_err(|e| settings(e.to_string()))?;
            identity.extend_from_slice(key.expose().as_bytes());
            identity.push(b'\n');
        }
        let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
        digest.update(ca.as_deref().unwrap_or_default());
        digest.update(&identity);
        let digest = digest.finish().as_ref().to_vec();

        let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        let client = match built.as_ref() {
            Some((of, client)) if *of == digest => client.clone(),
            _ => {
                let mut builder = builder(Duration::from_secs(5), self.settings.timeout);
                if let Some(ca) = ca {
                    let certificates = Certificate::from_pem_bundle(&ca).unwrap_or_default();
                    if certificates.is_empty() {
                        return Err(settings("sources.prometheus.caFile holds no PEM certificate"));
                    }
                    builder = builder.tls_certs_only(certificates);
                } else if self.base.scheme() == "http" {
                    // Otherwise a machine without CA certificates could not even speak plain HTTP.
                    builder = builder.tls_certs_only([]);
                }
                if !identity.is_empty() {
                    let identity = Identity::from_pem(&identity).map_err(|_| {
                        settings("sources.prometheus: certFile and keyFile are no PEM certificate and key")
                    })?;
                    builder = builder.identity(identity);
                }
                let client = builder.build().map_err(|_| settings(Fault::Client.to_string()))?;
                *built = Some((digest, client.clone()));
                client
            }
        };
        drop(built);
        Client::from(client, self.base.as_str()).map_err(|_| settings("sources.prometheus.url is not a URL"))
    }

    /// The credentials, read at each use so that a rotated secret is taken up.
    fn authorization(&self) -> Result<Option<HeaderValue>, SourceError> {
        let read = |file: &crate::config::SecretFile| file.read().map_err(|e| settings(e.to_string()));
        let text = if let Some(file) = &self.settings.bearer_token_file {
            format!("Bearer {}", read(file)?.expose())
        } else if let Some(user) = &self.settings.username {
            let password = self.settings.password_file.as_ref().map(read).transpose()?;
            let pair = format!("{user}:{}", password.as_ref().map_or("", |p| p.expose()));
            format!("Basic {}", base64(pair.as_bytes()))
        } else {
            return Ok(None);
        };
        let mut value = HeaderValue::from_str(&text)
            .map_err(|_| settings("the credentials for Prometheus hold characters that no header can carry"))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    fn all_headers(&self) -> Result<HeaderMap, SourceError> {
        let mut headers = self.headers.clone();
        if let Some(value) = self.authorization()? {
            headers.insert(AUTHORIZATION, value);
        }
        Ok(headers)
    }

    /// An instant query at `t` (seconds since the epoch).
    pub(super) async fn instant(&self, expression: &str, t: f64) -> Result<Vec<Series>, SourceError> {
        self.may_ask()?;
        let mut query = self
            .client()?
            .query(expression)
            .query("time", format!("{t:.3}"))
            .timeout(self.milliseconds())
            .query("partial_response", "false")
            .query("deny_partial_response", "1");
        for (name, value) in &self.all_headers()? {
            query = query.header(name.clone(), value.clone());
        }
        let series = self.within_deadline(async { self.answer(query.post_raw().await).await }).await?;
        // A cache between us may answer for another time than was asked.
        match series.iter().flat_map(|s| &s.points).find(|(at, _)| (at - t).abs() > 2.0) {
            Some((at, _)) => {
                Err(SourceError::WrongTime(format!("the answer is {:.0} s off the time asked for", at - t)))
            }
            None => Ok(series),
        }
    }

    /// A range query; the step grows as needed to stay below the server's limit of points.
    pub(super) async fn range(
        &self,
        expression: &str,
        from: f64,
        to: f64,
        step: Duration,
    ) -> Result<Vec<Series>, SourceError> {
        self.may_ask()?;
        let (start, end) = (from.ceil(), to.floor());
        let step = step.as_secs_f64().max(1.0).max(((end - start) / (MOST_POINTS - 1.0)).ceil());
        let mut query = self
            .client()?
            .query_range(expression, start as i64, end as i64, step)
            .timeout(self.milliseconds())
            .query("partial_response", "false")
            .query("deny_partial_response", "1");
        for (name, value) in &self.all_headers()? {
            query = query.header(name.clone(), value.clone());
        }
        let series = self.within_deadline(async { self.answer(query.post_raw().await).await }).await?;
        let outside = |at: f64| at < start - 2.0 || at > end + 2.0;
        if series.iter().flat_map(|s| &s.points).any(|(at, _)| outside(*at)) {
            return Err(SourceError::WrongTime("the answer has points outside the range asked for".into()));
        }
        Ok(series)
    }

    /// When the server started, seconds since the epoch, and its own time; `None` where the backend does
    /// not say (Thanos, Mimir, VictoriaMetrics).
    pub(super) async fn started(&self) -> Option<(f64, f64)> {
        let mut url = self.base.clone();
        url.set_path(&format!("{}/api/v1/status/runtimeinfo", self.base.path().trim_end_matches('/')));
        let client = self.client().ok()?;
        let request = client.inner().get(url).headers(self.all_headers().ok()?);
        let body = self.within_deadline(async {
            let response = request.send().await.map_err(|e| self.unreachable(Fault::from(&e)))?;
            let now = date(&response).unwrap_or_else(|| self.clock.now());
            let body = read_capped(response, 1 << 20).await.map_err(|fault| self.unreachable(fault))?;
            Ok((now, body))
        });
        let (now, body) = body.await.ok()?;
        let info: serde_json::Value = serde_json::from_slice(&body).ok()?;
        let start: jiff::Timestamp = info.pointer("/data/startTime")?.as_str()?.parse().ok()?;
        Some((seconds(start), now))
    }

    fn milliseconds(&self) -> i64 {
        i64::try_from(self.settings.timeout.as_millis()).unwrap_or(i64::MAX).max(1)
    }

    async fn within_deadline<T>(&self, work: impl Future<Output = Result<T, SourceError>>) -> Result<T, SourceError> {
        timeout(self.settings.timeout, work).await.unwrap_or(Err(SourceError::Deadline(self.settings.timeout)))
    }

    fn may_ask(&self) -> Result<(), SourceError> {
        let wait = *self.not_before.lock().unwrap_or_else(PoisonError::into_inner) - self.clock.now();
        match Duration::try_from_secs_f64(wait) {
            Ok(wait) if !wait.is_zero() => Err(SourceError::RateLimited { wait }),
            _ => Ok(()),
        }
    }

    fn unreachable(&self, fault: Fault) -> SourceError {
        match fault {
            Fault::Timeout => SourceError::Deadline(self.settings.timeout),
            Fault::TooLarge => SourceError::TooLarge(self.settings.max_bytes),
            fault => SourceError::Unreachable { host: self.place(), fault },
        }
    }

    /// What a raw answer means.
    async fn answer(&self, sent: Result<Response, ClientError>) -> Result<Vec<Series>, SourceError> {
        let response = sent.map_err(|e| match e {
            ClientError::Client(e) => self.unreachable(e.inner().map_or(Fault::Broken, Fault::from)),
            // The crate's other errors come from decoding and from URLs, which it does not do here.
            _ => self.unreachable(Fault::Broken),
        })?;
        let (status, media) = (response.status(), media_type(&response));
        if status == 429 {
            let asked = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()?.trim().parse::<u64>().ok());
            let wait = Duration::from_secs(asked.unwrap_or(30)).min(LONGEST_WAIT);
            *self.not_before.lock().unwrap_or_else(PoisonError::into_inner) = self.clock.now() + wait.as_secs_f64();
            return Err(SourceError::RateLimited { wait });
        }
        if let Some(hint) = refusal(status.as_u16()) {
            return Err(SourceError::Status { status: status.as_u16(), hint });
        }
        if let Some(off) = date(&response).map(|d| d - self.clock.now()).filter(|off| off.abs() > CLOCK_TOLERANCE) {
            let side = if off > 0.0 { "ahead of" } else { "behind" };
            return Err(SourceError::WrongTime(format!("the server's clock is {:.0} s {side} ours", off.abs())));
        }
        if !is_json(&media) {
            return Err(if status.is_success() {
                let what = if media.is_empty() {
                    "an answer without a type".into()
                } else {
                    crate::sources::error::one_line(&media)
                };
                SourceError::NotPrometheus(format!("it answers {what}, not JSON (a login page? a wrong path?)"))
            } else {
                SourceError::Status { status: status.as_u16(), hint: "the server or a proxy before it is in trouble" }
            });
        }
        let body = read_capped(response, self.settings.max_bytes).await.map_err(|fault| self.unreachable(fault))?;
        let parsed = parse(&body, self.settings.max_series);
        if status.is_success() || matches!(parsed, Err(SourceError::Query { .. })) {
            return parsed;
        }
        Err(SourceError::Status { status: status.as_u16(), hint: "the server or a proxy before it is in trouble" })
    }
}

/// What a status says that needs no reading of the body.
fn refusal(status: u16) -> Option<&'static str> {
    match status {
        300..=399 => Some("it redirects, which is not followed; perhaps to a login page"),
        401 => Some("the credentials are missing or wrong, or a tenant header (X-Scope-OrgID) is missing"),
        403 => Some("the credentials or the tenant may not query"),
        404 => Some("there is no Prometheus API at this URL; wrong path or tenant?"),
        _ => None,
    }
}

/// The server's own time.
fn date(response: &Response) -> Option<f64> {
    let text = response.headers().get(DATE)?.to_str().ok()?;
    Some(seconds(jiff::fmt::rfc2822::parse(text).ok()?.timestamp()))
}

/// RFC 4648, for basic authentication.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let group = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let digit = DIGITS[(group >> (18 - 6 * place) & 63) as usize];
            out.push(if place > chunk.len() { '=' } else { char::from(digit) });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_of_rfc_4648() {
        for (plain, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE=")]
        {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }
}
