//! What pods answer: `/metrics` in Prometheus' text format, `/health`, `/version`, and everything else.

use super::{
    behaviour::BOUNDS,
    kubelet::Life,
    object::{list, number},
    resource::{Key, Resource},
    traffic::endpoints,
    world::World,
};
use crate::wire::Lost;
use http::{HeaderValue, Method, Response, StatusCode, header::CONTENT_TYPE};
use std::{fmt::Write, net::SocketAddr};

/// A histogram that Go programs have.
const DURATION: &str = "http_request_duration_seconds";

/// A request, as far as pods care.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// GET, …
    pub method: &'a Method,
    /// Without query.
    pub path: &'a str,
}

/// The answer of whoever listens at an address.
///
/// # Errors
/// When nobody does.
pub fn respond(world: &World, address: SocketAddr, ask: Ask<'_>) -> Result<Response<Vec<u8>>, Lost> {
    world.kubelet().at(address).map(|life| answer(world, life, ask)).ok_or(Lost::Refused)
}

/// The answer of a pod behind a name: `<service>.<namespace>.svc.<domain>`. `turn` chooses among the endpoints.
///
/// # Errors
/// When there is no such Service, or nobody behind it.
pub fn respond_as_service(
    world: &World,
    (host, port): (&str, u16),
    turn: u64,
    ask: Ask<'_>,
) -> Result<Response<Vec<u8>>, Lost> {
    let mut labels = host.split('.');
    let (Some(name), Some(namespace), Some("svc")) = (labels.next(), labels.next(), labels.next()) else {
        return Err(Lost::NoName);
    };
    let key = Key::new(Resource::Services, namespace, name);
    let service = world.store.get(&key).ok_or(Lost::NoName)?;
    // Behind any other port of the Service's address nobody listens.
    if !list(service, "/spec/ports").any(|open| number(open, "/port") == Some(i64::from(port))) {
        return Err(Lost::Refused);
    }
    let pods = endpoints(&world.store, &key);
    let pod = pods.get(usize::try_from(turn).unwrap_or(0) % pods.len().max(1)).ok_or(Lost::Refused)?;
    let life = world.kubelet().pod(pod).filter(|life| life.serves()).ok_or(Lost::Refused)?;
    Ok(answer(world, life, ask))
}

fn answer(world: &World, life: &Life, ask: Ask<'_>) -> Response<Vec<u8>> {
    if !matches!(*ask.method, Method::GET | Method::HEAD) {
        return response(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET\n".into());
    }
    match ask.path {
        "/metrics" => response(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", metrics(world, life)),
        "/health" | "/healthz" | "/readyz" => {
            let (code, word) = match life.behaviour.healthy && life.is_ready() {
                true => (StatusCode::OK, "pass"),
                false => (StatusCode::SERVICE_UNAVAILABLE, "fail"),
            };
            response(code, "application/health+json", format!("{{\"status\":\"{word}\"}}\n"))
        }
        "/version" => {
            let body = serde_json::json!({"image": life.image, "pod": life.key.name}).to_string();
            response(StatusCode::OK, "application/json", body + "\n")
        }
        _ => response(StatusCode::NOT_FOUND, "text/plain", "not found\n".into()),
    }
}

fn response(code: StatusCode, kind: &'static str, body: String) -> Response<Vec<u8>> {
    let mut response = Response::new(body.into_bytes());
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn metrics(world: &World, life: &Life) -> String {
    let served = &life.served;
    let mut text = String::with_capacity(2048);
    // Writing to a String cannot fail.
    let _ = write_metrics(&mut text, served, life.behaviour.memory_at(life.age(world.store.now())));
    text
}

fn write_metrics(out: &mut String, served: &super::kubelet::Served, memory: f64) -> std::fmt::Result {
    writeln!(out, "# HELP http_requests_total Requests answered.\n# TYPE http_requests_total counter")?;
    // As with promhttp, a code that never occurred has no series.
    for (code, count) in &served.codes {
        writeln!(out, "http_requests_total{{code=\"{code}\",method=\"get\"}} {count}")?;
    }
    writeln!(out, "# HELP {DURATION} Time to answer.\n# TYPE {DURATION} histogram")?;
    let mut total = 0;
    for (at, count) in served.buckets.iter().enumerate() {
        total += count;
        let bound = BOUNDS.get(at).map_or("+Inf".to_owned(), f64::to_string);
        writeln!(out, "{DURATION}_bucket{{method=\"get\",le=\"{bound}\"}} {total}")?;
    }
    writeln!(out, "{DURATION}_sum{{method=\"get\"}} {}\n{DURATION}_count{{method=\"get\"}} {total}", served.seconds)?;
    let memory = (memory * 1_048_576.0).round();
    writeln!(out, "# HELP process_resident_memory_bytes Memory.\n# TYPE process_resident_memory_bytes gauge")?;
    writeln!(out, "process_resident_memory_bytes {memory}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::kubelet::Served;

    #[test]
    fn metrics_are_cumulative_and_a_code_that_never_came_has_no_series() {
        let mut served = Served { seconds: 1.5, ..Served::default() };
        served.codes.insert(200, 7);
        (served.buckets[0], served.buckets[2], served.buckets[11]) = (4, 2, 1);
        let mut text = String::new();
        write_metrics(&mut text, &served, 64.0).expect("written");
        for line in [
            "http_requests_total{code=\"200\",method=\"get\"} 7",
            "http_request_duration_seconds_bucket{method=\"get\",le=\"0.005\"} 4",
            "http_request_duration_seconds_bucket{method=\"get\",le=\"0.01\"} 4",
            "http_request_duration_seconds_bucket{method=\"get\",le=\"0.025\"} 6",
            "http_request_duration_seconds_bucket{method=\"get\",le=\"+Inf\"} 7",
            "http_request_duration_seconds_sum{method=\"get\"} 1.5",
            "http_request_duration_seconds_count{method=\"get\"} 7",
            "process_resident_memory_bytes 67108864",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
        assert!(!text.contains("code=\"500\""));
    }
}
