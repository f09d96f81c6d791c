//! The HTTP server of one pod.
use super::{Behaviour, World, metrics::Metrics};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// What one container answers from.
pub(super) struct App {
    pub(super) world: Arc<World>,
    pub(super) namespace: String,
    pub(super) image: String,
    pub(super) behaviour: Behaviour,
    pub(super) ready: AtomicBool,
    metrics: Metrics,
    random: AtomicU64,
}

impl App {
    pub(super) fn new(world: Arc<World>, namespace: &str, image: &str, behaviour: Behaviour, seed: u64) -> Self {
        Self {
            world,
            namespace: namespace.to_owned(),
            image: image.to_owned(),
            behaviour,
            ready: AtomicBool::new(false),
            metrics: Metrics::default(),
            random: AtomicU64::new(seed),
        }
    }

    fn behaviour(&self) -> Behaviour {
        self.world.of_running_pod(&self.namespace, &self.image).unwrap_or(self.behaviour)
    }

    /// Uniform in [0, 1): splitmix64, seeded by the pod's address.
    fn random(&self) -> f64 {
        let mut z = self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        f64::from(u32::try_from((z ^ (z >> 31)) >> 32).unwrap_or(0)) / f64::from(u32::MAX)
    }

    async fn answer(&self, path: &str) -> (u16, &'static str, String) {
        match path {
            "/metrics" => (200, "text/plain; version=0.0.4; charset=utf-8", self.metrics.text(&self.image)),
            "/version" => (200, "text/plain", self.image.clone()),
            "/health" | "/healthz" => {
                let healthy = self.behaviour().healthy;
                let well = healthy && self.ready.load(Ordering::Relaxed);
                if !healthy {
                    self.world.note_harm(&self.namespace);
                }
                if well { (200, "text/plain", "ok".into()) } else { (503, "text/plain", "unhealthy".into()) }
            }
            _ => self.work().await,
        }
    }

    async fn work(&self) -> (u16, &'static str, String) {
        let behaviour = self.behaviour();
        // About log-normal: median 20 ms, 95th percentile near 45 ms.
        let spread: f64 = (0..4).map(|_| self.random() - 0.5).sum::<f64>();
        let took = Duration::from_secs_f64(0.020 * (spread * 0.85).exp() * behaviour.slow);
        tokio::time::sleep(took).await;
        let failed = self.random() < behaviour.errors;
        if failed || behaviour.slow > 1.0 {
            self.world.note_harm(&self.namespace);
        }
        self.metrics.count(failed, took);
        if failed { (500, "text/plain", "failed".into()) } else { (200, "text/plain", "hello".into()) }
    }
}

/// Serves until it is dropped; dropping closes every connection.
pub(super) async fn serve(app: Arc<App>, address: SocketAddr) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    let app = app.clone();
                    connections.spawn(async move { let _ = connection(&app, stream).await; });
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// HTTP/1.1 as far as a scraper, a prober and the load need it: GET, keep-alive, no bodies.
async fn connection(app: &App, stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let path = line.split_whitespace().nth(1).unwrap_or("/").split('?').next().unwrap_or("/").to_owned();
        let mut close = line.contains("HTTP/1.0");
        loop {
            let mut header = String::new();
            if stream.read_line(&mut header).await? <= 2 {
                break;
            }
            close |= header.to_ascii_lowercase().starts_with("connection: close");
        }
        let (code, kind, body) = app.answer(&path).await;
        let reason = if code == 200 { "OK" } else { "Error" };
        let then = if close { "close" } else { "keep-alive" };
        let head = format!(
            "HTTP/1.1 {code} {reason}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: {then}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).await?;
        if close {
            return stream.shutdown().await;
        }
    }
}
