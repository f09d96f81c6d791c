use super::*;
use crate::{
    domain::PodTarget,
    sources::testing::{Server, nobody, response, trial},
};
use std::{
    net::IpAddr,
    sync::atomic::{AtomicBool, Ordering},
};

const PAGE: &str = "# TYPE http_requests_total counter\n\
http_requests_total{code=\"200\"} 95\nhttp_requests_total{code=\"500\"} 5\nnot a line\n\
http_request_duration_seconds_bucket{le=\"0.10\"} 80\nhttp_request_duration_seconds_bucket{le=\"+Inf\"} 100\n\
process_resident_memory_bytes 2.5e+07\n";

fn scrape() -> Scrape {
    Scrape::new(&ScrapeSettings::default(), Clock::system(), Guard::Loopback, Wire::Network).unwrap()
}

fn at(pod: &mut PodTarget, address: std::net::SocketAddr) {
    pod.address = Some(address.ip());
    pod.scrape.insert("port".into(), address.port().to_string());
}

/// One trial whose two pods are at these addresses.
fn two(old: std::net::SocketAddr, new: std::net::SocketAddr) -> TrialTarget {
    let mut trial = trial("shop", "checkout");
    at(&mut trial.pods[0], old);
    at(&mut trial.pods[1], new);
    trial
}

#[tokio::test]
async fn sums_a_page_into_counters() {
    let server = Server::new(|_| response(200, "text/plain", PAGE)).await;
    let scrape = scrape();
    let mut trial = two(server.address, server.address);
    trial.pods.truncate(1);
    trial.pods[0].scrape.insert("path".into(), "/internal/metrics?all=1".into());
    let read = scrape.read_all(&[trial]).await;
    assert!(read.ok && read.reason.is_none(), "{read:?}");
    let latency = [(0.1, 80.0), (f64::INFINITY, 100.0)].into_iter().collect();
    let counts = Counts { requests: Some(100.0), errors: Some(5.0), latency: Some(latency) };
    let [Observed { what: Observation::Counters { pod, counts: found }, .. }, memory] = &read.observed[..] else {
        panic!("{read:?}")
    };
    assert_eq!(memory.what, Observation::Memory { pod: PodId::new("shop", "checkout-old-1"), bytes: 2.5e7 });
    assert_eq!((pod.to_string().as_str(), found), ("shop/checkout-old-1", &counts));
    assert_eq!(scrape.malformed(), 1);
    assert_eq!(server.seen()[0].path, "/internal/metrics?all=1");
    assert!(server.seen()[0].headers["accept"].to_str().unwrap().contains("version=0.0.4"));
}

#[tokio::test]
async fn what_a_pod_answers_instead_of_metrics_is_no_data() {
    for (status, media, body, why) in [
        (404, "text/plain", "", "1 × HTTP 404"),
        (500, "text/html", "<html>", "1 × HTTP 500"),
        (302, "text/plain", PAGE, "1 × HTTP 302"),
        (200, "text/html", "<html>login</html>", "no request metrics"),
        (200, "text/plain", "", "no request metrics"),
        (200, "text/plain", "http_requests_total NaN\nhttp_requests_total -1\n", "no request metrics"),
    ] {
        let server = Server::new(move |_| response(status, media, body)).await;
        let mut trial = two(server.address, server.address);
        trial.pods.truncate(1);
        let read = scrape().read_all(&[trial]).await;
        assert!(read.ok && read.observed.is_empty(), "{read:?}");
        let reason = read.reason.unwrap();
        assert!(reason.contains(why), "{reason}");
    }
}

#[tokio::test]
async fn ready_pods_that_do_not_answer_blind_the_read_and_others_do_not() {
    let server = Server::new(|_| response(200, "text/plain", PAGE)).await;
    let mut trial = two(server.address, nobody().await);
    let read = scrape().read_all(std::slice::from_ref(&trial)).await;
    assert!(!read.ok && read.observed.is_empty());
    let reason = read.reason.unwrap();
    assert!(reason.contains("only 1 of 2 Ready pods") && reason.contains("connection refused"), "{reason}");

    trial.pods[1].ready = false;
    let read = scrape().read_all(&[trial]).await;
    assert!(read.ok, "a pod that is not Ready says nothing about our sight: {read:?}");
    assert_eq!(read.observed.len(), 2, "its counters and its memory");
    assert!(read.reason.unwrap().contains("1 × connection refused"));
}

#[tokio::test(start_paused = true)]
async fn a_stalled_pod_ends_at_its_deadline() {
    let server = Server::raw(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\nhttp_requests_total 1\n", true).await;
    let mut trial = two(server.address, server.address);
    trial.pods.truncate(1);
    let read = scrape().read_all(&[trial]).await;
    assert!(!read.ok && read.reason.unwrap().contains("timeout"));
}

#[tokio::test]
async fn fault_10_an_endless_page_is_cut_and_the_next_read_works() {
    let endless = Arc::new(AtomicBool::new(true));
    let server = Server::new({
        let endless = Arc::clone(&endless);
        move |_| {
            if !endless.load(Ordering::Relaxed) {
                return response(200, "text/plain", PAGE);
            }
            let endless = futures::stream::repeat_with(|| Ok::<_, std::io::Error>("a 1\n".repeat(1 << 12)));
            response(200, "text/plain", axum::body::Body::from_stream(endless))
        }
    })
    .await;
    let mut trial = two(server.address, server.address);
    trial.pods.truncate(1);
    let (scrape, trials) = (scrape(), [trial]);
    let read = scrape.read_all(&trials).await;
    assert!(!read.ok && read.reason.unwrap().contains("too large"));
    endless.store(false, Ordering::Relaxed);
    assert!(scrape.read_all(&trials).await.ok);
}

#[tokio::test]
async fn forbidden_addresses_are_not_asked() {
    let server = Server::new(|_| response(200, "text/plain", PAGE)).await;
    let strict = Scrape::new(&ScrapeSettings::default(), Clock::system(), Guard::Strict, Wire::Network).unwrap();
    let read = strict.read_all(&[two(server.address, server.address)]).await;
    assert!(!read.ok && read.reason.unwrap().contains("127.0.0.1 is not allowed"));
    assert!(server.seen().is_empty());
}

#[test]
fn where_a_pod_is_scraped() {
    let mut trial = trial("shop", "checkout");
    let mut pod = trial.pods[0].clone();
    let url = |trial: &TrialTarget, pod: &PodTarget| place(trial, pod).map(|u| u.to_string());
    pod.port = Some(8080);
    assert_eq!(url(&trial, &pod), None, "no address");
    pod.address = Some(IpAddr::from([10, 0, 0, 7]));
    assert_eq!(url(&trial, &pod).unwrap(), "http://10.0.0.7:8080/metrics");
    let metrics = &mut Arc::make_mut(&mut trial.rules).metrics;
    (metrics.port, metrics.path) = (Some(9000), Some("/m".into()));
    assert_eq!(url(&trial, &pod).unwrap(), "http://10.0.0.7:9000/m");
    let with = |pairs: &[(&str, &str)]| {
        let mut pod = pod.clone();
        pod.scrape = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        url(&trial, &pod)
    };
    assert_eq!(with(&[("port", "9102"), ("path", "/x?y=1")]).unwrap(), "http://10.0.0.7:9102/x?y=1");
    // Nothing in an annotation moves the request to another host, and odd ones are left alone.
    assert_eq!(with(&[("path", "//evil.example/")]).unwrap(), "http://10.0.0.7:9000//evil.example/");
    for odd in [
        ("path", "@evil.example/"),
        ("path", "http://evil.example/"),
        ("path", ""),
        ("path", "/a\r\nHost: b"),
        ("port", "0"),
        ("port", "70000"),
        ("port", "80@evil"),
        ("port", ""),
        ("scrape", "False"),
        ("scheme", "https"),
    ] {
        assert_eq!(with(&[odd]), None, "{odd:?}");
    }
    pod.address = Some("fd12::7".parse().unwrap());
    assert_eq!(url(&trial, &pod).unwrap(), "http://[fd12::7]:9000/m");
}
