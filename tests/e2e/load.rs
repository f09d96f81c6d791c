//! The load: users of a Service, at a fixed rate, for a bounded time.
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

/// No story, and hardly a soak, is longer than this; a forgotten load ends by itself.
const LONGEST: Duration = Duration::from_secs(3 * 60 * 60);
/// Requests in flight; beyond that, users give up (and are counted as refused).
const IN_FLIGHT: usize = 100;

/// What the users of one Service have seen.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) ok: AtomicU64,
    /// Answered, but not with 200.
    pub(crate) failed: AtomicU64,
    /// Not answered: refused, cut off, or later than 5 s.
    pub(crate) refused: AtomicU64,
}

impl Seen {
    pub(crate) fn total(&self) -> u64 {
        self.ok.load(Ordering::Relaxed) + self.failed.load(Ordering::Relaxed) + self.refused.load(Ordering::Relaxed)
    }

    pub(crate) fn text(&self) -> String {
        let get = |c: &AtomicU64| c.load(Ordering::Relaxed);
        format!("{} ok, {} failed, {} refused", get(&self.ok), get(&self.failed), get(&self.refused))
    }
}

/// A running load; dropping it stops it.
pub(crate) struct Load {
    pub(crate) seen: Arc<Seen>,
    task: JoinHandle<()>,
}

impl Drop for Load {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Load {
    /// Starts `per_second` requests a second to `to`.
    pub(crate) fn start(to: SocketAddr, per_second: u32) -> Self {
        let seen = Arc::new(Seen::default());
        let task = tokio::spawn(generate(to, per_second.clamp(1, 200), seen.clone()));
        Self { seen, task }
    }
}

async fn generate(to: SocketAddr, per_second: u32, seen: Arc<Seen>) {
    let mut tick = interval(Duration::from_secs(1) / per_second);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let end = Instant::now() + LONGEST;
    let free = Arc::new(Semaphore::new(IN_FLIGHT));
    while tick.tick().await < end {
        let seen = seen.clone();
        let Ok(permit) = free.clone().try_acquire_owned() else {
            seen.refused.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        tokio::spawn(async move {
            let counter = match timeout(Duration::from_secs(5), request(to)).await {
                Ok(Ok(200)) => &seen.ok,
                Ok(Ok(_)) => &seen.failed,
                Ok(Err(_)) | Err(_) => &seen.refused,
            };
            counter.fetch_add(1, Ordering::Relaxed);
            drop(permit);
        });
    }
}

async fn request(to: SocketAddr) -> std::io::Result<u16> {
    let mut stream = TcpStream::connect(to).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n").await?;
    let mut answer = Vec::with_capacity(256);
    stream.take(4096).read_to_end(&mut answer).await?;
    let text = String::from_utf8_lossy(&answer);
    let code = text.split_whitespace().nth(1).and_then(|c| c.parse().ok());
    code.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::InvalidData))
}
